"""The answer to a named query: the first of its questions that has enough, and in which order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, Protocol, TypeVar

from mcp_discovery.balancing import CHANCE, Candidate, RoundRobin, Strategy, consistent_hash
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.instance import Instance
from mcp_discovery.query.definition import QueryDefinition, QueryStep
from mcp_discovery.vouching import is_vouched_for, weights

_CHANCE = random.Random()


class Listed(Protocol):
    """What is chosen from: an entry of a list."""

    @property
    def id(self) -> str:
        """The instance's id."""

    @property
    def instance(self) -> Instance:
        """The instance."""


T = TypeVar("T", bound=Listed)


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a named query found: by the step ``answered_by``, ``None`` where none found anything;
    in the order of that step, ``near`` those of the wanted zone."""

    answered_by: int | None
    near: Sequence[T]
    others: Sequence[T]

    @property
    def all(self) -> Sequence[T]:
        """All of them."""
        return (*self.near, *self.others)


async def find(
    definition: QueryDefinition,
    select: Callable[[QueryStep], Awaitable[Sequence[T]]],
    zone: str | None = None,
) -> Found[T]:
    """What the first step finds that finds ``least``; where none does, the one that finds most.

    ``select`` gives what matches a step, the best first. ``zone`` takes the place of the
    definition's.
    """
    best: Sequence[T] = ()
    answered_by = None
    for number, step in enumerate(definition.steps):
        found = await select(step)
        if len(found) > len(best):
            best, answered_by = found, number
        if len(found) >= definition.least:
            break
    wanted = zone or definition.zone
    near = [each for each in best if wanted is not None and each.instance.record.zone == wanted]
    ids = {each.id for each in near}
    return Found(answered_by, near, [each for each in best if each.id not in ids])


def require_key(strategy: Strategy | None, key: str | None) -> None:
    """Raises :class:`InvalidInputError` where a strategy lacks its key, or has no use for one."""
    if strategy == "consistent-hash" and key is None:
        raise InvalidInputError("key is missing; consistent-hash needs one, such as key=user-17")
    if strategy != "consistent-hash" and key is not None:
        raise InvalidInputError(
            f"key means nothing to {strategy or 'a query without a strategy'}; it is for "
            "consistent-hash"
        )


@dataclass(frozen=True, slots=True)
class Arrangement(Generic[T]):
    """Puts what was found into the order of a strategy.

    ``fit`` says what can be used at all, ``load`` how busy each is (0 to 1, ``None``: not known),
    ``rotation`` whose turn is next, by the name of what is asked.
    """

    fit: Callable[[Instance], bool]
    load: Callable[[T], float | None]
    rotation: RoundRobin

    def ordered(
        self, entries: Iterable[T], strategy: Strategy, asked: str, key: str | None = None
    ) -> list[T]:
        """All of ``entries`` that are fit, then the others; of both first those that somebody
        vouches for."""
        by_id = {entry.id: entry for entry in entries}
        counted: Mapping[str, int] = weights(entry.instance for entry in by_id.values())
        order: list[Candidate] = []
        for fit in product((True, False), repeat=2):
            candidates = [
                Candidate(entry.id, counted[entry.id], self.load(entry))
                for entry in by_id.values()
                if (self.fit(entry.instance), is_vouched_for(entry.instance)) == fit
            ]
            if strategy == "round-robin":
                order += self.rotation.next(f"{fit} {asked}", candidates)
            elif key is not None:
                order += consistent_hash(candidates, key)
            else:
                order += CHANCE[strategy](candidates, _CHANCE)
        return [by_id[each.id] for each in order]

    def answer(
        self, definition: QueryDefinition, found: Found[T], asked: str, key: str | None = None
    ) -> list[T]:
        """What was found in the order of the definition's strategy, those of the zone first.

        Raises what :func:`require_key` raises.
        """
        require_key(definition.strategy, key)
        if definition.strategy is None:
            return list(found.all)
        parts = {"near": found.near, "others": found.others}
        return [
            entry
            for name, part in parts.items()
            for entry in self.ordered(part, definition.strategy, f"{name} {asked}", key)
        ]
