"""Load-balancing strategies: functions that order the connections to be offered."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from cachetools import LRUCache

Strategy = Literal[
    "least-loaded", "round-robin", "random", "weighted", "power-of-two", "consistent-hash"
]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
#: The default strategy.
USUAL: Strategy = "least-loaded"
#: The load from which on a connection counts as busy.
BUSY = 0.8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A connection that may be offered; ``load`` is from 0 to 1, or ``None`` if unknown."""

    id: str
    weight: int = 1
    load: float | None = None


Candidates = Sequence[Candidate]


def least_loaded(candidates: Candidates, chance: Random) -> list[Candidate]:
    """The least loaded first; equal ones in random order, so that clients do not all choose one.

    One whose load is unknown comes after those below :data:`BUSY` and before the others.
    """
    shuffled = at_random(candidates, chance)
    return sorted(shuffled, key=lambda each: BUSY if each.load is None else each.load)


def at_random(candidates: Candidates, chance: Random) -> list[Candidate]:
    """A random order, each with the same probability."""
    return chance.sample(list(candidates), len(candidates))


def weighted(candidates: Candidates, chance: Random) -> list[Candidate]:
    """Drawn one after the other, each with a probability in proportion to its weight.

    Those of weight 0 come last. Efraimidis and Spirakis, "Weighted random sampling with a
    reservoir" (2006): ordering by ``u ** (1 / weight)`` is equivalent to such draws.
    """

    def drawn(candidate: Candidate) -> float:
        return -chance.expovariate(candidate.weight) if candidate.weight else -math.inf

    return sorted(at_random(candidates, chance), key=drawn, reverse=True)


def power_of_two(candidates: Candidates, chance: Random) -> list[Candidate]:
    """Repeatedly two are drawn at random, and the less loaded of them is next.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001). If one of the two
    loads is unknown, the choice is random.
    """
    left = at_random(candidates, chance)
    order: list[Candidate] = []
    while len(left) > 1:
        one, other = chance.sample(range(len(left)), 2)
        first, second = left[one].load, left[other].load
        if first is not None and second is not None and second < first:
            one = other
        left[one], left[-1] = left[-1], left[one]
        order.append(left.pop())
    return order + left


def consistent_hash(candidates: Candidates, key: str) -> list[Candidate]:
    """The same order for the same key in every process; each is first for its share of the keys.

    Weighted rendezvous hashing: a new connection takes its share of the keys and no others move;
    the keys of one that leaves go to those that were second. Those of weight 0 come last.
    """

    def score(candidate: Candidate) -> float:
        digest = hashlib.blake2b(f"{len(key)}:{key}{candidate.id}".encode(), digest_size=8).digest()
        # Strictly between 0 and 1, so that its logarithm is below 0.
        part = ((int.from_bytes(digest) >> 11) + 0.5) / 2**53
        return candidate.weight / -math.log(part)

    by_id = sorted(candidates, key=lambda each: each.id)
    return sorted(by_id, key=score, reverse=True)


def rotated(candidates: Candidates, last: str | None) -> list[Candidate]:
    """Ordered by id, beginning with the one after ``last``, which need not exist any more."""
    order = sorted(candidates, key=lambda each: each.id)
    start = bisect_right(order, last, key=lambda each: each.id) if last is not None else 0
    return order[start:] + order[:start]


class RoundRobin:
    """The state of round robin: for each of the ``most`` latest queries the id that was first."""

    def __init__(self, most: int = 4096) -> None:
        self._last: LRUCache[str, str] = LRUCache(most)

    def next(self, query: str, candidates: Candidates) -> list[Candidate]:
        """``candidates``, beginning with the one after that which was first the last time."""
        order = rotated(candidates, self._last.get(query))
        if order:
            self._last[query] = order[0].id
        return order


#: The strategies whose order is drawn anew each time.
CHANCE: Mapping[str, Callable[[Candidates, Random], list[Candidate]]] = {
    "least-loaded": least_loaded,
    "random": at_random,
    "weighted": weighted,
    "power-of-two": power_of_two,
}
