"""Faults that only etcd knows: compaction, tokens, passwords, leases, alarms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

from tests.faults.environment import Environment
from tests.faults.faults import LASTS, a_facade, an_instance, fault, seen_within
from tests.faults.members import Members
from tests.stores import EtcdCluster
from tests.stores.etcd import encode

Breaking = AsyncGenerator[None, None]


async def _asked(
    environment: Environment, path: str, body: dict[str, Any], *, as_root: bool = True
) -> Any:
    """What a member answers, once one can: another fault may be the store's."""
    assert isinstance(environment.cluster, EtcdCluster)
    members = Members(environment.cluster, environment.apart)
    return await members.until(
        lambda member: member.call(path, body, as_root=as_root), f"etcd answering {path}"
    )


@fault("compaction under a sleeping watcher", "facade", "etcd", alone=True)
async def compacted(environment: Environment, draw: Random) -> Breaking:
    async with a_facade(environment, draw) as facade, an_instance(environment, draw) as instance:
        environment.history.note("facade-down", facade.name)
        await facade.program.freeze()
        await instance.server.control(fail=503)
        environment.history.note("silent", instance.id)
        # Its change is among what the frozen facade misses.
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        # The watch's connection still holds what came before it slept: it is cut, too.
        await facade.route.become("cut")
        await facade.route.become("pass")
        answer = await _asked(environment, "kv/range", {"key": encode("/faults")})
        await _asked(environment, "kv/compaction", {"revision": answer["header"]["revision"]})
        yield
        await facade.program.thaw()
        environment.history.note("facade-up", facade.name)
        await asyncio.sleep(LASTS)
        await instance.server.control(fail=0)
        environment.history.note("serves", instance.id)


@fault("all tokens expired", "store", "etcd")
async def tokens_expired(environment: Environment, draw: Random) -> Breaking:
    """Authentication is turned off and on: whatever token was given before is refused."""
    await _asked(environment, "auth/disable", {})
    await _asked(environment, "auth/enable", {}, as_root=False)
    await asyncio.sleep(LASTS)
    yield


@fault("password rotated", "store", "etcd")
async def password_rotated(environment: Environment, draw: Random) -> Breaking:
    await environment.password.rotate()
    await asyncio.sleep(LASTS)
    yield


@fault("lease revoked by hand", "instance", "etcd")
async def lease_revoked(environment: Environment, draw: Random) -> Breaking:
    async with an_instance(environment, draw) as instance:
        found = await _asked(environment, "kv/range", {"key": encode(f"/mcp/live/{instance.id}")})
        for kv in found.get("kvs", []):
            await _asked(environment, "lease/revoke", {"ID": kv["lease"]})
        environment.history.note(
            "note", instance.id, text=f"{len(found.get('kvs', []))} lease revoked"
        )
        await environment.shows([instance.id], "healthy", timeout=seen_within(environment))
        yield


@fault("alarm NOSPACE while a server dies", "store", "etcd", alone=True)
async def nospace(environment: Environment, draw: Random) -> Breaking:
    """etcd takes no more writes and renews leases as ever: what it cannot be told must end."""
    # Who is not registered now cannot be until it ends.
    await environment.settled()
    async with an_instance(environment, draw) as instance:
        members = await _asked(environment, "cluster/member/list", {})
        full = {"memberID": members["members"][0]["ID"], "alarm": "NOSPACE"}
        await _asked(environment, "maintenance/alarm", {"action": "ACTIVATE", **full})
        # What cannot be written ends by TTL, as if its sidecar had gone.
        environment.history.note("parted", instance.id)
        await instance.server.control(fail=503)
        environment.history.note("silent", instance.id)
        await environment.shows([instance.id], "down", timeout=seen_within(environment))
        yield
        await instance.server.control(fail=0)
        environment.history.note("serves", instance.id)
        await _asked(environment, "maintenance/alarm", {"action": "DEACTIVATE", **full})
        environment.history.note("joined", instance.id)
