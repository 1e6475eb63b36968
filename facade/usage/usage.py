"""How much instances and capabilities are used: outcomes, probes and reported load."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.health import Load, utcnow

#: How many seconds the window spans.
WINDOW = 300.0
#: How many seconds a slot spans, whose calls are counted together and expire together.
SLOT = 10.0
#: The shortest time, in seconds, over which a rate is computed: one call is not "six a second".
_LEAST = 60.0

# Latencies are counted in buckets, each a tenth wider than the one before: the middle of a bucket
# is at most 4.9 % off. Below 0.1 ms and above 10 min they fall into the outermost ones.
_FIRST = 1e-4
_GROWTH = math.log(1.1)
_BUCKETS = math.ceil(math.log(600.0 / _FIRST) / _GROWTH) + 1
_P95 = 0.95


@dataclass(slots=True)
class _Slot:
    """The calls of one slot; ``number`` is its start divided by :data:`SLOT`."""

    number: int
    calls: int = 0
    failed: int = 0
    timed: int = 0
    seconds: float = 0.0
    buckets: array[int] | None = field(default=None, repr=False)


class Window:
    """The calls of the last :data:`WINDOW` seconds. Times are monotonic and never go back.

    Holds at most 31 slots of some 0.8 KB each, whatever the number of calls. The mean is exact;
    ``p95`` is at most 4.9 % off between 0.1 ms and 10 minutes.
    """

    def __init__(self, born: float) -> None:
        """``born`` is when counting began."""
        self._born = born
        self._slots: deque[_Slot] = deque()
        self._buckets: array[int] | None = None  # all slots' together
        #: All calls that were ever added.
        self.total = 0

    def add(self, now: float, latency: float | None, success: bool) -> None:
        """Counts one call; ``latency`` in seconds where it is known."""
        self._expire(now)
        number = int(now // SLOT)
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        slot = self._slots[-1]
        self.total += 1
        slot.calls += 1
        slot.failed += not success
        if latency is not None:
            slot.timed += 1
            slot.seconds += latency
            if slot.buckets is None:
                slot.buckets = array("I", bytes(_BUCKETS * 4))
            if self._buckets is None:
                self._buckets = array("Q", bytes(_BUCKETS * 8))
            bucket = _bucket(latency)
            slot.buckets[bucket] += 1
            self._buckets[bucket] += 1

    def figures(self, now: float) -> UsageFigures:
        """The figures of the calls; the rate is over the window, or the time since counting
        began."""
        self._expire(now)
        calls = sum(slot.calls for slot in self._slots)
        timed = sum(slot.timed for slot in self._slots)
        observed = min(WINDOW, max(_LEAST, now - self._born))
        return UsageFigures(
            self.total,
            rate=calls * 60.0 / observed,
            latency=sum(slot.seconds for slot in self._slots) / timed if timed else None,
            p95=self._p95(timed),
            error_rate=sum(slot.failed for slot in self._slots) / calls if calls else None,
        )

    def _p95(self, timed: int) -> float | None:
        """The latency in seconds that 95 % of the ``timed`` calls did not exceed (nearest rank)."""
        if not timed or self._buckets is None:
            return None
        slower = timed - math.ceil(_P95 * timed)  # so many may lie above
        for bucket in range(_BUCKETS - 1, -1, -1):
            slower -= self._buckets[bucket]
            if slower < 0:
                return _FIRST * math.exp((bucket + 0.5) * _GROWTH)  # the middle of the bucket
        raise AssertionError("the buckets hold as many calls as were timed")

    def _expire(self, now: float) -> None:
        oldest = int((now - WINDOW) // SLOT)
        while self._slots and self._slots[0].number < oldest:
            gone = self._slots.popleft().buckets
            if gone is not None and self._buckets is not None:
                for bucket, calls in enumerate(gone):
                    if calls:
                        self._buckets[bucket] -= calls
        if not self._slots:
            self._buckets = None


def _bucket(latency: float) -> int:
    if latency <= _FIRST:
        return 0
    return min(_BUCKETS - 1, int(math.log(latency / _FIRST) / _GROWTH))


#: How many capabilities have figures of their own; the least recently used ones are dropped.
MOST_CAPABILITIES = 10_000
#: Seconds between two removals of the figures of instances that have left.
_FORGET_INTERVAL = 15.0

#: Called with the kind, the instance's id and the facts.
UsageListener = Callable[[str, str, Mapping[str, Any]], None]

#: The kind of a client's outcome, with the facts ``capability`` (or None), ``latency`` (seconds, or
#: None), ``success``, ``error`` (or None).
CAPABILITY_REQUEST = "capability-request"
#: The kind of a server whose lists cannot be read from now on, without facts.
UNREADABLE = "unreadable"
#: The kind of a probe, with the facts ``status``, ``reason``, ``latency`` (seconds, or None),
#: ``success``.
HEALTH_CHECK = "health-check"


@dataclass(frozen=True, slots=True)
class UsageFigures:
    """How much something is used; an unknown figure is ``None``, never estimated.

    ``requests`` counts the outcomes reported since this facade first heard of it. The others are
    of the last five minutes: ``rate`` per minute, ``latency`` (mean) and ``p95`` in seconds,
    ``error_rate`` from 0 to 1. ``active``, ``capacity`` and ``load`` (their ratio, 0 to 1) are
    there only where the instance reports them itself.
    """

    requests: int
    rate: float | None = None
    latency: float | None = None
    p95: float | None = None
    error_rate: float | None = None
    active: int | None = None
    capacity: int | None = None
    load: float | None = None


@dataclass(slots=True)
class _Checks:
    """The probes of one instance; ``response_time`` is the last that was answered, in seconds."""

    performed: int = 0
    failed: int = 0
    last: datetime | None = None
    response_time: float | None = None


class Usage:
    """The figures of one facade. Memory is bounded: about 30 KB for each instance or capability
    that is in use, next to nothing for one that is not.

    ``clock`` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._instances: dict[str, Window] = {}
        self._capabilities: LRUCache[str, Window] = LRUCache(MOST_CAPABILITIES)
        self._whole = Window(clock())
        self._checks: dict[str, _Checks] = {}
        self._reported: dict[str, Load | None] = {}
        self._missing: set[str] = set()
        self._listeners: defaultdict[str, list[UsageListener]] = defaultdict(list)

    def listen(self, kind: str, listener: UsageListener) -> None:
        """Calls ``listener`` for everything of ``kind``; it must return at once and not raise."""
        self._listeners[kind].append(listener)

    def unlisten(self, kind: str, listener: UsageListener) -> None:
        """Calls ``listener`` no more."""
        self._listeners[kind].remove(listener)

    def outcome(
        self,
        id: str,
        *,
        latency: float | None,
        success: bool,
        capability: str | None = None,
        error: str | None = None,
    ) -> None:
        """A client used the instance: ``latency`` in seconds, and what it used of it."""
        now = self._clock()
        for window in self._windows(id, capability, now):
            window.add(now, latency, success)
        facts = {"capability": capability, "latency": latency, "success": success, "error": error}
        self._notify(CAPABILITY_REQUEST, id, facts)

    def probed(
        self, id: str, *, latency: float | None, success: bool, status: str, reason: str
    ) -> None:
        """This facade probed the instance, which took ``latency`` seconds if it answered."""
        checks = self._checks.setdefault(id, _Checks())
        checks.performed += 1
        checks.failed += not success
        checks.last = utcnow()
        if latency is not None:
            checks.response_time = latency
        facts = {"status": status, "reason": reason, "latency": latency, "success": success}
        self._notify(HEALTH_CHECK, id, facts)

    def unreadable(self, id: str) -> None:
        """What the instance offers cannot be read by this facade from now on."""
        self._notify(UNREADABLE, id, {})

    def report_load(self, id: str, load: Load | None) -> None:
        """The registrant of an instance that is registered through this facade reports its load.

        From now on :meth:`instance` uses this load, not the one in the list, which this facade has
        computed from it.
        """
        self._reported[id] = load

    def forget_load(self, id: str) -> None:
        """The instance is not registered through this facade any more: its load is in the list."""
        self._reported.pop(id, None)

    def instance(self, id: str, reported: Load | None) -> UsageFigures:
        """The figures of one instance; ``reported`` is the load in its entry.

        A figure that the registrant reports takes precedence, since that sees every client; the
        others come from the outcomes reported to this facade.
        """
        own = self._figures(self._instances.get(id))
        return _with_reported(own, self._reported.get(id) if id in self._reported else reported)

    def capability(self, name: str) -> UsageFigures:
        """The outcomes of one tool, resource, prompt or skill, whichever instance they were of."""
        return self._figures(self._capabilities.get(name))

    def requests(self) -> Mapping[str, int]:
        """How many outcomes were reported of each instance that has any."""
        return {id: window.total for id, window in self._instances.items()}

    def capability_requests(self) -> Mapping[str, int]:
        """How many outcomes were reported of each tool, resource or prompt that has any."""
        return {name: window.total for name, window in self._capabilities.items()}

    def capabilities(self) -> list[str]:
        """The capabilities of which outcomes were reported."""
        return list(self._capabilities)

    def whole(self) -> UsageFigures:
        """The outcomes of all instances, also of those that have left."""
        return self._figures(self._whole)

    def checks(self, id: str) -> tuple[int, int, datetime | None, float | None]:
        """This facade's probes of the instance: performed, failed, when last, and how many
        seconds the last one that was answered took."""
        checks = self._checks.get(id, _Checks())
        return checks.performed, checks.failed, checks.last, checks.response_time

    def load(self, id: str) -> Load | None:
        """The load to publish for an instance registered here; ``None`` while nothing is known."""
        figures = self.instance(id, None)
        load = Load(**{each.name: getattr(figures, each.name) for each in fields(Load)})
        return None if load == Load() else load

    def forget_missing(self, present: Container[str]) -> None:
        """Forgets every instance that was in ``present`` neither this time nor the last.

        Not at once, because one that is just being posted is probed before it is listed.
        """
        known = self._instances.keys() | self._checks.keys() | self._reported.keys()
        missing = {id for id in known if id not in present}
        for id in missing & self._missing:
            self._instances.pop(id, None)
            self._checks.pop(id, None)
            self._reported.pop(id, None)
        self._missing = missing

    async def forget_gone(self, catalog: LiveList) -> None:
        """Forgets instances that leave ``catalog``, for ever; not while its store is away."""
        while True:
            await asyncio.sleep(_FORGET_INTERVAL)
            if catalog.is_ready and catalog.view.stale_since is None:
                self.forget_missing(catalog.view.entries)

    def _windows(self, id: str, capability: str | None, now: float) -> list[Window]:
        """Where a call is counted."""
        windows = [self._whole, self._instances.setdefault(id, Window(now))]
        if capability is not None:
            windows.append(self._capabilities.setdefault(capability, Window(now)))
        return windows

    def _figures(self, window: Window | None) -> UsageFigures:
        if window is None or window.total == 0:
            return UsageFigures(0)
        return window.figures(self._clock())

    def _notify(self, kind: str, id: str, facts: Mapping[str, Any]) -> None:
        for listener in self._listeners[kind]:
            listener(kind, id, facts)


#: The figures.
USAGE: Part[Usage] = Part("usage")


def _with_reported(own: UsageFigures, reported: Load | None) -> UsageFigures:
    if reported is None:
        return own
    active, capacity = _whole_number(reported.active), _whole_number(reported.capacity)
    given: dict[str, Any] = {
        name: _figure(getattr(reported, name)) for name in ("rate", "latency", "p95")
    }
    given["error_rate"] = _figure(reported.error_rate, most=1.0)
    given = {name: value for name, value in given.items() if value is not None}
    ratio = min(1.0, active / capacity) if active is not None and capacity else None
    return replace(own, active=active, capacity=capacity, load=ratio, **given)


def _figure(value: float | None, most: float = math.inf) -> float | None:
    """``value`` where it is plausible: a registrant may report anything."""
    if value is None or not math.isfinite(value) or not 0 <= value <= most:
        return None
    return float(value)


def _whole_number(value: float | None) -> int | None:
    figure = _figure(value, most=2**53)
    return None if figure is None else int(figure)
