"""Sidecars whose rights in etcd end while they run: what stays listed, and what they say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Status
from tests.facade.plain import HealthServer
from tests.sidecar.harness import Seen, sidecar, watching
from tests.sidecar.test_healthz import asked
from tests.stores import binaries, ports
from tests.stores.binaries import Release
from tests.stores.etcd import EtcdServer, encode, prefix_end
from tests.stores.fixtures import over_releases as pytest_generate_tests
from tests.stores.waiting import NotYet, until

__all__ = ["pytest_generate_tests"]

#: Nobody is late here, however busy the machine is.
TTL, INTERVAL, SLOW_AFTER = 5.0, 1.5, 30.0
#: What is done to the user of the sidecar of that name, and the cause that it is known by.
CAUSES = {"password": "denied", "user": "denied", "role": "forbidden"}


async def take_away(etcd: EtcdServer, user: str) -> None:
    match user:
        case "password":
            await etcd.call("auth/user/changepw", {"name": user, "password": "another"})
        case "user":
            await etcd.call("auth/user/delete", {"name": user})
        case "role":
            span = {"key": encode("/mcp/"), "range_end": encode(prefix_end("/mcp/"))}
            await etcd.call("auth/role/revoke", {"role": user} | span)


async def give_back(etcd: EtcdServer, user: str, file: Path) -> None:
    match user:
        case "password":
            file.write_text("another")
        case "user":
            await etcd.call("auth/user/add", {"name": user, "password": "first"})
            await etcd.call("auth/user/grant", {"user": user, "role": user})
        case "role":
            grant = {"permType": "READWRITE", "key": encode("/mcp/")}
            grant |= {"range_end": encode(prefix_end("/mcp/"))}
            await etcd.call("auth/role/grant", {"name": user, "perm": grant})


class Sidecars:
    """A sidecar for each cause, each with a user, a server and a port for health checks."""

    def __init__(self, etcd: EtcdServer, seen: Seen) -> None:
        self.etcd = etcd
        self.seen = seen
        self.servers: dict[str, HealthServer] = {}
        self.files: dict[str, Path] = {}
        self.ports: dict[str, int] = {}

    async def until(self, status: Status, *ids: str, within: float = 20.0) -> None:
        async def so() -> bool:
            found = [self.seen.instances.get(id) for id in ids or CAUSES]
            if {None if each is None else each.health.status for each in found} != {status}:
                raise NotYet(str(found))
            return True

        await until(so, timeout=within, what=f"being {status}")

    async def until_told(self) -> None:
        """Until each names its cause, as a series and in words."""

        async def told() -> bool:
            for id, cause in CAUSES.items():
                series = f'mcp_discovery_sidecar_store_trouble{{cause="{cause}"}} 1'
                if series not in await self.metrics(id):
                    raise NotYet(f"{id}: no {series}")
            return True

        await until(told, timeout=10, what="the causes being named")

    async def metrics(self, id: str) -> str:
        import aiohttp

        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{self.ports[id]}/metrics") as response,
        ):
            return await response.text()


@pytest.fixture
async def sidecars(release: Release, tmp_path: Path) -> AsyncIterator[Sidecars]:
    async with AsyncExitStack() as stack:
        etcd = EtcdServer(auth=True, program=binaries.find("etcd", release))
        await stack.enter_async_context(etcd)
        root = StoreOptions(user=etcd.user, password=etcd.password)
        store = await stack.enter_async_context(EtcdStore(f"{etcd.store_url}/mcp", root))
        found = Sidecars(etcd, await stack.enter_async_context(watching(store)))
        for id in CAUSES:
            await etcd.add_user(id, "first", prefix="/mcp/")
            server = found.servers[id] = HealthServer()
            await server.start()
            stack.push_async_callback(server.stop)
            port = ports.draw()
            stack.callback(port.release)
            found.ports[id] = port.number
            found.files[id] = tmp_path / id
            found.files[id].write_text("first")
            options = StoreOptions(user=id, password_file=str(found.files[id]))
            own = await stack.enter_async_context(EtcdStore(f"{etcd.store_url}/mcp", options))
            terms: dict[str, Any] = {"id": id, "name": id, "ttl": TTL}
            terms |= {"probe_interval": INTERVAL, "slow_after": SLOW_AFTER}
            url = f"{server.base_url}/mcp"
            await stack.enter_async_context(sidecar(own, url, health_port=port.number, **terms))
        yield found


async def test_rights_that_end_are_named_and_what_still_renews_stays_listed(
    sidecars: Sidecars, release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await sidecars.until(Status.HEALTHY)
    for id in CAUSES:
        await take_away(sidecars.etcd, id)
    await sidecars.until_told()
    if release == "debian":  # etcd 3.5.16 renews a lease for everybody
        await asyncio.sleep(2 * TTL)  # what does not happen meanwhile is what is tested
        await sidecars.until(Status.HEALTHY, within=0.1)
        for id in CAUSES:
            status, body = await asked(sidecars.ports[id], "/readyz")
            assert (status, body["status"]) == (200, "ready")
            assert "etcd refuses" in body["problem"] or "permission denied" in body["problem"]
        assert caplog.text.count("is renewed all the same") == len(CAUSES)
        # What is worse than listed cannot be said, so it falls silent.
        await sidecars.servers["password"].stop()
        await sidecars.until(Status.DOWN, "password")
        assert sidecars.seen.instances["password"].health.silent
        await sidecars.servers["password"].start()
    else:  # 3.6.16 renews it for those alone who may write what is on it
        await sidecars.until(Status.DOWN)
        assert all(one.health.silent for one in sidecars.seen.instances.values())
        for id in CAUSES:
            assert (await asked(sidecars.ports[id], "/readyz"))[0] == 503
    refusals = [one for one in caplog.records if "the store refuses" in one.getMessage()]
    assert len(refusals) <= 2 * len(CAUSES), "a refusal is told once, not at each heartbeat"
    for id, file in sidecars.files.items():
        await give_back(sidecars.etcd, id, file)
    await sidecars.until(Status.HEALTHY, within=10)
    for id, server in sidecars.servers.items():
        await server.stop()
        await sidecars.until(Status.DOWN, id)
        assert sidecars.seen.instances[id].health.reason == "connection refused"
        assert "store_trouble{" not in await sidecars.metrics(id)
