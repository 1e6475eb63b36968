"""Reading connections: the list, and one of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import orjson
from aiohttp import web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.connections import representation
from mcp_discovery.facade.connections.responses import ConnectionDetails, ConnectionList
from mcp_discovery.facade.connections.statuses import (
    PROTOCOLS,
    STATUSES,
    healths_of,
    status_of,
    transports_of,
)
from mcp_discovery.facade.http.etag import tag_of, tagged
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import every, listed, once, one_of, whole
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.list_json import json_response
from mcp_discovery.facade.servers.paging import Cursor, Sort
from mcp_discovery.facade.state import Facade, facade_of
from mcp_discovery.query.query import Query

_TYPES = ("server", "client")


async def connections(request: web.Request) -> web.Response:
    """The connections that match the filters, whatever their status unless `status` says one.

    `limit` gives pages: `nextCursor`, where there is more, is the `cursor` of the next.
    """
    facade = facade_of(request)
    view = facade.view()
    found = _matching(request, view)
    limit, cursor_text = whole(request, "limit", least=1, most=1000), once(request, "cursor")
    filters = tag_of(
        sorted((key, value) for key, value in request.query.items() if key not in _PAGING)
    )
    page, following = found, None
    if limit is not None or cursor_text is not None:
        start, length = 0, limit or 100
        if cursor_text is not None:
            cursor = Cursor.decode(cursor_text, _SORT, filters)
            start, length = _SORT.after(found, cursor, {}), limit or cursor.limit
        page = found[start : start + length]
        if start + length < len(found):
            last = page[-1]
            key = _SORT.key(last, {}, view.as_of)
            following = Cursor(filters, view.as_of, key, last.id, length).encode()
    return _answer(request, facade, view, page, len(found), following)


async def connection(request: web.Request) -> web.Response:
    """One connection, with the descriptions and schemas of what it offers."""
    facade = facade_of(request)
    view = facade.view()
    entry = facade.entry(request.match_info["id"])
    document = await facade.documents.of_record(entry.record)
    body = representation.detailed(entry, document, facade.usage, view.as_of)
    return json_response(body | list_json.staleness(view), view)


def _matching(request: web.Request, view: View) -> list[Entry]:
    statuses = {one_of("status", each, STATUSES) for each in listed(request, "status")}
    protocols = {one_of("protocol", each, PROTOCOLS) for each in listed(request, "protocol")}
    types = {one_of("type", each, _TYPES) for each in listed(request, "type")}
    match = one_of("match", once(request, "match") or "any", ("any", "all"))
    query = Query(
        tags=map(str.lower, listed(request, "tags")),
        match=match,
        status=healths_of(statuses),
        name=listed(request, "name"),
        transport=transports_of(protocols),
    )
    wanted = set(every(request, "capability"))
    found = view.select(query, among=_able(view, wanted) if wanted else None)
    if statuses:
        found = [entry for entry in found if status_of(entry.health) in statuses]
    if types:
        found = [entry for entry in found if traits_of(entry.record).type in types]
    return found


def _able(view: View, capabilities: Iterable[str]) -> set[str]:
    """The ids of those with every one of ``capabilities``: one that they offer, a tag, or a word of
    their name, such as ``filesystem`` of ``filesystem-mcp``."""
    names = view.keys("name")
    able: set[str] | None = None
    for wanted in capabilities:
        by_word = (view.having("name", name) for name in names if wanted in name.split("-"))
        found = set(chain(*by_word, *(view.having(index, wanted) for index in _INDEXES)))
        able = found if able is None else able & found
    return able or set()


_INDEXES = ("capability", "tags")


def _answer(
    request: web.Request,
    facade: Facade,
    view: View,
    page: list[Entry],
    filtered: int,
    following: str | None,
) -> web.Response:
    now = view.as_of
    beside: dict[str, object] = {"total": len(view), "filtered": filtered}
    if following is not None:
        beside["nextCursor"] = following
    beside |= list_json.staleness(view)
    shown = [representation.listed(entry, facade.usage, now) for entry in page]
    # What changes with the clock alone does not change the entity tag.
    tag = tag_of(beside, [(e.digest.hex(), s["metrics"]) for e, s in zip(page, shown, strict=True)])
    return tagged(
        request,
        tag,
        lambda: orjson.dumps({"connections": shown} | beside),
        {list_json.REVISION: list_json.position(view)},
    )


_SORT = Sort()
_PAGING = frozenset({"limit", "cursor"})
_STRINGS = {"type": "array", "items": {"type": "string"}}


def _words(*allowed: str) -> dict[str, object]:
    return {"type": "array", "items": {"type": "string", "enum": list(allowed)}}


ID = Parameter("id", "The connection's id.", where="path")
OPERATIONS = (
    Operation(
        "GET",
        "/connections",
        connections,
        "connections",
        parameters=(
            Parameter("status", "One of these statuses.", _words(*STATUSES)),
            Parameter("type", "One of these types.", _words(*_TYPES)),
            Parameter("protocol", "One of these protocols.", _words(*PROTOCOLS)),
            Parameter(
                "capability",
                "That offer this tool, resource or prompt, or have it for a tag or a word of their "
                "name; all of them where it is repeated.",
                _STRINGS,
            ),
            Parameter("name", "One of these names.", _STRINGS),
            Parameter("tags", "Connections with these tags.", _STRINGS),
            Parameter(
                "match",
                "One of the tags, or all of them.",
                {"type": "string", "enum": ["any", "all"]},
            ),
            Parameter(
                "limit", "How many a page has.", {"type": "integer", "minimum": 1, "maximum": 1000}
            ),
            Parameter("cursor", "Where the page begins: `nextCursor` of the one before."),
        ),
        answers={200: ConnectionList, 304: None},
    ),
    Operation(
        "GET",
        "/connections/{id}",
        connection,
        "connections",
        parameters=(ID,),
        answers={200: ConnectionDetails},
        errors=(404,),
    ),
)
