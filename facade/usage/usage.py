"""How much instances and capabilities are used: outcomes, probes and reported load."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.health import Load, utcnow
from mcp_discovery.usage_window import Window

#: How many capabilities have figures of their own; the least recently used ones are dropped.
MOST_CAPABILITIES = 10_000
#: Seconds between two removals of the figures of instances that have left.
_FORGET_INTERVAL = 15.0

#: What nobody has used.
_UNUSED = Load(requests=0)

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


@dataclass(slots=True)
class _Checks:
    """The probes of one instance; ``response_time`` is the last that was answered, in seconds."""

    performed: int = 0
    failed: int = 0
    last: datetime | None = None
    response_time: float | None = None


class _OwnCounts:
    """What instances of one view count themselves, all together, and of each tool by its name."""

    def __init__(self, view: View | None = None) -> None:
        self.view = view
        self.whole = _Sum()
        self.tools: defaultdict[str, _Sum] = defaultdict(_Sum)

    def add(self, load: Load, offered: Container[str]) -> None:
        self.whole.add(load.requests or 0, load.rate, load.latency, load.error_rate)
        for tool in load.tools:
            if tool.name in offered:
                self.tools[tool.name].add(tool.requests, None, tool.latency, None)


class _Sum:
    """Figures of several, added: the means by how many requests a minute they are of, or, where no
    rate is known, by how many of them there were."""

    __slots__ = ("_failed", "_judged", "_rate", "_requests", "_seconds", "_timed")

    def __init__(self) -> None:
        self._requests = 0
        self._rate: float | None = None
        self._seconds = self._timed = self._failed = self._judged = 0.0

    def add(
        self, requests: int, rate: float | None, latency: float | None, error_rate: float | None
    ) -> None:
        """Adds the figures of one more."""
        self._requests += requests
        weight: float = requests
        if rate is not None:
            self._rate, weight = (self._rate or 0.0) + rate, rate
        if latency is not None:
            self._seconds += latency * weight
            self._timed += weight
        if error_rate is not None:
            self._failed += error_rate * weight
            self._judged += weight

    def load(self) -> Load:
        """The sums and means."""
        return Load(
            requests=self._requests,
            rate=self._rate,
            latency=self._seconds / self._timed if self._timed else None,
            error_rate=self._failed / self._judged if self._judged else None,
        )


class Usage:
    """The figures of one facade. Memory is bounded: about 30 KB for each instance or capability
    that is in use, next to nothing for one that is not.

    Figures are as of :class:`~mcp_discovery.health.Load`, ``requests`` since this facade first
    heard of one, the others of the last five minutes. ``catalog`` has the loads that instances
    report. One that counts its requests itself, as its load says, sees those of every client: what
    clients report of it besides does not count once more. ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        catalog: LiveList | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._counted = _OwnCounts()
        self._instances: dict[str, Window] = {}
        self._capabilities: LRUCache[str, Window] = LRUCache(MOST_CAPABILITIES)
        #: How often capabilities were used of instances that count that themselves.
        self._counted_elsewhere: LRUCache[str, int] = LRUCache(MOST_CAPABILITIES)
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

    def instance(self, id: str, reported: Load | None) -> Load:
        """The figures of one instance; ``reported`` is the load in its entry. Nothing of them is
        estimated.

        A figure that the registrant reports takes precedence, since that sees every client; the
        others come from the outcomes reported to this facade.
        """
        own = self._figures(self._instances.get(id))
        return _with_reported(own, self._reported.get(id) if id in self._reported else reported)

    async def count(self) -> None:
        """Adds up what instances of the present list count themselves: to be awaited before
        :meth:`capability`, :meth:`capabilities` and :meth:`whole` are asked."""
        if self._catalog is None or self._counted.view is self._catalog.view:
            return
        counted = _OwnCounts(self._catalog.view)
        async for entry in sliced(self._catalog.view):
            load = entry.instance.load
            if load is not None and load.requests is not None:
                counted.add(load, entry.record.capabilities.tools)
        self._counted = counted

    def capability(self, name: str) -> Load:
        """How much one tool, resource, prompt or skill is used, whichever instance it is of."""
        own = self._figures(self._capabilities.get(name))
        if (others := self._counted.tools.get(name)) is None:
            return own
        return _together(replace(own, rate=None), others.load())  # of the others none is known

    def requests(self) -> Mapping[str, int]:
        """How many outcomes were reported of each instance that has any."""
        return {id: window.total for id, window in self._instances.items()}

    def capability_requests(self) -> Mapping[str, int]:
        """How many outcomes were reported of each tool, resource or prompt that has any."""
        own = {name: window.total for name, window in self._capabilities.items()}
        return Counter(own) + Counter(self._counted_elsewhere)

    def capabilities(self) -> list[str]:
        """The capabilities that are known to have been used."""
        return list(dict.fromkeys((*self._capabilities, *self._counted.tools)))

    def whole(self) -> Load:
        """The figures of all instances together; outcomes also of those that have left."""
        return _together(self._figures(self._whole), self._counted.whole.load())

    def checks(self, id: str) -> tuple[int, int, datetime | None, float | None]:
        """This facade's probes of the instance: performed, failed, when last, and how many
        seconds the last one that was answered took."""
        checks = self._checks.get(id, _Checks())
        return checks.performed, checks.failed, checks.last, checks.response_time

    def load(self, id: str) -> Load | None:
        """The load to publish for an instance registered here; ``None`` while nothing is known."""
        reported = self._reported.get(id)
        # How many outcomes were reported here says that the instance counts them to nobody.
        requests = None if reported is None else reported.requests
        load = replace(self.instance(id, None), requests=requests)
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
        windows = [self._instances.setdefault(id, Window(now))]
        if self._counts_itself(id):
            if capability is not None:
                counted = self._counted_elsewhere
                counted[capability] = counted.get(capability, 0) + 1
            return windows
        if capability is not None:
            windows.append(self._capabilities.setdefault(capability, Window(now)))
        return [self._whole, *windows]

    def _counts_itself(self, id: str) -> bool:
        load = self._reported.get(id)
        if load is None and self._catalog is not None:
            entry = self._catalog.view.entries.get(id)
            load = None if entry is None else entry.instance.load
        return load is not None and load.requests is not None

    def _figures(self, window: Window | None) -> Load:
        if window is None or window.total == 0:
            return _UNUSED
        return window.figures(self._clock())

    def _notify(self, kind: str, id: str, facts: Mapping[str, Any]) -> None:
        for listener in self._listeners[kind]:
            listener(kind, id, facts)


#: The figures.
USAGE: Part[Usage] = Part("usage")


def _with_reported(own: Load, reported: Load | None) -> Load:
    given = {each.name: getattr(reported, each.name, None) for each in fields(Load)}
    return replace(own, **{name: value for name, value in given.items() if value is not None})


def _together(one: Load, other: Load) -> Load:
    if not one.requests or not other.requests:
        return one if one.requests else other if other.requests else _UNUSED
    both = _Sum()
    for each in (one, other):
        both.add(each.requests or 0, each.rate, each.latency, each.error_rate)
    return both.load()
