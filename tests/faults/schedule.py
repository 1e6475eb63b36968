"""A seeded schedule of mixed faults: what is drawn depends on the seed alone.

Five lanes break things at once: two of them instances, each its own half, one the bridged one, one
facades, one the store. Each lane draws from a source of its own, so that its order of faults does
not depend on how long those of another lane took; how they fall together does, and the history
tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from tests.faults.catalogue import Fault, of
from tests.faults.environment import Environment
from tests.faults.faults import Claim


class _Turns:
    """Many at once, or one alone."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()
        self._busy = 0
        self._waiting = 0
        self._alone = False

    @asynccontextmanager
    async def turn(self, *, alone: bool) -> AsyncGenerator[None, None]:
        async with self._condition:
            self._waiting += alone
            try:
                await self._condition.wait_for(
                    lambda: not self._alone and (not self._busy if alone else not self._waiting)
                )
            finally:
                self._waiting -= alone
            self._alone = alone
            self._busy += 1
        try:
            yield
        finally:
            async with self._condition:
                self._busy -= 1
                self._alone = False
                self._condition.notify_all()


@dataclass(frozen=True)
class Lane:
    """One sequence of faults: which, in which part of the environment, and the seconds
    between two."""

    name: str
    claims: Claim
    part: Environment
    pause: tuple[float, float]


def lanes(environment: Environment) -> Sequence[Lane]:
    """The lanes of an environment of five instances or more, and two facades or more."""
    # The last instance is the store's, and never killed: see tests.faults.growth.
    *instances, last = environment.instances
    return [
        Lane("instances-even", "instance", environment.part(instances[::2], []), (0.5, 4.0)),
        Lane("instances-odd", "instance", environment.part(instances[1::2], []), (0.5, 4.0)),
        Lane("bridged", "bridged", environment.part([last], []), (0.5, 4.0)),
        Lane("facades", "facade", environment.part([last], environment.facades), (0.5, 6.0)),
        Lane("store", "store", environment.part([last], []), (3.0, 8.0)),
    ]


async def run(
    environment: Environment,
    seed: int,
    seconds: float,
    say: Callable[[str], None] = lambda _: None,
    only: Collection[str] = (),
) -> None:
    """Breaks ``environment`` for ``seconds``, mends all, and waits until it has settled.

    Draws from all faults, or from those that are named in ``only``.
    """
    end = time.monotonic() + seconds
    turns = _Turns()
    async with asyncio.TaskGroup() as group:
        for lane in lanes(environment):
            faults = [
                each
                for each in of(environment.kind, apart=bool(environment.hosts))
                if each.claims == lane.claims and (not only or each.name in only)
            ]
            if faults:
                draw = Random(f"{seed}/{lane.name}")
                group.create_task(_lane(lane, faults, draw, turns, end, say))
    await environment.store_answers()
    await environment.settled()


async def _lane(
    lane: Lane,
    faults: Sequence[Fault],
    draw: Random,
    turns: _Turns,
    end: float,
    say: Callable[[str], None],
) -> None:
    while True:
        # Each fault once before any comes twice.
        for fault in draw.sample(faults, len(faults)):
            if not await _one(lane, fault, draw, turns, end, say):
                return


async def _one(
    lane: Lane, fault: Fault, draw: Random, turns: _Turns, end: float, say: Callable[[str], None]
) -> bool:
    """One fault after a pause; returns whether there was time for it."""
    pause, hold, own = draw.uniform(*lane.pause), draw.uniform(0, 3), Random(draw.random())
    if time.monotonic() + pause >= end:
        return False
    await asyncio.sleep(pause)
    history = lane.part.history
    async with turns.turn(alone=fault.alone):
        if time.monotonic() >= end:
            return False
        history.note("note", lane.name, text=f"begins: {fault.name}")
        say(f"{history.now:7.1f} s  {lane.name}: {fault.name}")
        async with fault.does(lane.part, own):
            await asyncio.sleep(hold)
        history.note("note", lane.name, text=f"ends: {fault.name}")
    return True
