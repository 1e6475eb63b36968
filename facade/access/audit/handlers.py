"""``GET /audit``: what happened, for those who administer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from aiohttp import web
from pydantic import Field

from mcp_discovery.facade.access.audit.audit import AUDIT, Audit
from mcp_discovery.facade.access.audit.event import EventType
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.access.audit.query import AuditQuery, events
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.rights import Rights, record_as_it_was
from mcp_discovery.facade.http.body import Shaped
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.parameters import moment, once, one_of, whole
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.list_json import json_response

if TYPE_CHECKING:
    from mcp_discovery.facade.access.audit.database import DatabaseLog

_TYPES = get_args(EventType)
_RESULTS = ("done", "refused", "failed", "unknown")
#: Parameters that are equal to a column of the store.
_FIELDS = {
    "userId": ("user_id", "Of this caller: its subject."),
    "address": ("address", "From this address."),
    "operation": ("operation", "Of this operation: register, update, drain, deregister, call, …"),
    "name": ("target_name", "On the server of this name."),
    "id": ("target_id", "On this instance."),
    "tool": ("tool", "Calls of this tool."),
    "requestId": ("request_id", "Of this request."),
    "eventId": ("event_id", "This event alone."),
}
_DEFAULT, _MOST = 50, 1000
#: For how many seconds an answer waits for what was recorded before it was asked for.
_SETTLE = 1.0


class AuditActorModel(Shaped):
    """Who did it."""

    user_id: str = Field(description="The caller's subject; empty where it gave no credential.")
    by: str = Field(description="How it was told: anonymous, token, jwt, certificate, unknown.")
    roles: list[str] = Field(default_factory=list)
    address: str = ""


class AuditOutcomeModel(Shaped):
    """How it ended."""

    success: bool | None = Field(description="null where it is not known (yet).")
    result: str = Field(description=f"One of {', '.join(_RESULTS)}.")
    status: int | None = None
    problem: str | None = None
    error: str | None = None
    duration_ms: int | None = None


class AuditEventModel(Shaped):
    """One change, refusal or call."""

    event_id: str
    event_type: str = Field(description=f"One of {', '.join(_TYPES)}.")
    time: str = Field(description="When it began.")
    actor: AuditActorModel | None = None
    operation: dict[str, Any] = Field(default_factory=dict)
    target: dict[str, Any] = Field(default_factory=dict)
    outcome: AuditOutcomeModel
    request_id: str = ""
    trace_id: str | None = None
    digests: dict[str, Any] | None = None
    request: dict[str, Any] | None = Field(None, description="The beginning of a question.")
    scope: list[str] | None = Field(None, description="The scopes of who asked it.")
    arguments: dict[str, Any] | None = None


class AuditListModel(Shaped):
    """A page of events."""

    logs: list[AuditEventModel]
    next_cursor: str | None = None


async def audit(request: web.Request) -> web.Response:
    """What happened, newest first: changes, refusals and calls of tools.

    `from` and `to` are times (RFC 3339) or days; `to` is not included. A caller whose right to
    administer is for some servers only sees the events of these.
    """
    logs, cursor = await listed(request, query_of(request))
    body: dict[str, Any] = {"logs": logs}
    if cursor is not None:
        body["nextCursor"] = cursor
    return json_response(body)


def kept_audit(request: web.Request) -> tuple[Audit, DatabaseLog]:
    """The audit of the facade, and its store; raises :class:`ProblemError` (404) without one."""
    found = request.app.get(AUDIT)
    if found is None or found.store is None:
        detail = "no audit is kept that can be asked; start the facade with --audit-store"
        raise ProblemError(404, "audit-off", detail)
    return found, found.store


async def listed(
    request: web.Request, query: AuditQuery
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the events that the caller of ``request`` may see, as it sees them, and the cursor
    of the next; raises :class:`ProblemError` (400, 404, 503)."""
    kept, store = kept_audit(request)
    await kept.journal.caught_up(_SETTLE)
    visible, shape = view_of(caller_of(request).rights)
    try:
        logs, cursor = await events(store, query, visible)
    except AuditLogError as error:
        raise unavailable(error) from error
    return [shape(each) for each in logs], cursor


def unavailable(error: AuditLogError) -> ProblemError:
    """The refusal of a request while the store is away."""
    detail = f"the audit cannot be read now: {error}; try again soon"
    return ProblemError(503, "audit-unavailable", detail)


def query_of(request: web.Request) -> AuditQuery:
    """What the parameters of ``request`` ask for; raises :class:`ProblemError` (400)."""
    fields = {
        column: value
        for name, (column, _) in _FIELDS.items()
        if (value := once(request, name)) is not None
    }
    if (type := once(request, "eventType")) is not None:
        fields["type"] = one_of("eventType", type, _TYPES)
    outcome = once(request, "outcome")
    since, until = moment(request, "from"), moment(request, "to")
    return AuditQuery(
        fields,
        result=None if outcome is None else one_of("outcome", outcome, _RESULTS),
        since=None if since is None else since.timestamp(),
        until=None if until is None else until.timestamp(),
        cursor=once(request, "cursor"),
        limit=whole(request, "limit", least=1, most=_MOST) or _DEFAULT,
    )


def view_of(
    rights: Rights,
) -> tuple[Callable[[Mapping[str, Any]], bool], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Which events a caller may see, and what of them.

    Whoever administers some servers only is not shown the places in the chain: they would tell how
    much else happened.
    """
    if rights.grants_all("admin"):
        return (lambda _: True), (lambda event: event)

    def visible(event: Mapping[str, Any]) -> bool:
        target = event.get("target") or {}
        if not target.get("name") or target.get("kind") == "query":
            return False  # a query is of the whole facade
        tool = target.get("tool")
        tags, tools = target.get("tags") or (), (tool,) if tool else ()
        record = record_as_it_was(target["name"], tags, target.get("zone"), tools=tools)
        return rights.may("admin", record, target.get("owner"))

    def without_place(event: dict[str, Any]) -> dict[str, Any]:
        hidden = ("chain", "sequence", "previous", "hash")
        return {name: value for name, value in event.items() if name not in hidden}

    return visible, without_place


FILTERS = (
    *(Parameter(name, text) for name, (_, text) in _FIELDS.items()),
    Parameter("eventType", "Of this type.", {"type": "string", "enum": list(_TYPES)}),
    Parameter("outcome", "That ended so.", {"type": "string", "enum": list(_RESULTS)}),
    Parameter("from", "From this time on."),
    Parameter("to", "Before this time."),
)
_AUDIT = Operation(
    "GET",
    "/audit",
    audit,
    "audit",
    parameters=(
        *FILTERS,
        Parameter("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": _MOST}),
        Parameter("cursor", "Where the page begins: `nextCursor` of the one before."),
    ),
    answers={200: AuditListModel},
    errors=(404, 503),
    needs="admin",
)
OPERATIONS = (_AUDIT, replace(_AUDIT, path="/api/platform/audit", group="platform"))
