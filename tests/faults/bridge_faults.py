"""Faults of an instance that is bridged: of the server's process, and of the sidecar around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from random import Random

import psutil

from tests.faults.environment import Environment
from tests.faults.faults import fault, seen_within
from tests.stores.waiting import until_holds

Breaking = AsyncGenerator[None, None]

#: Seconds within which a server has ended whose sidecar was killed.
_ORPHANED = 5.0


@fault("bridged server killed", "bridged")
async def server_killed(environment: Environment, draw: Random) -> Breaking:
    """Its sidecar starts it again."""
    (bridged,) = environment.bridged
    for _ in range(draw.randint(1, 2)):
        killed = await bridged.serves()
        killed.kill()
        environment.history.note("silent", bridged.id)
        await bridged.serves(but=killed.pid)
        environment.history.note("serves", bridged.id)
        await environment.shows([bridged.id], "healthy", timeout=seen_within(environment))
    yield


@fault("bridged server stopped, and continued", "bridged")
async def server_stopped(environment: Environment, _: Random) -> Breaking:
    (bridged,) = environment.bridged
    stopped = await bridged.serves()
    stopped.suspend()
    environment.history.note("silent", bridged.id)
    await environment.shows([bridged.id], "down", timeout=seen_within(environment))
    yield
    stopped.resume()
    environment.history.note("serves", bridged.id)


@fault("bridged server killed while it is stopped", "bridged")
async def stopped_server_killed(environment: Environment, _: Random) -> Breaking:
    (bridged,) = environment.bridged
    stopped = await bridged.serves()
    stopped.suspend()
    environment.history.note("silent", bridged.id)
    await environment.shows([bridged.id], "down", timeout=seen_within(environment))
    yield
    stopped.kill()
    await bridged.serves(but=stopped.pid)
    environment.history.note("serves", bridged.id)


@fault("sidecar of a bridged server killed", "bridged")
async def sidecar_killed(environment: Environment, _: Random) -> Breaking:
    """Its server must not outlive it."""
    (bridged,) = environment.bridged
    servers = bridged.children()
    await bridged.sidecar.kill()
    environment.history.note("unwatched", bridged.id)
    environment.history.note("silent", bridged.id)
    await until_holds(
        lambda: not any(map(_lives, servers)), timeout=_ORPHANED, what="the end of its server"
    )
    await environment.shows([bridged.id], "down", timeout=seen_within(environment))
    yield
    await bridged.sidecar.start()
    await bridged.serves()
    environment.history.note("serves", bridged.id)
    environment.history.note("watched", bridged.id)


@fault("sidecar of a bridged server frozen", "bridged")
async def sidecar_frozen(environment: Environment, _: Random) -> Breaking:
    (bridged,) = environment.bridged
    await bridged.sidecar.freeze()
    environment.history.note("unwatched", bridged.id)
    await environment.shows([bridged.id], "down", timeout=seen_within(environment))
    yield
    await bridged.sidecar.thaw()
    environment.history.note("watched", bridged.id)


@fault("sidecar of a bridged server leaves in good order", "bridged")
async def sidecar_leaves(environment: Environment, _: Random) -> Breaking:
    (bridged,) = environment.bridged
    servers = bridged.children()
    environment.history.note("left", bridged.id)
    await bridged.sidecar.terminate()
    environment.history.note("unwatched", bridged.id)
    assert not any(map(_lives, servers)), "a server is there, and its sidecar is not"
    yield
    await bridged.sidecar.start()
    environment.history.note("watched", bridged.id)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
