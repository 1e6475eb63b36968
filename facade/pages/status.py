"""The status page: what works, what does not, and since when; it can be open to everybody."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.access.list_parts import PARTS
from mcp_discovery.facade.access.parts import PartSet, parts_of
from mcp_discovery.facade.http.operation import Parameter
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.pages.server_lines import SERVER_LINES
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.servers.current_list import CATALOG, MISSED, current_view

#: How many servers one page shows.
_ON_A_PAGE = 200


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
    lines = await parts[SERVER_LINES].of(view)
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
