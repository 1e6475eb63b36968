"""The answer to a named query: the first of its questions that has enough, and in which order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from mcp_discovery.balancing import CHANCE, Candidate, RoundRobin, Strategy, consistent_hash
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.instance import Instance
from mcp_discovery.query.definition import QueryDefinition, QueryStep
from mcp_discovery.vouching import is_vouched_for, weights

_CHANCE = random.Random()
#: The strategies that look at weights, and those that look at loads.
_WEIGHING = frozenset[Strategy](("weighted", "consistent-hash"))
_BY_LOAD = frozenset[Strategy](("least-loaded", "power-of-two"))
#: Whether something can be used, and whether somebody vouches for it, the best first.
_FIT = ((True, True), (True, False), (False, True), (False, False))
#: From so many on a step is done beside the event loop; so many are looked at without a pause.
_MANY, _AT_ONCE = 1000, 200


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

    async def ordered(
        self, entries: Iterable[T], strategy: Strategy, asked: str, key: str | None = None
    ) -> list[T]:
        """All of ``entries`` that are fit, then the others; of both first those that somebody
        vouches for. Of very many the event loop is never held for long."""
        by_id = {entry.id: entry for entry in entries}
        many = len(by_id) > _MANY
        counted: Mapping[str, int] = {}
        if strategy in _WEIGHING:
            instances = [entry.instance for entry in by_id.values()]
            counted = await asyncio.to_thread(weights, instances) if many else weights(instances)
        groups: dict[tuple[bool, bool], list[Candidate]] = {fit: [] for fit in _FIT}
        for number, entry in enumerate(by_id.values(), start=1):
            load = self.load(entry) if strategy in _BY_LOAD else None
            fit = self.fit(entry.instance), is_vouched_for(entry.instance)
            groups[fit].append(Candidate(entry.id, counted.get(entry.id, 1), load))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        order: list[Candidate] = []
        for fit, candidates in groups.items():
            if strategy == "round-robin":
                order += self.rotation.next(f"{fit} {asked}", candidates)
                continue
            drawn = partial(CHANCE.get(strategy, consistent_hash), candidates)
            draw = partial(drawn, _CHANCE if key is None else key)
            order += await asyncio.to_thread(draw) if many else draw()
        return [by_id[each.id] for each in order]

    async def answer(
        self, definition: QueryDefinition, found: Found[T], asked: str, key: str | None = None
    ) -> list[T]:
        """What was found in the order of the definition's strategy, those of the zone first.

        Raises what :func:`require_key` raises.
        """
        require_key(definition.strategy, key)
        if definition.strategy is None:
            return list(found.all)
        parts = {"near": found.near, "others": found.others}
        order: list[T] = []
        for name, part in parts.items():
            order += await self.ordered(part, definition.strategy, f"{name} {asked}", key)
        return order
