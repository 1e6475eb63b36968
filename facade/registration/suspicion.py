"""Hints that a server's status is no longer true, such as calls that fail, and when to probe."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from mcp_discovery.health import Status

#: The least time between two probes that hints lead to, in seconds.
_APART = 1.0


@dataclass(eq=False)
class Suspicion:
    """Calls ``probe`` when something hints that it is due: at once, but at most once a second.

    Tools may fail for reasons of their own: each time that the probe finds the status unchanged,
    the time until the next such one doubles, up to ``interval``, that between probes in seconds.
    """

    probe: Callable[[], None]
    interval: float

    def __post_init__(self) -> None:
        self._apart = _APART
        self._last = -math.inf  # seconds of the loop's clock
        self._due: asyncio.TimerHandle | None = None
        self._status: Status | None = None  # that is in doubt
        self._asked: Status | None = None  # that was in doubt when the probe began that is awaited

    def arises(self, status: Status) -> None:
        """Something hints that ``status`` is no longer true."""
        if self._due is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._last > 2 * max(_APART, self.interval):
            self._apart = _APART
        self._status = status
        self._schedule()

    def probed(self, status: Status) -> None:
        """A probe found ``status``.

        Hints that arose in the meantime lead to the next probe, after the pause that follows.
        """
        if self._asked is None:
            return
        unchanged = status is self._asked
        self._apart = min(2 * self._apart, max(_APART, self.interval)) if unchanged else _APART
        self._asked = None
        if self._due is not None:
            self._due.cancel()
            self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.call_at(max(loop.time(), self._last + self._apart), self._follow)

    def _follow(self) -> None:
        self._due, self._last = None, asyncio.get_running_loop().time()
        self._asked = self._status
        self.probe()
