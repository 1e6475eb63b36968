"""Faults that only Consul knows: client agents, and tokens that are rotated or revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from tests.faults.environment import BridgedProcesses, Environment, InstanceProcesses
from tests.faults.faults import LASTS, a_facade, an_instance, fault, seen_within
from tests.stores import ConsulAgent, ConsulServer
from tests.stores.waiting import until

Breaking = AsyncGenerator[None, None]


@asynccontextmanager
async def _agent_away(
    environment: Environment, agent: ConsulAgent
) -> AsyncGenerator[list[str], None]:
    """Whoever uses ``agent`` is parted from the store until it serves again after the block."""
    listed: list[InstanceProcesses | BridgedProcesses] = [
        *environment.instances,
        *environment.bridged,
    ]
    instances = [each.id for each in listed if each.agent is agent]
    facades = [each.name for each in environment.facades if each.agent is agent]
    for id in instances:
        environment.history.note("parted", id)
    for name in facades:
        environment.history.note("facade-parted", name)
    try:
        yield instances
    finally:
        await agent.ready()

        async def passes_on() -> bool:
            return await environment.passes_on(agent)

        await until(passes_on, timeout=60, what="the agent telling the servers what it is told")
        for id in instances:
            environment.history.note("joined", id)
        for name in facades:
            environment.history.note("facade-joined", name)


async def _others_show(environment: Environment, agent: ConsulAgent, ids: list[str]) -> None:
    facades = [each for each in environment.facades if each.agent is not agent]
    await environment.shows(ids, "down", timeout=seen_within(environment), facades=facades)


async def _known_to_have_failed(environment: Environment, agent: ConsulAgent) -> None:
    member = environment.cluster.answering[0]
    assert isinstance(member, ConsulServer)

    async def critical() -> bool:
        checks = (await member.api("GET", f"/v1/health/node/{agent.name}?consistent")).json()
        return any(
            each["CheckID"] == "serfHealth" and each["Status"] == "critical" for each in checks
        )

    await until(critical, timeout=60, what=f"{agent.name} being known to have failed")


@fault("agent restarted", "store", "consul")
async def agent_restarted(environment: Environment, draw: Random) -> Breaking:
    agent = draw.choice(environment.agents)
    async with _agent_away(environment, agent):
        await agent.kill()
        await agent.start()
    yield


@fault("agent wiped", "store", "consul")
async def agent_wiped(environment: Environment, draw: Random) -> Breaking:
    agent = draw.choice(environment.agents)
    async with _agent_away(environment, agent):
        await agent.kill()
        # Its name is reserved for the node id that it had until that one is known to have failed.
        await _known_to_have_failed(environment, agent)
        await agent.wipe()
        await agent.start()
    yield


@fault("agent killed without leave", "store", "consul")
async def agent_killed(environment: Environment, draw: Random) -> Breaking:
    agent = draw.choice(environment.agents)
    async with _agent_away(environment, agent) as instances:
        await agent.kill()
        await _others_show(environment, agent, instances)
        yield
        await agent.start()


@fault("agent frozen", "store", "consul")
async def agent_frozen(environment: Environment, draw: Random) -> Breaking:
    agent = draw.choice(environment.agents)
    async with _agent_away(environment, agent) as instances:
        await agent.pause()
        await _others_show(environment, agent, instances)
        await environment.says_stale(*(each for each in environment.facades if each.agent is agent))
        yield
        await agent.resume()


@fault("token revoked and given back", "store", "consul")
async def token_revoked(environment: Environment, draw: Random) -> Breaking:
    """Everybody's."""
    environment.history.note("store-away", "consul")
    await environment.tokens.revoke()
    await environment.says_stale()
    yield
    await environment.tokens.give_back()
    environment.history.note("store-back", "consul")


@fault("sidecar's token rotated", "instance", "consul")
async def sidecar_token_rotated(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await environment.tokens.rotate(f"sidecar-{instance.id}", pause=draw.uniform(0.0, 1.0))
        # A change under the new token has to be seen as any other.
        await instance.server.control(fail=503)
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.control(fail=0)
        environment.history.note("serves", instance.id)


@fault("sidecar's token revoked, its server dead", "instance", "consul")
async def sidecar_token_revoked(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        program = f"sidecar-{instance.id}"
        await environment.tokens.revoke(program)
        environment.history.note("parted", instance.id)
        await instance.server.kill()
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.start()
        environment.history.note("serves", instance.id)
        await environment.tokens.give_back(program)
        environment.history.note("joined", instance.id)


@fault("facade's token rotated", "facade", "consul")
async def facade_token_rotated(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        await environment.tokens.rotate(facade.name, pause=draw.uniform(0.0, 1.0))
        await asyncio.sleep(LASTS)
        yield


@fault("facade's token revoked and given back", "facade", "consul")
async def facade_token_revoked(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade:
        environment.history.note("facade-parted", facade.name)
        await environment.tokens.revoke(facade.name)
        await environment.says_stale(facade)
        yield
        await environment.tokens.give_back(facade.name)
        environment.history.note("facade-joined", facade.name)
