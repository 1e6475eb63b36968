"""``GET /audit/export``: all events that a query finds, as lines of JSON or as a table (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from mcp_discovery.facade.access.audit.handlers import FILTERS, listed, query_of
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import once, one_of

#: How many events are read at once.
_AT_ONCE = 500
#: Column → where it stands in an event.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "time": ("time",),
    "eventType": ("eventType",),
    "userId": ("actor", "userId"),
    "by": ("actor", "by"),
    "address": ("actor", "address"),
    "operation": ("operation", "name"),
    "kind": ("target", "kind"),
    "name": ("target", "name"),
    "id": ("target", "id"),
    "tool": ("target", "tool"),
    "result": ("outcome", "result"),
    "status": ("outcome", "status"),
    "problem": ("outcome", "problem"),
    "error": ("outcome", "error"),
    "durationMs": ("outcome", "durationMs"),
    "requestId": ("requestId",),
    "eventId": ("eventId",),
}
#: What a spreadsheet takes for a formula at the beginning of a cell, in full width as well (OWASP,
#: CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def value_at(event: Mapping[str, Any], place: Iterable[str]) -> Any:
    """What stands at ``place`` in ``event``; ``""`` for nothing."""
    found: Any = event
    for name in place:
        found = found.get(name) if isinstance(found, Mapping) else None
    return "" if found is None else found


def _cell(value: Any) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _lines(events: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in events)


def _rows(events: Iterable[Mapping[str, Any]]) -> bytes:
    made = io.StringIO(newline="")
    table = csv.writer(made)
    for each in events:
        table.writerow(_cell(value_at(each, place)) for place in COLUMNS.values())
    return made.getvalue().encode()


_Made = Callable[[Iterable[Mapping[str, Any]]], bytes]
#: Format → media type, what it begins with, and how events are written.
_FORMATS: Mapping[str, tuple[str, bytes, _Made]] = {
    "ndjson": ("application/x-ndjson", b"", _lines),
    "csv": ("text/csv; charset=utf-8", f"{','.join(COLUMNS)}\r\n".encode(), _rows),
}


async def export(request: web.Request) -> web.StreamResponse:
    """All events that the filters of `GET /audit` select, newest first, as a file.

    `format` is `ndjson`, an event a line and the default, or `csv`, in which what a spreadsheet
    would take for a formula begins with an apostrophe. If the store goes away meanwhile, the
    connection is closed before the end.
    """
    chosen = once(request, "format")
    kind = "ndjson" if chosen is None else one_of("format", chosen, tuple(_FORMATS))
    media, head, made = _FORMATS[kind]
    query = replace(query_of(request), limit=_AT_ONCE)
    events, cursor = await listed(request, query)
    headers = {
        "Content-Type": media,
        "Content-Disposition": f'attachment; filename="audit.{kind}"',
        "Cache-Control": "no-store",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(head + made(events) or b"\n")
    while cursor is not None:
        events, cursor = await listed(request, replace(query, cursor=cursor))
        await response.write(made(events))
    await response.write_eof()
    return response


OPERATIONS = (
    Operation(
        "GET",
        "/audit/export",
        export,
        "audit",
        parameters=(
            *FILTERS,
            Parameter("format", "How.", {"type": "string", "enum": list(_FORMATS)}),
        ),
        answers={200: {"type": "string"}},
        errors=(404, 503),
        media="application/x-ndjson",
        needs="admin",
    ),
)
