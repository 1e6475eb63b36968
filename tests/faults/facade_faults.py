"""Faults of one facade: its process, its way to the store, its clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

from tests.faults.environment import Environment
from tests.faults.faults import LASTS, a_facade, fault

Breaking = AsyncGenerator[None, None]
FROZEN = 3.0
"""Seconds that a facade is frozen: longer than a reader waits for an answer."""


@fault("facade killed", "facade")
async def facade_killed(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw, mortal=True) as facade:
        environment.history.note("facade-down", facade.name)
        await facade.program.kill()
        await environment.gives_no_list(facade)
        yield
        await facade.program.start()
        environment.history.note("facade-up", facade.name)


@fault("facade frozen", "facade")
async def facade_frozen(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        environment.history.note("facade-down", facade.name)
        await facade.program.freeze()
        await asyncio.sleep(FROZEN)
        yield
        await facade.program.thaw()
        environment.history.note("facade-up", facade.name)


@fault("facade cut off from the store", "facade")
async def facade_cut(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        environment.history.note("facade-parted", facade.name)
        await facade.route.become(draw.choice(("cut", "refuse")))
        await environment.says_stale(facade)
        yield
        await facade.route.become("pass")
        environment.history.note("facade-joined", facade.name)


@fault("facade half-open to the store", "facade")
async def facade_half_open(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        environment.history.note("facade-parted", facade.name)
        await facade.route.become("half-open")
        await environment.says_stale(facade)
        yield
        await facade.route.become("pass")
        environment.history.note("facade-joined", facade.name)


@fault("facade started while the store is away", "facade")
async def facade_started_blind(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw, mortal=True) as facade:
        environment.history.note("facade-down", facade.name)
        await facade.program.kill()
        await facade.route.become("refuse")
        await facade.program.start()
        await environment.gives_no_list(facade)
        await asyncio.sleep(LASTS)
        yield
        await facade.route.become("pass")
        environment.history.note("facade-up", facade.name)


@fault("slow drip between facade and store", "facade")
async def facade_dripping(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        await facade.route.become("drip", 0.01)
        await asyncio.sleep(LASTS)
        yield
        await facade.route.become("pass")


@fault("facade's clock stepped", "facade")
async def facade_clock(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        by = draw.choice((-7200.0, -30.0, 30.0, 7200.0))
        environment.history.note("note", facade.name, text=f"its clock is off by {by:g} s")
        facade.clock.step(by)
        await asyncio.sleep(LASTS)
        yield
        facade.clock.step(0)
