"""How long a change takes through a queue: two small discrete-event simulations.

*Told to each* (etcd, a facade's events): every change is a batch, one delivery for each who
watches, worked off in turn: a queue with Poisson arrivals and the batch's work as its constant
service time (M/D/1). A delivery waits for the batches before its own, and for its place within its
own. Lindley's recursion gives every wait; the mean of them is known in closed form, and tests
hold the one against the other.

*Asked for* (Consul): whoever has an answer asks again, at a bounded rate, and is answered when the
index has moved. This queue is closed: who waits for an answer asks for nothing, so the work never
grows without bound; the lists become older instead.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.harness import Spread
from mcp_discovery.adapters.consul.watch import BURST, REFILL, WAIT

_CHANGES = 2000
_ASKED = 1000
#: Of the changes that come while one answer takes its time, about so many are looked at: the others
#: would only tell the same.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds from a change until a facade has it: of half of all, and of 99 %."""

    p50: float
    p99: float

    @classmethod
    def of(cls, delays: list[float]) -> Delay:
        """The delay of a sample."""
        ordered = sorted(delays)
        return cls(Spread.of(ordered).median, ordered[int(len(ordered) * 0.99)])


@dataclass(frozen=True, slots=True)
class Delivery:
    """What reaches a facade at ``at``: the changes that happened at each of ``changed``."""

    at: float
    changed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Deliveries to one facade in their order. ``rate`` is how many there are in a second,
    ``slowest`` the most seconds that one took; ``stalled``: they come later and later, or too late
    for a facade to wait for them."""

    deliveries: tuple[Delivery, ...]
    rate: float
    slowest: float
    stalled: bool = False

    @property
    def delay(self) -> Delay:
        """From a change until it is delivered."""
        return Delay.of([each.at - at for each in self.deliveries for at in each.changed])

    def plus(self, seconds: float) -> Timeline:
        """The same, later by a constant."""
        later = tuple(replace(each, at=each.at + seconds) for each in self.deliveries)
        return replace(self, deliveries=later, slowest=self.slowest + seconds)

    def then(self, other: Timeline) -> Timeline:
        """The same, later by what ``other`` takes: two stages, one after the other."""
        chance = random.Random(1)
        more = [each.at - at for each in other.deliveries for at in each.changed]
        later = [replace(each, at=each.at + chance.choice(more)) for each in self.deliveries]
        later.sort(key=lambda each: each.at)
        stalled = self.stalled or other.stalled
        return replace(self, deliveries=tuple(later), stalled=stalled)


def deliveries_to_watches(rate: float, work: float) -> Timeline:
    """``rate`` changes a second, each of which brings ``work`` seconds of deliveries."""
    chance = random.Random(1)
    now, slowest, deliveries = 0.0, 0.0, []
    for wait, pause in waits(rate, work, chance):
        took = wait + chance.random() * work
        slowest = max(slowest, took)
        deliveries.append(Delivery(now + took, (now,)))
        now += pause
    deliveries.sort(key=lambda each: each.at)
    return Timeline(tuple(deliveries), rate, slowest, stalled=rate * work >= 1)


def waits(rate: float, work: float, chance: random.Random) -> Iterator[tuple[float, float]]:
    """What each of many changes waits before its own work begins, and the pause until the next."""
    wait = 0.0
    for _ in range(_CHANGES):
        pause = chance.expovariate(rate)
        yield wait, pause
        wait = max(0.0, wait + work - pause)


def blocking_queries(rate: float, work: float, own: float) -> Timeline:
    """One of very many queries that wait for the same list.

    ``rate`` changes a second move its index; then ``work`` seconds pass until all are answered,
    which is this one's turn at any moment of them; ``own`` seconds it needs itself to read it.
    """
    chance = random.Random(1)
    rate = min(rate, _AT_ONCE / max(work + own, 1e-9))
    now, free, changed = 0.0, 0.0, chance.expovariate(rate)
    tokens, filled = float(BURST), 0.0
    deliveries: list[Delivery] = []
    slowest, answers, told = 0.0, 0, 0
    while not deliveries or (answers < _ASKED and told < _CHANGES):
        # The adapter's token bucket.
        tokens = min(BURST, tokens + (now - filled) / REFILL) - 1
        filled = now
        asked = now + max(0.0, -tokens * REFILL)
        answers += 1
        if changed > asked + WAIT:
            now = asked + WAIT + own  # answered without a change, at a moment of its own
            continue
        # Until all the others have their last answer, nobody's next one begins.
        begins = max(asked, changed, free)
        free = begins + work
        now = begins + chance.random() * work + own
        slowest = max(slowest, now - asked if changed <= asked else now - begins)
        seen = []
        while changed <= begins:
            seen.append(changed)
            changed += chance.expovariate(rate)
        told += len(seen)
        deliveries.append(Delivery(now, tuple(seen)))
    return Timeline(tuple(deliveries), answers / now, slowest)
