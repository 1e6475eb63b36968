"""Faults of one instance: its sidecar, its MCP server, its way to the store, its clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

from tests.faults.environment import Environment, InstanceProcesses
from tests.faults.faults import LASTS, an_instance, fault, seen_within
from tests.stores.server import RequestRefused
from tests.stores.waiting import until

Breaking = AsyncGenerator[None, None]


@fault("sidecar killed", "instance")
async def sidecar_killed(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.sidecar.kill()
        environment.history.note("unwatched", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.sidecar.start()
        environment.history.note("watched", instance.id)


@fault("sidecar killed and started at once", "instance")
async def sidecar_restarted(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        environment.history.note("unwatched", instance.id)
        await instance.sidecar.kill()
        await instance.sidecar.start()
        environment.history.note("watched", instance.id)
        yield


@fault("sidecar frozen for longer than TTL", "instance")
async def sidecar_frozen(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.sidecar.freeze()
        environment.history.note("unwatched", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.sidecar.thaw()
        environment.history.note("watched", instance.id)


@fault("sidecar frozen while its server dies", "instance")
async def both_gone(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.sidecar.freeze()
        environment.history.note("unwatched", instance.id)
        await instance.server.kill()
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        await instance.sidecar.thaw()
        environment.history.note("watched", instance.id)
        yield
        await instance.server.start()
        environment.history.note("serves", instance.id)


@fault("server killed", "instance")
async def server_killed(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.server.kill()
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.start()
        environment.history.note("serves", instance.id)


@fault("server frozen", "instance")
async def server_frozen(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.server.pause()
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.resume()
        environment.history.note("serves", instance.id)


@fault("server hung", "instance")
async def server_hung(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.server.control(hang=True)
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.control(hang=False)
        environment.history.note("serves", instance.id)


@fault("server slow", "instance")
async def server_slow(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        environment.history.note("slow", instance.id)
        await instance.server.control(delay=0.5 * environment.history.terms.probe_interval)
        await environment.shows([instance.id], "degraded", timeout=seen_within(environment))
        yield
        await instance.server.control(delay=0.0)
        environment.history.note("serves", instance.id)


@fault("server answers errors", "instance")
async def server_erring(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        wishes: list[dict[str, int]] = [
            {"fail": 503},
            {"close": True},
            {"garbage": True},
            {"error": -32603},
        ]
        wish = draw.choice(wishes)
        environment.history.note("note", instance.id, text=f"answers {wish}")
        await instance.server.control(**wish)
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.control(fail=0, close=False, garbage=False, error=0)
        environment.history.note("serves", instance.id)


@fault("server restarted on another port", "instance")
async def server_moved(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.server.kill()
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.sidecar.terminate()
        environment.history.note("unwatched", instance.id)
        await environment.move(instance)
        environment.history.note("serves", instance.id)
        await instance.sidecar.start()
        environment.history.note("watched", instance.id)


@fault("sidecar leaves in good order", "instance")
async def sidecar_leaves(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        environment.history.note("left", instance.id)
        await instance.sidecar.terminate()
        environment.history.note("unwatched", instance.id)
        yield
        await instance.sidecar.start()
        environment.history.note("watched", instance.id)


@fault("sidecar cut off from the store", "instance")
async def sidecar_cut(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.route.become(draw.choice(("cut", "refuse")))
        environment.history.note("parted", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.route.become("pass")
        environment.history.note("joined", instance.id)


@fault("sidecar half-open to the store, its server dead", "instance")
async def sidecar_half_open(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        await instance.route.become("half-open")
        environment.history.note("parted", instance.id)
        await instance.server.kill()
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.start()
        environment.history.note("serves", instance.id)
        await instance.route.become("pass")
        environment.history.note("joined", instance.id)


@fault("slow drip between sidecar and store", "instance")
async def sidecar_dripping(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        environment.history.note("slow", instance.id)
        await instance.route.become("drip", 0.05)
        await asyncio.sleep(LASTS)
        yield
        await instance.route.become("pass")
        environment.history.note("serves", instance.id)


@fault("sidecar's clock stepped", "instance")
async def sidecar_clock(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        by = draw.choice((-7200.0, -30.0, 30.0, 7200.0))
        environment.history.note("note", instance.id, text=f"its clock is off by {by:g} s")
        instance.clock.step(by)
        # A change under the wrong clock has to be seen as any other.
        await instance.server.control(fail=503)
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        await instance.server.control(fail=0)
        environment.history.note("serves", instance.id)
        await environment.shows([instance.id], "healthy", timeout=seen_within(environment))
        yield
        instance.clock.step(0)


@fault("maintenance mode set by somebody else", "instance", "consul")
async def maintenance(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        environment.history.note("withheld", instance.id)
        await _maintained(instance, "enable=true&reason=faults")
        await environment.shows([instance.id], "draining", timeout=seen_within(environment))
        yield
        await _maintained(instance, "enable=false")
        environment.history.note("granted", instance.id)


async def _maintained(instance: InstanceProcesses, how: str) -> None:
    """Its agent may hang with its server, or not know the instance for a moment."""
    agent = instance.agent
    assert agent is not None

    async def taken() -> bool:
        try:
            await agent.api("PUT", f"/v1/agent/service/maintenance/{instance.id}?{how}")
        except RequestRefused:
            return False
        return True

    await until(taken, timeout=180, what="a change of maintenance mode")
