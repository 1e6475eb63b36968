"""Faults that only etcd knows: compaction, tokens, leases, alarms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random
from random import choice as draw_from
from typing import Any

from tests.faults.faults import a_desk, a_seat, fault, seen_within
from tests.faults.world import World
from tests.stores import EtcdServer
from tests.stores.etcd import encode
from tests.stores.waiting import until

Breaking = AsyncGenerator[None, None]


async def _asked(world: World, path: str, body: dict[str, Any], *, as_root: bool = True) -> Any:
    """What a member answers, once one can: another fault may be the store's."""

    async def answer() -> Any:
        member = draw_from([each for each in world.cluster.answering if each not in world.apart])
        assert isinstance(member, EtcdServer)
        return await member.call(path, body, as_root=as_root)

    return await until(answer, timeout=60, what=f"etcd answering {path}")


@fault("compaction under a sleeping watcher", "desk", "etcd", alone=True)
async def compacted(world: World, draw: Random) -> Breaking:
    async with a_desk(world, draw) as desk, a_seat(world, draw) as seat:
        world.history.note("desk-down", desk.name)
        await desk.program.freeze()
        await seat.server.control(fail=503)
        world.history.note("silent", seat.id)
        # Its change is among what the sleeper misses.
        await asyncio.sleep(2 * world.history.terms.probe_interval)
        # The watch's connection still holds what came before it slept: it is cut, too.
        await desk.way.become("cut")
        await desk.way.become("pass")
        answer = await _asked(world, "kv/range", {"key": encode("/faults")})
        await _asked(world, "kv/compaction", {"revision": answer["header"]["revision"]})
        yield
        await desk.program.thaw()
        world.history.note("desk-up", desk.name)
        await asyncio.sleep(2)
        await seat.server.control(fail=0)
        world.history.note("serves", seat.id)


@fault("all tokens expired", "store", "etcd")
async def tokens_expired(world: World, draw: Random) -> Breaking:
    """Authentication is turned off and on: whatever token was given before is refused."""
    await _asked(world, "auth/disable", {})
    await _asked(world, "auth/enable", {}, as_root=False)
    await asyncio.sleep(2)
    yield


@fault("lease revoked by hand", "seat", "etcd")
async def lease_revoked(world: World, draw: Random) -> Breaking:
    async with a_seat(world, draw) as seat:
        found = await _asked(world, "kv/range", {"key": encode(f"/mcp/live/{seat.id}")})
        for kv in found.get("kvs", []):
            await _asked(world, "lease/revoke", {"ID": kv["lease"]})
        world.history.note("note", seat.id, text=f"{len(found.get('kvs', []))} lease revoked")
        await world.shows([seat.id], "healthy", timeout=seen_within(world))
        yield


@fault("alarm NOSPACE while a server dies", "store", "etcd", alone=True)
async def nospace(world: World, draw: Random) -> Breaking:
    """etcd takes no more writes and renews leases as ever: what it cannot be told must end."""
    # Who is not registered now cannot be until it ends.
    await world.settled()
    async with a_seat(world, draw) as seat:
        members = await _asked(world, "cluster/member/list", {})
        full = {"memberID": members["members"][0]["ID"], "alarm": "NOSPACE"}
        await _asked(world, "maintenance/alarm", {"action": "ACTIVATE", **full})
        # What cannot be written ends by TTL, as if its sidecar had gone.
        world.history.note("parted", seat.id)
        await seat.server.control(fail=503)
        world.history.note("silent", seat.id)
        await world.shows([seat.id], "down", timeout=seen_within(world))
        yield
        await seat.server.control(fail=0)
        world.history.note("serves", seat.id)
        await _asked(world, "maintenance/alarm", {"action": "DEACTIVATE", **full})
        world.history.note("joined", seat.id)
