"""The audit for people: what happened, filtered; one event whole; and the log verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from mcp_discovery.facade.access.audit.export import value_at
from mcp_discovery.facade.access.audit.handlers import FILTERS, listed, query_of
from mcp_discovery.facade.access.audit.query import AuditQuery
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.pages.tools import tool_path

#: The filters that the form shows at once; the others are in what unfolds.
_FIRST = ("from", "to", "userId", "name", "eventType", "outcome")
_LABELS = {
    "from": "From",
    "to": "To, not included",
    "userId": "Who",
    "name": "Server",
    "eventType": "Kind",
    "outcome": "Outcome",
    "operation": "Operation",
    "id": "Instance",
    "tool": "Tool",
    "address": "Address",
    "requestId": "Request",
    "eventId": "Event",
}
#: What is shown of an outcome, and the shape that it has there.
_MARKS = {"done": "healthy", "refused": "degraded", "failed": "down", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class FilterField:
    """A filter in the form: its parameter, what it is called, and what is chosen."""

    name: str
    label: str
    hint: str
    choices: tuple[str, ...]
    value: str
    first: bool


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event as a line of the list."""

    id: str
    time: str
    who: str
    address: str
    what: str
    kind: str
    target: str
    server: str
    tool: str
    result: str
    mark: str
    why: str

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> EventLine:
        """What the list shows of ``event``."""

        def at(*place: str) -> str:
            return str(value_at(event, place))

        result = at("outcome", "result")
        is_server = at("target", "kind") in ("server", "instance", "tool", "")
        return cls(
            id=at("eventId"),
            time=at("time"),
            who=at("actor", "userId") or at("actor", "by") or "the facade",
            address=at("actor", "address"),
            what=at("operation", "name") or at("eventType"),
            kind=at("eventType"),
            target=at("target", "id") or at("target", "name"),
            server=at("target", "name") if is_server else "",
            tool=at("target", "tool"),
            result=result,
            mark=_MARKS.get(result, "unknown"),
            why=at("outcome", "error") or at("outcome", "problem"),
        )


def _fields(request: web.Request) -> list[FilterField]:
    made = []
    for each in FILTERS:
        assert isinstance(each, Parameter)
        choices = tuple(each.schema.get("enum", ()))
        value = request.query.get(each.name, "")
        label, first = _LABELS[each.name], each.name in _FIRST
        made.append(FilterField(each.name, label, each.description, choices, value, first))
    order = {name: place for place, name in enumerate(_LABELS)}
    return sorted(made, key=lambda field: order[field.name])


async def audit(request: web.Request) -> web.Response:
    """What happened, newest first, with the filters of `GET /audit`, for people."""
    fields = _fields(request)
    given = {each.name: each.value for each in fields if each.value}
    # A form sends all its fields; what is empty is not asked for. A page has one length.
    asked = request.clone(rel_url=request.rel_url.with_query(_without_blanks(request)))
    problem: ProblemError | None = None
    events: list[dict[str, Any]] = []
    cursor: str | None = None
    try:
        events, cursor = await listed(request, query_of(asked))
    except ProblemError as error:
        if error.status not in (400, 404, 503):
            raise
        problem = error
    following = urlencode({**given, "cursor": cursor}) if cursor is not None else ""
    return page(
        request,
        "audit.html",
        title="Audit",
        current="audit",
        status=200 if problem is None else problem.status,
        fields=fields,
        lines=[EventLine.of(each) for each in events],
        following=following,
        is_first="cursor" not in request.query,
        query=urlencode(given),
        given=given,
        problem=problem,
        tool_path=tool_path,
        sees_all=caller_of(request).rights.grants_all("admin"),
    )


def _without_blanks(request: web.Request) -> list[tuple[str, str]]:
    items = request.query.items()
    return [(name, value) for name, value in items if value.strip() and name != "limit"]


async def event(request: web.Request) -> web.Response:
    """One event of the audit, whole, for people."""
    id = request.match_info["event"]
    found, _ = await listed(request, AuditQuery({"event_id": id}, limit=1))
    if not found:
        detail = f"there is no event {id[:100]!r} in the audit, or not any more"
        raise ProblemError(404, "unknown-event", detail)
    whole = found[0]
    others: list[dict[str, Any]] = []
    if request_id := str(whole.get("requestId") or ""):
        others, _ = await listed(request, AuditQuery({"request_id": request_id}, limit=21))
    return page(
        request,
        "event.html",
        title=f"Event {id[:12]}",
        current="audit",
        line=EventLine.of(whole),
        event=whole,
        text=orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode(),
        others=[EventLine.of(each) for each in others if each["eventId"] != whole["eventId"]],
    )


OPERATIONS = (
    page_operation("/ui/audit", audit, needs="admin", parameters=FILTERS, errors=(404, 503)),
    page_operation("/ui/audit/{event}", event, needs="admin", errors=(404, 503)),
)
