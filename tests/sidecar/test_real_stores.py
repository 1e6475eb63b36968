"""The sidecar's life on a real Consul and a real etcd."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.health import Status
from tests.servers.process import McpServer, odd, sdk
from tests.sidecar.harness import Seen, sidecar, watching
from tests.stores import ConsulServer, EtcdServer, StoreServer

pytestmark = pytest.mark.parametrize("kind", [ConsulServer, EtcdServer])

INTERVAL = 1.0
#: What the store's own way to the watcher may add.
MARGIN = 0.5
#: Seconds for a watcher to be back after its store was away: the watcher's own backoff.
WATCHER = 3.0


@asynccontextmanager
async def watched(kind: type[StoreServer]) -> AsyncIterator[tuple[StoreServer, Seen]]:
    """A store server and what is seen of it."""
    async with (
        kind("node") as server,
        open_store(server.store_url) as store,
        watching(store) as seen,
    ):
        yield server, seen


async def test_the_whole_life(kind: type[StoreServer], tmp_path: Path) -> None:
    server = McpServer(("-m", "tests.servers.odd", "--tools", "400", "--page", "400"), tmp_path)
    async with (
        watched(kind) as (node, seen),
        open_store(node.store_url) as store,
        sidecar(store, server.url, tags=("odd",), drain=1.0) as running,
    ):
        try:
            await server.start()
            one = await seen.until_status(Status.HEALTHY, within=2.0)
            assert len(one.record.capabilities.tools) == 400
            document = await store.document(str(one.record.capabilities.digest))
            assert len(document.tools) == 400

            await server.control(hang=True)
            # Late after an interval and the slow-after time, and down at the second silence.
            await seen.until_status(Status.DEGRADED, within=INTERVAL + 0.25 + MARGIN)
            down = await seen.until_status(Status.DOWN, within=2 * INTERVAL + MARGIN)
            assert down.health.reason == "no answer within 0.7 s"
            await server.control(hang=False)
            await seen.until_status(Status.HEALTHY, within=3 * INTERVAL + MARGIN)

            await server.control(tools=0)
            await seen.until(
                lambda one: not one.record.capabilities.tools,
                within=10 * INTERVAL,  # two, and what was asked to connect anew is made up for
                what="no tools",
            )
            await server.kill()
            await seen.until_status(Status.DOWN, within=INTERVAL + MARGIN)
            await seen.until(
                lambda one: one.health.reason == "connection refused", within=3.0, what="the reason"
            )
            await server.start()
            await seen.until_status(Status.HEALTHY, within=2.0)

            stopped = time.monotonic()
            running.stop()
            await seen.until_status(Status.DRAINING, within=0.5)
            assert await running.code(3.0) == 0
            await seen.until_gone(within=0.5)
            assert time.monotonic() - stopped < 1.0 + 1.0
        finally:
            await server.close()


@pytest.mark.parametrize("wipe", [False, True])
async def test_is_back_within_five_seconds_of_a_restart(
    kind: type[StoreServer], wipe: bool
) -> None:
    async with (
        sdk() as server,
        watched(kind) as (node, seen),
        open_store(node.store_url) as store,
        sidecar(store, server.url, ttl=6.0, probe_interval=2.0),
    ):
        await seen.until_status(Status.HEALTHY, within=5.0)
        await node.kill()
        if wipe:
            await node.wipe()
        await server.offer_tools(5, notify=False)
        await node.start()
        async with open_store(node.store_url) as fresh, watching(fresh) as anew:
            await anew.until(
                lambda one: one.health.status is Status.HEALTHY, within=5.0, what="being back"
            )
            await anew.until(
                lambda one: len(one.record.capabilities.tools) == 5,
                within=2 * 2.0 + WATCHER,
                what="the new tools",
            )
        await seen.until_status(Status.HEALTHY, within=WATCHER)


async def test_one_id_is_held_by_one(kind: type[StoreServer]) -> None:
    async with (
        odd() as server,
        odd() as other,
        watched(kind) as (node, seen),
        open_store(node.store_url) as store,
        open_store(node.store_url) as second_store,
        sidecar(store, server.url, id="the-one", ttl=2.0, probe_interval=0.6) as first,
    ):
        await seen.until_status(Status.HEALTHY, within=5.0)
        async with sidecar(
            second_store, other.url, id="the-one", ttl=1.0, probe_interval=0.4
        ) as second:
            assert await second.code(8.0) == 5
        assert set(seen.statuses()) == {"healthy"}
        async with sidecar(second_store, other.url, id="the-one", ttl=2.0, probe_interval=0.6):
            await first.crash()
            await seen.until(
                lambda one: (
                    one.record.endpoint.url == other.url and one.health.status is Status.HEALTHY
                ),
                within=2.0 + 2.0 + 1.0,
                what="being taken over",
            )
