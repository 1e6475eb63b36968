"""Faults of one instance: its sidecar, its MCP server, its way to the store, its clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

from tests.faults.faults import a_seat, fault, seen_within
from tests.faults.world import Seat, World
from tests.stores.server import RequestRefused
from tests.stores.waiting import until

Breaking = AsyncGenerator[None, None]


@fault("sidecar killed", "seat")
async def sidecar_killed(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.sidecar.kill()
        world.history.note("unwatched", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.sidecar.start()
        world.history.note("watched", seat.id)


@fault("sidecar killed and started at once", "seat")
async def sidecar_restarted(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        world.history.note("unwatched", seat.id)
        await seat.sidecar.kill()
        await seat.sidecar.start()
        world.history.note("watched", seat.id)
        yield


@fault("sidecar frozen for longer than TTL", "seat")
async def sidecar_frozen(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.sidecar.freeze()
        world.history.note("unwatched", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.sidecar.thaw()
        world.history.note("watched", seat.id)


@fault("sidecar frozen while its server dies", "seat")
async def both_gone(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.sidecar.freeze()
        world.history.note("unwatched", seat.id)
        await seat.server.kill()
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        await seat.sidecar.thaw()
        world.history.note("watched", seat.id)
        yield
        await seat.server.start()
        world.history.note("serves", seat.id)


@fault("server killed", "seat")
async def server_killed(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.server.kill()
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.server.start()
        world.history.note("serves", seat.id)


@fault("server frozen", "seat")
async def server_frozen(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.server.pause()
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.server.resume()
        world.history.note("serves", seat.id)


@fault("server hung", "seat")
async def server_hung(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.server.control(hang=True)
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.server.control(hang=False)
        world.history.note("serves", seat.id)


@fault("server slow", "seat")
async def server_slow(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        world.history.note("slow", seat.id)
        await seat.server.control(delay=0.5 * world.history.terms.probe_interval)
        await world.shows([seat.id], "degraded", timeout=seen_within(world))
        yield
        await seat.server.control(delay=0.0)
        world.history.note("serves", seat.id)


@fault("server answers errors", "seat")
async def server_erring(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        wishes: list[dict[str, int]] = [
            {"fail": 503},
            {"close": True},
            {"garbage": True},
            {"error": -32603},
        ]
        wish = draw.choice(wishes)
        world.history.note("note", seat.id, text=f"answers {wish}")
        await seat.server.control(**wish)
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.server.control(fail=0, close=False, garbage=False, error=0)
        world.history.note("serves", seat.id)


@fault("server restarted on another port", "seat")
async def server_moved(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.server.kill()
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.sidecar.terminate()
        world.history.note("unwatched", seat.id)
        await world.move(seat)
        world.history.note("serves", seat.id)
        await seat.sidecar.start()
        world.history.note("watched", seat.id)


@fault("sidecar leaves in good order", "seat")
async def sidecar_leaves(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        world.history.note("left", seat.id)
        await seat.sidecar.terminate()
        world.history.note("unwatched", seat.id)
        yield
        await seat.sidecar.start()
        world.history.note("watched", seat.id)


@fault("sidecar cut off from the store", "seat")
async def sidecar_cut(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.way.become(draw.choice(("cut", "refuse")))
        world.history.note("parted", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.way.become("pass")
        world.history.note("joined", seat.id)


@fault("sidecar half-open to the store, its server dead", "seat")
async def sidecar_half_open(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        await seat.way.become("half-open")
        world.history.note("parted", seat.id)
        await seat.server.kill()
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.server.start()
        world.history.note("serves", seat.id)
        await seat.way.become("pass")
        world.history.note("joined", seat.id)


@fault("slow drip between sidecar and store", "seat")
async def sidecar_dripping(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        world.history.note("slow", seat.id)
        await seat.way.become("drip", 0.05)
        await asyncio.sleep(2)
        yield
        await seat.way.become("pass")
        world.history.note("serves", seat.id)


@fault("sidecar's clock stepped", "seat")
async def sidecar_clock(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        by = draw.choice((-7200.0, -30.0, 30.0, 7200.0))
        world.history.note("note", seat.id, text=f"its clock is off by {by:g} s")
        seat.clock.step(by)
        # A change under the wrong clock has to be seen as any other.
        await seat.server.control(fail=503)
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        await seat.server.control(fail=0)
        world.history.note("serves", seat.id)
        await world.shows([seat.id], "healthy", timeout=seen_within(world))
        yield
        seat.clock.step(0)


@fault("maintenance mode set by somebody else", "seat", "consul")
async def maintenance(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        world.history.note("withheld", seat.id)
        await _maintained(seat, "enable=true&reason=faults")
        await world.shows([seat.id], "draining", timeout=seen_within(world))
        yield
        await _maintained(seat, "enable=false")
        world.history.note("granted", seat.id)


async def _maintained(seat: Seat, how: str) -> None:
    """Its agent may hang with its server, or not know the instance for a moment."""
    agent = seat.agent
    assert agent is not None

    async def taken() -> bool:
        try:
            await agent.api("PUT", f"/v1/agent/service/maintenance/{seat.id}?{how}")
        except RequestRefused:
            return False
        return True

    await until(taken, timeout=180, what="a change of maintenance mode")
