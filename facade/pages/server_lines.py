"""Servers as the status page has them: what each is by its instances, and since when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.pauses import made_of_each, sliced
from mcp_discovery.health import Status

#: From the worst to the best: servers, and their instances.
_SERVERS_WORST_FIRST = ("down", "degraded", "operational")
_WORST_FIRST = (
    Status.DOWN,
    Status.QUARANTINED,
    Status.DEGRADED,
    Status.DRAINING,
    Status.HEALTHY,
)


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
    elif counts[Status.DOWN] + counts[Status.QUARANTINED] == len(entries):
        status, since = "down", max(each.health.since for each in entries)
    else:
        troubled = (each for each in entries if each.health.status is not Status.HEALTHY)
        status, since = "degraded", min(each.health.since for each in troubled)
    reason = "" if status == "operational" else worst.health.reason
    return ServerLine(
        name, worst.record.title or name, status, since, reason, len(entries), healthy
    )


class ServerLines:
    """Those of one list, made once for each of its views, however many ask."""

    def __init__(self) -> None:
        self._of: tuple[View, Sequence[ServerLine]] | None = None

    async def of(self, view: View) -> Sequence[ServerLine]:
        """The servers of ``view``, as :func:`server_lines` has them."""
        if self._of is None or self._of[0] is not view:
            self._of = view, await server_lines(view)
        return self._of[1]


#: The lines of the caller's own list.
SERVER_LINES: Part[ServerLines] = Part("lines of the status page")
