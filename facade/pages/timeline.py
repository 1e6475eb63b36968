"""The health of a server's instances over a time, as bars: where each begins, how wide it is, and
what it says. The page draws them, and has the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mcp_discovery.facade.history.answers import HistoryPage
from mcp_discovery.facade.history.visible import GONE
from mcp_discovery.health import rfc3339

#: How far back a timeline may go, by what it is called.
SPANS: Mapping[str, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
#: How wide all of it is, in its own units; a bar has at least one.
WIDTH = 1000
#: So many instances have a line of their own.
_LINES = 20


@dataclass(frozen=True, slots=True)
class TimelineBar:
    """One status of one instance, or a time in which nobody watched: where it stands, and a
    sentence that says it."""

    x: float
    width: float
    status: str
    sentence: str


@dataclass(frozen=True, slots=True)
class TimelineLine:
    """One instance; ``is_listed`` now or not."""

    id: str
    bars: Sequence[TimelineBar]
    is_listed: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """All lines, and the times in which nobody watched, which lie over all of them."""

    began: datetime
    ended: datetime
    lines: Sequence[TimelineLine]
    unwatched: Sequence[TimelineBar]
    left_out: int


def timeline(history: HistoryPage, began: datetime, ended: datetime) -> Timeline:
    """The lines of ``history`` between two moments, those that are still listed first."""
    bars: dict[str, list[TimelineBar]] = {}
    listed: dict[str, bool] = {}
    for each in reversed(history.changes):
        listed[each.id] = each.status != GONE
        bars.setdefault(each.id, [])
        if each.status == GONE:
            continue
        bar = _bar(each.at, each.until, began, ended, each.status, each.reason)
        if bar is not None:
            bars[each.id].append(bar)
    lines = [TimelineLine(id, found, listed[id]) for id, found in bars.items() if found]
    lines.sort(key=lambda line: (not line.is_listed, line.id))
    # Before anything is known nobody watched either.
    gaps = [(each.began, each.ended) for each in history.unwatched]
    if history.since is not None and history.since > began:
        gaps.append((began, history.since))
    unwatched = [_bar(*each, began, ended, "unwatched", "nobody watched") for each in gaps]
    return Timeline(
        began, ended, lines[:_LINES], [each for each in unwatched if each], len(lines[_LINES:])
    )


def _bar(
    since: datetime,
    until: datetime | None,
    began: datetime,
    ended: datetime,
    status: str,
    reason: str,
) -> TimelineBar | None:
    start, end = max(since, began), min(until or ended, ended)
    if start >= end:
        return None
    x, x_end = (WIDTH * ((each - began) / (ended - began)) for each in (start, end))
    times = f"{rfc3339(since)} to {rfc3339(until) if until else 'now'}"
    why = "" if status == "unwatched" else f"{status}: "
    return TimelineBar(
        round(x, 2), round(max(1.0, x_end - x), 2), status, f"{times}, {why}{reason}"
    )
