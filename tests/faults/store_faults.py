"""Faults of the store itself: its members, its leader, its quorum, its data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from tests.faults import snapshots
from tests.faults.environment import Environment
from tests.faults.faults import LASTS, fault
from tests.stores.server import StoreServer

Breaking = AsyncGenerator[None, None]


@asynccontextmanager
async def _away(environment: Environment, *, partly: bool = False) -> AsyncGenerator[None, None]:
    """The store is away until it takes writes again after the block: for everybody, or for those
    who happen to talk to the wrong member."""
    await environment.whole()
    environment.history.note("store-shaky" if partly else "store-away", environment.kind)
    try:
        yield
    finally:
        await environment.store_answers()
        environment.history.note("store-back", environment.kind)


async def _begun(members: list[StoreServer]) -> None:
    """Starts them without waiting: the store is back when it answers, not when all of it does."""
    for member in members:
        await member.start(wait=False)


async def _ready(members: list[StoreServer]) -> None:
    for member in members:
        await member.ready()


@fault("leader killed", "store")
async def leader_killed(environment: Environment, draw: Random) -> Breaking:
    leader = await environment.cluster.leader()
    async with _away(environment, partly=True):
        await leader.kill()
    yield
    await _begun([leader])
    await _ready([leader])


@fault("follower killed", "store")
async def follower_killed(environment: Environment, draw: Random) -> Breaking:
    follower = draw.choice(await environment.cluster.followers())
    async with _away(environment, partly=True):
        await follower.kill()
        await asyncio.sleep(LASTS)
    yield
    await _begun([follower])
    await _ready([follower])


@fault("quorum lost and regained", "store")
async def quorum_lost(environment: Environment, draw: Random) -> Breaking:
    lost = draw.sample(list(environment.cluster.members), 2)
    async with _away(environment):
        for member in lost:
            await member.kill()
        await environment.says_stale()
        yield
        await _begun(lost)
    await _ready(lost)


@fault("store stopped for longer than TTL", "store")
async def store_stopped(environment: Environment, draw: Random) -> Breaking:
    members = list(environment.cluster.members)
    async with _away(environment):
        for member in members:
            await member.kill()
        await environment.says_stale()
        await asyncio.sleep(environment.history.terms.ttl + 2)
        yield
        await _begun(members)
    await _ready(members)


@fault("store restarted with its data", "store")
async def store_restarted(environment: Environment, draw: Random) -> Breaking:
    async with _away(environment):
        await environment.cluster.restart(wait=False)
    await environment.cluster.ready()
    yield


@fault("store restarted empty", "store")
async def store_wiped(environment: Environment, draw: Random) -> Breaking:
    async with _away(environment):
        await environment.cluster.restart(wipe=True)
        await environment.let_in()
    yield


@fault("store restored from an older snapshot", "store")
async def store_restored(environment: Environment, draw: Random) -> Breaking:
    file = environment.folder / "snapshot"
    await snapshots.save(environment.cluster, file)
    for number in range(40):
        # Revisions go up, to fall afterwards.
        await environment.cluster.answering[0].put(f"faults/{number}", "1")
    async with _away(environment):
        await snapshots.restore(environment.cluster, file)
        await environment.let_in()
        for agent in environment.agents:
            await agent.restart()  # or Consul believes the snapshot rather than its agents
    yield


@fault("leader frozen", "store")
async def leader_frozen(environment: Environment, draw: Random) -> Breaking:
    leader = await environment.cluster.leader()
    async with _away(environment, partly=True):
        await leader.pause()
        # Whoever talks to it has to find out that it does not answer.
        await asyncio.sleep(environment.history.terms.notice)
    yield
    await leader.resume()
    await leader.ready()


@fault("follower frozen", "store")
async def follower_frozen(environment: Environment, draw: Random) -> Breaking:
    follower = draw.choice(await environment.cluster.followers())
    async with _away(environment, partly=True):
        await follower.pause()
        await asyncio.sleep(environment.history.terms.notice)
    yield
    await follower.resume()
    await follower.ready()


@asynccontextmanager
async def _apart(environment: Environment, member: StoreServer) -> Breaking:
    """``member`` is cut off from the others; clients still reach it."""
    members = list(environment.cluster.members)
    host = environment.hosts[members.index(member)]
    others = [each for each in environment.hosts if each is not host]
    async with _away(environment, partly=True):
        host.part(others)
        environment.apart.append(member)
        # Whoever talks to it has to find out that it is alone.
        await asyncio.sleep(environment.history.terms.notice)
    yield
    host.join(others)
    environment.apart.remove(member)
    await member.ready()


@fault("leader cut off from the other members", "store", apart=True)
async def leader_apart(environment: Environment, draw: Random) -> Breaking:
    async with _apart(environment, await environment.cluster.leader()):
        yield


@fault("follower cut off from the other members", "store", apart=True)
async def follower_apart(environment: Environment, draw: Random) -> Breaking:
    async with _apart(environment, draw.choice(await environment.cluster.followers())):
        yield
