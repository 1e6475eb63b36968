"""Which share of a time each status had, as far as anybody watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import NamedTuple

from mcp_discovery.facade.history.visible import GONE, ShownChange
from mcp_discovery.health import PREFERENCE

#: The statuses, the best first: that of a server is the best of its instances.
_BEST = (*(each.value for each in PREFERENCE), GONE)


class Watched(NamedTuple):
    """A time in which the list was watched, or was not; ``ended`` is ``None`` where it lasts."""

    began: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Availability:
    """How a server, or an instance, was from ``began`` to ``ended``.

    ``shares`` are those of the ``watched`` seconds that each status had; none where there are none.
    Before it was first seen nothing counts.
    """

    began: datetime
    ended: datetime
    watched: float
    unwatched: float
    shares: Mapping[str, float]


def availability(
    changes: Iterable[ShownChange], watched: Sequence[Watched], began: datetime, ended: datetime
) -> Availability:
    """What ``changes`` and the times that were ``watched`` tell of a time."""
    #: (when, instance or empty for the watch, what is so from then on)
    steps: list[tuple[datetime, str, str | None]] = []
    for each in changes:
        since, until = max(each.at, began), min(each.until or ended, ended)
        if since < until:
            steps += [(since, each.id, each.status), (until, each.id, None)]
    first = min((when for when, _, _ in steps), default=ended)
    for span in watched:
        since, until = max(span.began, first), min(span.ended or ended, ended)
        if since < until:
            steps += [(since, "", "watched"), (until, "", None)]
    # Of one moment what ends comes before what begins.
    steps.sort(key=lambda step: (step[0], step[2] is not None))
    now: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    lasted: Counter[str] = Counter()
    at, is_watched = first, False
    for when, id, status in steps:
        if is_watched and when > at:
            best = next((each for each in _BEST if numbers[each] > 0), GONE)
            lasted[best] += (when - at) // timedelta(microseconds=1)
        at = when
        if not id:
            is_watched = status is not None
            continue
        if (known := now.pop(id, None)) is not None:
            numbers[known] -= 1
        if status is not None:
            now[id] = status
            numbers[status] += 1
    total = sum(lasted.values())
    seconds, whole = total / 1e6, (ended - first).total_seconds()
    shares = {status: lasted[status] / total for status in _BEST if lasted[status]}
    return Availability(first, ended, seconds, max(whole - seconds, 0.0), shares)


def unwatched(watched: Sequence[Watched], since: datetime | None, until: datetime) -> list[Watched]:
    """The gaps between ``watched``, newest first, that end after ``since`` and begin before
    ``until``; what was before the first is none."""
    found = []
    for before, after in zip_longest(watched, watched[1:]):
        if before.ended is None:
            continue
        ended = None if after is None else after.began
        if ended is not None and (ended <= before.ended or (since and ended <= since)):
            continue
        if before.ended < until:
            found.append(Watched(before.ended, ended))
    return found[::-1]
