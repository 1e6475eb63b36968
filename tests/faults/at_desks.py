"""Faults of one facade: its process, its way to the store, its clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

from tests.faults.faults import a_desk, fault
from tests.faults.world import World

Breaking = AsyncGenerator[None, None]


@fault("facade killed", "desk")
async def facade_killed(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw, mortal=True) as desk:
        world.history.note("desk-down", desk.name)
        await desk.program.kill()
        await world.gives_no_list(desk)
        yield
        await desk.program.start()
        world.history.note("desk-up", desk.name)


@fault("facade frozen", "desk")
async def facade_frozen(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw) as desk:
        world.history.note("desk-down", desk.name)
        await desk.program.freeze()
        await asyncio.sleep(3)
        yield
        await desk.program.thaw()
        world.history.note("desk-up", desk.name)


@fault("facade cut off from the store", "desk")
async def facade_cut(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw) as desk:
        world.history.note("desk-parted", desk.name)
        await desk.way.become(draw.choice(("cut", "refuse")))
        await world.says_stale(desk)
        yield
        await desk.way.become("pass")
        world.history.note("desk-joined", desk.name)


@fault("facade half-open to the store", "desk")
async def facade_half_open(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw) as desk:
        world.history.note("desk-parted", desk.name)
        await desk.way.become("half-open")
        await world.says_stale(desk)
        yield
        await desk.way.become("pass")
        world.history.note("desk-joined", desk.name)


@fault("facade started while the store is away", "desk")
async def facade_started_blind(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw, mortal=True) as desk:
        world.history.note("desk-down", desk.name)
        await desk.program.kill()
        await desk.way.become("refuse")
        await desk.program.start()
        await world.gives_no_list(desk)
        await asyncio.sleep(1)
        yield
        await desk.way.become("pass")
        world.history.note("desk-up", desk.name)


@fault("slow drip between facade and store", "desk")
async def facade_dripping(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw) as desk:
        await desk.way.become("drip", 0.01)
        await asyncio.sleep(2)
        yield
        await desk.way.become("pass")


@fault("facade's clock stepped", "desk")
async def facade_clock(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw) as desk:
        by = draw.choice((-7200.0, -30.0, 30.0, 7200.0))
        world.history.note("note", desk.name, text=f"its clock is off by {by:g} s")
        desk.clock.step(by)
        await asyncio.sleep(2)
        yield
        desk.clock.step(0)
