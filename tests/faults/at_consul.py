"""Faults that only Consul knows: client agents, and tokens that are revoked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from tests.faults.faults import fault, seen_within
from tests.faults.world import World
from tests.stores import ConsulAgent, ConsulServer
from tests.stores.waiting import until

Breaking = AsyncGenerator[None, None]


@asynccontextmanager
async def _agent_away(world: World, agent: ConsulAgent) -> AsyncGenerator[list[str], None]:
    """Whoever uses ``agent`` is parted from the store until it serves again after the block."""
    seats = [each.id for each in world.seats if each.agent is agent]
    desks = [each.name for each in world.desks if each.agent is agent]
    for id in seats:
        world.history.note("parted", id)
    for name in desks:
        world.history.note("desk-parted", name)
    try:
        yield seats
    finally:
        await agent.ready()

        async def passes_on() -> bool:
            return await world.passes_on(agent)

        await until(passes_on, timeout=60, what="the agent telling the servers what it is told")
        for id in seats:
            world.history.note("joined", id)
        for name in desks:
            world.history.note("desk-joined", name)


async def _others_show(world: World, agent: ConsulAgent, ids: list[str]) -> None:
    desks = [each for each in world.desks if each.agent is not agent]
    await world.shows(ids, "down", timeout=seen_within(world), desks=desks)


async def _known_to_have_failed(world: World, agent: ConsulAgent) -> None:
    member = world.cluster.answering[0]
    assert isinstance(member, ConsulServer)

    async def critical() -> bool:
        checks = (await member.api("GET", f"/v1/health/node/{agent.name}?consistent")).json()
        return any(
            each["CheckID"] == "serfHealth" and each["Status"] == "critical" for each in checks
        )

    await until(critical, timeout=60, what=f"{agent.name} being known to have failed")


@fault("agent restarted", "store", "consul")
async def agent_restarted(world: World, draw: Random) -> Breaking:
    agent = draw.choice(world.agents)
    async with _agent_away(world, agent):
        await agent.kill()
        await agent.start()
    yield


@fault("agent wiped", "store", "consul")
async def agent_wiped(world: World, draw: Random) -> Breaking:
    agent = draw.choice(world.agents)
    async with _agent_away(world, agent):
        await agent.kill()
        # Its name is reserved for the node id that it had until that one is known to have failed.
        await _known_to_have_failed(world, agent)
        await agent.wipe()
        await agent.start()
    yield


@fault("agent killed without leave", "store", "consul")
async def agent_killed(world: World, draw: Random) -> Breaking:
    agent = draw.choice(world.agents)
    async with _agent_away(world, agent) as seats:
        await agent.kill()
        await _others_show(world, agent, seats)
        yield
        await agent.start()


@fault("agent frozen", "store", "consul")
async def agent_frozen(world: World, draw: Random) -> Breaking:
    agent = draw.choice(world.agents)
    async with _agent_away(world, agent) as seats:
        await agent.pause()
        await _others_show(world, agent, seats)
        await world.says_stale(*(each for each in world.desks if each.agent is agent))
        yield
        await agent.resume()


@fault("token revoked and given back", "store", "consul")
async def token_revoked(world: World, draw: Random) -> Breaking:
    world.history.note("store-away", "consul")
    await world.take_token()
    await world.says_stale()
    yield
    await world.give_token()
    await world.token_works()
    world.history.note("store-back", "consul")
