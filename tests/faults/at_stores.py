"""Faults of the store itself: its members, its leader, its quorum, its data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from tests.faults import snapshots
from tests.faults.faults import fault
from tests.faults.world import World
from tests.stores.server import StoreServer

Breaking = AsyncGenerator[None, None]


@asynccontextmanager
async def _away(world: World, *, partly: bool = False) -> AsyncGenerator[None, None]:
    """The store is away until it takes writes again after the block: for everybody, or for those
    who happen to talk to the wrong member."""
    await world.whole()
    world.history.note("store-shaky" if partly else "store-away", world.kind)
    try:
        yield
    finally:
        await world.store_answers()
        world.history.note("store-back", world.kind)


async def _begun(members: list[StoreServer]) -> None:
    """Starts them without waiting: the store is back when it answers, not when all of it does."""
    for member in members:
        await member.start(wait=False)


async def _ready(members: list[StoreServer]) -> None:
    for member in members:
        await member.ready()


@fault("leader killed", "store")
async def leader_killed(world: World, draw: Random) -> Breaking:
    leader = await world.cluster.leader()
    async with _away(world, partly=True):
        await leader.kill()
    yield
    await _begun([leader])
    await _ready([leader])


@fault("follower killed", "store")
async def follower_killed(world: World, draw: Random) -> Breaking:
    follower = draw.choice(await world.cluster.followers())
    async with _away(world, partly=True):
        await follower.kill()
        await asyncio.sleep(2)
    yield
    await _begun([follower])
    await _ready([follower])


@fault("quorum lost and regained", "store")
async def quorum_lost(world: World, draw: Random) -> Breaking:
    lost = draw.sample(list(world.cluster.members), 2)
    async with _away(world):
        for member in lost:
            await member.kill()
        await world.says_stale()
        yield
        await _begun(lost)
    await _ready(lost)


@fault("store stopped for longer than TTL", "store")
async def store_stopped(world: World, draw: Random) -> Breaking:
    members = list(world.cluster.members)
    async with _away(world):
        for member in members:
            await member.kill()
        await world.says_stale()
        await asyncio.sleep(world.history.terms.ttl + 2)
        yield
        await _begun(members)
    await _ready(members)


@fault("store restarted with its data", "store")
async def store_restarted(world: World, draw: Random) -> Breaking:
    async with _away(world):
        await world.cluster.restart(wait=False)
    await world.cluster.ready()
    yield


@fault("store restarted empty", "store")
async def store_wiped(world: World, draw: Random) -> Breaking:
    async with _away(world):
        await world.cluster.restart(wipe=True)
        await world.give_token()
    yield


@fault("store restored from an older snapshot", "store")
async def store_restored(world: World, draw: Random) -> Breaking:
    file = world.folder / "snapshot"
    await snapshots.save(world.cluster, file)
    for number in range(40):
        # Revisions go up, to fall afterwards.
        await world.cluster.answering[0].put(f"faults/{number}", "1")
    async with _away(world):
        await snapshots.restore(world.cluster, file)
        await world.give_token()
        for agent in world.agents:
            await agent.restart()  # or Consul believes the snapshot rather than its agents
    yield


@fault("leader frozen", "store")
async def leader_frozen(world: World, draw: Random) -> Breaking:
    leader = await world.cluster.leader()
    async with _away(world, partly=True):
        await leader.pause()
        # Whoever talks to it has to find out that it does not answer.
        await asyncio.sleep(world.history.terms.notice)
    yield
    await leader.resume()
    await leader.ready()


@fault("follower frozen", "store")
async def follower_frozen(world: World, draw: Random) -> Breaking:
    follower = draw.choice(await world.cluster.followers())
    async with _away(world, partly=True):
        await follower.pause()
        await asyncio.sleep(world.history.terms.notice)
    yield
    await follower.resume()
    await follower.ready()


@asynccontextmanager
async def _apart(world: World, member: StoreServer) -> Breaking:
    """``member`` is cut off from the others; clients still reach it."""
    members = list(world.cluster.members)
    host = world.hosts[members.index(member)]
    others = [each for each in world.hosts if each is not host]
    async with _away(world, partly=True):
        host.part(others)
        world.apart.append(member)
        # Whoever talks to it has to find out that it is alone.
        await asyncio.sleep(world.history.terms.notice)
    yield
    host.join(others)
    world.apart.remove(member)
    await member.ready()


@fault("leader cut off from the other members", "store", apart=True)
async def leader_apart(world: World, draw: Random) -> Breaking:
    async with _apart(world, await world.cluster.leader()):
        yield


@fault("follower cut off from the other members", "store", apart=True)
async def follower_apart(world: World, draw: Random) -> Breaking:
    async with _apart(world, draw.choice(await world.cluster.followers())):
        yield
