"""The calls of the last minutes in bounded memory: rate, mean, 95th percentile, share of errors."""

from __future__ import annotations

import math
from array import array
from collections import deque
from dataclasses import dataclass, field

from mcp_discovery.health import Load

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
    """The calls of one slot; ``number`` is its start divided by the slots' length."""

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

    def __init__(self, born: float, slot: float = SLOT) -> None:
        """``born`` is when counting began; longer slots take less memory."""
        self._born = born
        self._slot = slot
        self._slots: deque[_Slot] = deque()
        self._buckets: array[int] | None = None  # all slots' together
        #: All calls that were ever added.
        self.total = 0

    def add(self, now: float, latency: float | None, success: bool) -> None:
        """Counts one call; ``latency`` in seconds where it is known."""
        number = int(now // self._slot)
        if not self._slots or self._slots[-1].number != number:
            self._expire(now)
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

    def figures(self, now: float) -> Load:
        """The figures of the calls; the rate is over the window, or the time since counting
        began."""
        self._expire(now)
        calls = sum(slot.calls for slot in self._slots)
        timed = sum(slot.timed for slot in self._slots)
        observed = min(WINDOW, max(_LEAST, now - self._born))
        return Load(
            requests=self.total,
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
        oldest = int((now - WINDOW) // self._slot)
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
