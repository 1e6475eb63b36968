"""The store may go, come back, forget and refuse: the sidecar probes on and is there again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from mcp_discovery.health import Status
from tests.servers.process import McpServer
from tests.sidecar.faulty import FaultyStore
from tests.sidecar.harness import Seen, sidecar, watching
from tests.stores.waiting import until


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    async with FaultyStore() as faulty:
        yield faulty


@pytest.fixture
async def seen(store: FaultyStore) -> AsyncIterator[Seen]:
    async with watching(store) as found:
        yield found


async def asked(server: McpServer) -> int:
    """How often the server was asked something: a probe may ask for any of its lists."""
    return sum((await server.control())["counts"].values())


async def test_goes_on_probing_while_the_store_is_away(
    store: FaultyStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(store, server.url, ttl=2.0, probe_interval=0.6):
        await seen.until_status(Status.HEALTHY, within=3.0)
        store.away = True
        await seen.until_status(Status.DOWN, within=4.0)
        before = await asked(server)

        async def probed() -> bool:
            return await asked(server) >= before + 5

        await until(probed, timeout=3.0, what="five more probes")
        store.away = False
        await seen.until_status(Status.HEALTHY, within=5.0)
    assert caplog.text.count("the store is away") == 1
    assert caplog.text.count("answers again") == 1


async def test_what_happened_meanwhile_is_told_when_the_store_is_back(
    store: FaultyStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, ttl=10.0):
        await seen.until_status(Status.HEALTHY, within=3.0)
        store.away = True
        await server.control(fail=503, tools=4)

        async def tried() -> bool:
            return store.calls["heartbeat"] >= 2

        await until(tried, timeout=5.0, what="attempts")
        assert seen.only is not None
        assert seen.only.health.status is Status.HEALTHY
        store.away = False
        down = await seen.until_status(Status.DOWN, within=4.0)
        assert down.health.reason == "HTTP 503 from the MCP endpoint"


async def test_who_lapses_while_it_drains_takes_its_record_along(
    store: FaultyStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, ttl=1.0, probe_interval=0.3, drain=20.0) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        running.stop()
        await seen.until_status(Status.DRAINING, within=2.0)
        store.away = True
        await seen.until_status(Status.DOWN, within=4.0)
        store.away = False
        await seen.until_gone(within=3.0)
        assert await running.code(3.0) == 0


async def test_registers_anew_when_the_store_forgot(
    store: FaultyStore, seen: Seen, server: McpServer
) -> None:
    # A long TTL: it is not its end that brings the sidecar back.
    async with sidecar(store, server.url, ttl=60.0, probe_interval=20.0):
        before = await seen.until_status(Status.HEALTHY, within=3.0)
        wiped = time.monotonic()
        await store.wipe()
        await seen.until_gone(within=1.0)
        after = await seen.until_status(Status.HEALTHY, within=5.0)
        assert time.monotonic() - wiped < 5.0
        assert after.lease == before.lease
        assert await store.document(str(after.record.capabilities.digest))


async def test_a_down_server_is_registered_anew_as_down(
    store: FaultyStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(fail=503)
        await seen.until_status(Status.DOWN, within=4.0)  # at the second such answer
        await store.wipe()
        await seen.until_gone(within=1.0)
        await seen.until_status(Status.DOWN, within=3.0)
        assert seen.statuses() == ["healthy", "degraded", "down", "gone", "down"]


async def test_a_refusing_store_is_tried_again(
    store: FaultyStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    store.denied = True
    async with sidecar(store, server.url):

        async def refused() -> bool:
            return store.calls["register"] >= 2

        await until(refused, timeout=6.0, what="two attempts")
        assert caplog.text.count("the store refuses") == 1
        store.denied = False
        await seen.until_status(Status.HEALTHY, within=10.0)


async def test_a_hung_store_delays_no_probe_and_no_stop(
    store: FaultyStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, drain=0.5) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        store.hung = True

        async def hanging() -> bool:
            return store.calls["heartbeat"] >= 1

        await until(hanging, timeout=3.0, what="a heartbeat that hangs")
        before = await asked(server)

        async def probed() -> bool:
            return await asked(server) >= before + 4

        await until(probed, timeout=8.0, what="probes, of which one comes in each interval")
        stopped = time.monotonic()
        running.stop()
        assert await running.code(3.0) == 0
        assert time.monotonic() - stopped < 0.5 + 1.0


async def test_stops_in_time_while_the_store_is_away(
    store: FaultyStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(store, server.url, drain=1.0) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        store.away = True
        stopped = time.monotonic()
        running.stop()
        assert await running.code(3.0) == 0
        assert time.monotonic() - stopped < 1.0 + 1.0
        assert store.calls["deregister"] >= 2
    assert store.calls["drain"] >= 2
    assert caplog.text.count("does not reach the store while draining") == 1


async def test_a_store_that_returns_while_draining_is_left_in_good_order(
    store: FaultyStore, seen: Seen, server: McpServer
) -> None:
    async with sidecar(store, server.url, drain=2.0) as running:
        await seen.until_status(Status.HEALTHY, within=3.0)
        store.away = True
        running.stop()

        async def tried() -> bool:
            return store.calls["drain"] >= 1

        await until(tried, timeout=1.0, what="an attempt to drain")
        store.away = False
        await seen.until_status(Status.DRAINING, within=2.0)
        assert await running.code(3.0) == 0
        await seen.until_gone(within=0.5)


async def test_a_record_that_the_store_cannot_take(
    store: FaultyStore, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    store.picky = 2
    async with sidecar(store, server.url) as running:
        assert await running.code(3.0) == 2
    assert "over the store's 2" in caplog.text


async def test_a_changed_record_that_the_store_cannot_take_leaves_the_old_one(
    store: FaultyStore, seen: Seen, server: McpServer, caplog: pytest.LogCaptureFixture
) -> None:
    store.picky = 3
    async with sidecar(store, server.url):
        await seen.until_status(Status.HEALTHY, within=3.0)
        await server.control(tools=4)

        async def refused() -> bool:
            return "the old one stays" in caplog.text

        await until(refused, timeout=8.0, what="the refusal")
        await store.wipe()
        await seen.until_gone(within=1.0)
        again = await seen.until_status(Status.HEALTHY, within=4.0)
        assert len(again.record.capabilities.tools) == 3
        await server.control(tools=1)
        await seen.until(
            lambda one: len(one.record.capabilities.tools) == 1, within=8.0, what="1 tool"
        )
