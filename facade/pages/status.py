"""The status page: what works, what does not, and since when; it can be open to everybody."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.access.list_parts import PARTS
from mcp_discovery.facade.access.parts import PartSet, parts_of
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.http.pauses import made_of_each, sliced
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.servers.current_list import CATALOG, MISSED, current_view
from mcp_discovery.health import Status

#: How many servers one page shows.
_ON_A_PAGE = 200
#: From the worst to the best: servers, and their instances.
_SERVERS_WORST_FIRST = ("down", "degraded", "operational")
_WORST_FIRST = (Status.DOWN, Status.DEGRADED, Status.DRAINING, Status.HEALTHY)


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One server: ``status`` is ``operational`` (all instances are healthy), ``degraded`` (some
    are) or ``down``; ``since`` is when that began, ``reason`` that of its worst instance."""

    name: str
    title: str
    status: str
    since: datetime
    reason: str
    instances: int
    healthy: int


async def server_lines(entries: Iterable[Entry]) -> list[ServerLine]:
    """``entries`` by their servers, the worst first, then by name."""
    by_name: defaultdict[str, list[Entry]] = defaultdict(list)
    async for each in sliced(entries):
        by_name[each.record.name].append(each)
    lines = await made_of_each(by_name.items(), lambda each: _line(*each))
    return sorted(lines, key=lambda each: (_SERVERS_WORST_FIRST.index(each.status), each.name))


def _line(name: str, entries: list[Entry]) -> ServerLine:
    counts = Counter(each.health.status for each in entries)
    healthy = counts[Status.HEALTHY]
    worst = min(entries, key=lambda each: (_WORST_FIRST.index(each.health.status), each.id))
    # A server is whole since its last instance became healthy, and down since its last one fell.
    if healthy == len(entries):
        status, since = "operational", max(each.health.since for each in entries)
    elif counts[Status.DOWN] == len(entries):
        status, since = "down", max(each.health.since for each in entries)
    else:
        troubled = (each for each in entries if each.health.status is not Status.HEALTHY)
        status, since = "degraded", min(each.health.since for each in troubled)
    reason = "" if status == "operational" else worst.health.reason
    return ServerLine(
        name, worst.record.title or name, status, since, reason, len(entries), healthy
    )


def _parts(request: web.Request) -> PartSet:
    """What of the list the page shows: the caller's own; all of it where the page is public."""
    if request.app[OPTIONS].public_status:
        return request.app[PARTS]
    if "read" not in (caller := caller_of(request)).rights.verbs:
        if caller.is_anonymous:
            raise request.app[CHALLENGES].unauthenticated(request, "read")
        detail = f"{caller.subject} has no right to read; ask for a role that has"
        raise request.app[CHALLENGES].insufficient(request, "read", detail)
    return parts_of(request)


async def status(request: web.Request) -> web.Response:
    """What works, what does not, and since when, for people.

    With `--public-status` it is for everybody.
    """
    parts = _parts(request)
    view = current_view(parts[CATALOG])
    lines = await server_lines(view)
    counts = Counter(each.status for each in lines)
    doubtful = view.stale_since is not None or view.partial is not None
    troubled = counts["down"] or counts["degraded"] or doubtful
    number = _page_number(request, -(-len(lines) // _ON_A_PAGE))
    begin = (number - 1) * _ON_A_PAGE
    return page(
        request,
        "status.html",
        title="Status",
        current="status",
        view=view,
        overall="degraded" if troubled else "operational",
        counts=counts,
        lines=lines[begin : begin + _ON_A_PAGE],
        total=len(lines),
        number=number,
        pages=max(1, -(-len(lines) // _ON_A_PAGE)),
        missed=sorted(parts[MISSED].entries(), key=lambda each: each.order),
        links="read" in caller_of(request).rights.verbs,
    )


def _page_number(request: web.Request, pages: int) -> int:
    given = request.query.get("page", "1")
    return min(max(1, int(given)), max(1, pages)) if given.isdecimal() and len(given) < 9 else 1


OPERATIONS = (
    page_operation(
        "/ui/status",
        status,
        needs="open",
        parameters=(
            Parameter("page", "Which page of the servers.", {"type": "integer", "minimum": 1}),
        ),
        errors=(401, 403, 503),
    ),
)
