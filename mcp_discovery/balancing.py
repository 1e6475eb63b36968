"""Which of several connections to offer first: pure functions, one for each strategy."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Strategy = Literal[
    "least-loaded", "round-robin", "random", "weighted", "power-of-two", "consistent-hash"
]
STRATEGIES: tuple[Strategy, ...] = (
    "least-loaded",
    "round-robin",
    "random",
    "weighted",
    "power-of-two",
    "consistent-hash",
)
#: The strategy where none is named.
USUAL: Strategy = "least-loaded"
#: From this load on a connection counts as busy.
BUSY = 0.8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A connection that may be offered; ``load`` from 0 to 1, ``None`` when it is not known."""

    id: str
    weight: int = 1
    load: float | None = None


Candidates = Sequence[Candidate]


def least_loaded(candidates: Candidates, chance: Random) -> list[Candidate]:
    """The least loaded first; equals in random order, so that not all clients choose the same.

    One whose load is not known is neither idle nor busy as far as anybody knows: it comes after
    those that are known to have room, before those that are known to be busy.
    """
    shuffled = at_random(candidates, chance)
    return sorted(shuffled, key=lambda each: BUSY if each.load is None else each.load)


def at_random(candidates: Candidates, chance: Random) -> list[Candidate]:
    """Any order, each as likely."""
    return chance.sample(list(candidates), len(candidates))


def weighted(candidates: Candidates, chance: Random) -> list[Candidate]:
    """Drawn one after the other, each with a chance in proportion to its weight.

    One of weight 0 comes after all others. Efraimidis and Spirakis, "Weighted random sampling
    with a reservoir" (2006): the order of ``u ** (1 / weight)`` is that of such draws.
    """

    def drawn(candidate: Candidate) -> float:
        return -chance.expovariate(candidate.weight) if candidate.weight else -math.inf

    return _by(drawn, at_random(candidates, chance))


def power_of_two(candidates: Candidates, chance: Random) -> list[Candidate]:
    """Again and again two are drawn, and the less loaded of them is next.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001). Where one of the
    two loads is not known there is nothing to compare, and chance decides.
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
    """The same order for the same key, whoever asks; each comes first for its share of the keys.

    Weighted rendezvous hashing: one that joins takes over its share and nothing else moves; one
    that leaves gives its share to those that were second. One of weight 0 comes last.
    """

    def score(candidate: Candidate) -> float:
        told = hashlib.blake2b(f"{len(key)}:{key}{candidate.id}".encode(), digest_size=8).digest()
        # Strictly between 0 and 1, so that its logarithm is below 0.
        part = ((int.from_bytes(told) >> 11) + 0.5) / 2**53
        return candidate.weight / -math.log(part)

    return _by(score, sorted(candidates, key=lambda each: each.id))


def rotated(candidates: Candidates, last: str | None) -> list[Candidate]:
    """By id, beginning with the one after ``last``, whether that is still there or not."""
    order = sorted(candidates, key=lambda each: each.id)
    start = bisect_right(order, last, key=lambda each: each.id) if last is not None else 0
    return order[start:] + order[:start]


class Rotation:
    """Where each round stands: for each ``query`` the id that came first the last time.

    Remembers so many queries, and forgets those that were not asked for longest.
    """

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._last: OrderedDict[str, str] = OrderedDict()

    def next(self, query: str, candidates: Candidates) -> list[Candidate]:
        """``candidates``, beginning with the one whose turn it is."""
        order = rotated(candidates, self._last.pop(query, None))
        if order:
            self._last[query] = order[0].id
            while len(self._last) > self._most:
                self._last.popitem(last=False)
        return order


CHANCE: Mapping[str, Callable[[Candidates, Random], list[Candidate]]] = {
    "least-loaded": least_loaded,
    "random": at_random,
    "weighted": weighted,
    "power-of-two": power_of_two,
}


def _by(score: Callable[[Candidate], float], candidates: Candidates) -> list[Candidate]:
    return sorted(candidates, key=score, reverse=True)
