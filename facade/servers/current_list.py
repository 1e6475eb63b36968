"""The list that one application serves: its current view, and one of its entries."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.parts import Part, parts_of
from mcp_discovery.facade.http.problems import ProblemError

#: The catalog.
CATALOG: Part[LiveList] = Part("catalog")
#: Who left it without a goodbye.
MISSED: Part[MissedInstances] = Part("missed")


def current_view(catalog: LiveList) -> View:
    """The list as it is now; raises :class:`ProblemError` (503) until there is a first one."""
    if not catalog.is_ready:
        why = catalog.view.problem or "it has not answered yet"
        detail = f"the first list from {catalog.source} has not come, try again soon: {why}"
        raise ProblemError(503, "not-ready", detail)
    return catalog.view


def view_of(request: web.Request) -> View:
    """The list as it is now for the caller of ``request``; raises as :func:`current_view` does."""
    return current_view(parts_of(request)[CATALOG])


def entry_in(view: View, id: str) -> Entry:
    """One instance, whatever its health; raises :class:`ProblemError` (404)."""
    entry = view.entries.get(id)
    if entry is None:
        raise unknown(id, is_name=id in view.keys("name"))
    return entry


def unknown(id: str, *, is_name: bool = False) -> ProblemError:
    """There is no such server; ``is_name``: there are instances that have it as their name."""
    where = f"GET /servers?name={id}&status=all lists those of that name" if is_name else ""
    where = where or "GET /servers?status=all lists them"
    detail = f"there is no server with id {id[:100]!r}; {where}"
    return ProblemError(404, "unknown-server", detail, id=id[:100])
