"""How many requests one server is asked: no more on average than one for each interval."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

#: A pause is stretched to this many intervals at most.
_LONGEST_PAUSE = 2.0
#: So many requests may be made ahead of time, for what is worth knowing soon.
_AHEAD = 4.0
#: What is asked to connect, and within an interval of it, is not counted once in so many intervals:
#: to connect all the time is no way out.
_FREE_EVERY = 10.0


class Allowance:
    """Counts requests against the time that went by: a bucket that leaks one each interval.

    ``requests`` says how many were made so far. ``interval`` is in seconds; without one nothing is
    counted.
    """

    def __init__(self, requests: Callable[[], int]) -> None:
        self.interval = math.inf
        self._requests = requests
        self._counted = 0
        self._level = 0.0
        self._at = time.monotonic()
        self._connected_at = -math.inf

    def connected(self) -> None:
        """The server was connected to; what follows from that is not counted."""
        now = time.monotonic()
        if math.isinf(self.interval) or now - self._connected_at >= _FREE_EVERY * self.interval:
            self._connected_at = now

    def forgive(self) -> None:
        """What was asked so far was in vain, and is not counted."""
        self._level, self._at, self._counted = 0.0, time.monotonic(), self._requests()

    @property
    def level(self) -> float:
        """How many requests were made more than there were intervals for them."""
        now, requests = time.monotonic(), self._requests()
        if now - self._connected_at < self.interval:
            self._level = 0.0
        else:
            leaked = (now - self._at) / self.interval
            self._level = max(0.0, self._level - leaked) + requests - self._counted
        self._at, self._counted = now, requests
        return self._level

    @property
    def pause(self) -> float:
        """Seconds from a probe to the next."""
        return self.interval * min(max(1.0, self.level), _LONGEST_PAUSE)

    @property
    def until_free(self) -> float:
        """Seconds until something may be asked ahead of time; 0 if it may now."""
        if math.isinf(self.interval):
            return 0.0
        return max(0.0, self.level - _AHEAD) * self.interval
