"""``POST /drain``: the sidecar leaves the store before its supervisor stops anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from tests.servers.process import McpServer
from tests.sidecar.harness import Seen, sidecar
from tests.stores import ports
from tests.stores.waiting import repeat, until


@pytest.fixture
def port() -> Iterator[int]:
    """A port for the sidecar's own answers."""
    port = ports.draw()
    yield port.number
    port.release()


async def asked(
    port: int, path: str, method: str = "GET", *, by: str = "127.0.0.1", **headers: str
) -> int:
    """The status that the sidecar answers with."""
    connector = aiohttp.TCPConnector(local_addr=(by, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.request(method, f"http://127.0.0.1:{port}{path}", headers=headers) as response,
    ):
        return response.status


async def test_leaves_the_store_and_stays_until_it_is_stopped(
    store: EmbeddedStore, server: McpServer, seen: Seen, port: int
) -> None:
    async with sidecar(store, server.url, health_port=port, drain=1.0) as running:
        await seen.until_status(Status.HEALTHY, within=5.0)
        began = time.monotonic()
        draining = asyncio.create_task(asked(port, "/drain", "POST"))
        await seen.until_status(Status.DRAINING, within=1.0)
        assert not draining.done()
        assert await draining == 200
        assert time.monotonic() - began >= 1.0
        await seen.until_gone(within=1.0)
        assert await asked(port, "/drain", "POST") == 200  # again is no error
        assert await asked(port, "/healthz") == 200
        assert await asked(port, "/readyz") == 503
        # The server lives and answers: longer than a probe takes to find it.

        async def not_listed() -> None:
            assert seen.only is None

        await repeat(not_listed, every=0.05, seconds=1.5)
        assert not running.task.done()
        running.stop()
        assert await running.code(1.0) == 0
    assert seen.statuses() == ["healthy", "draining", "gone"]


async def test_may_be_told_to_stop_meanwhile(
    store: EmbeddedStore, server: McpServer, seen: Seen, port: int
) -> None:
    async with sidecar(store, server.url, health_port=port, drain=1.0) as running:
        await seen.until_status(Status.HEALTHY, within=5.0)
        draining = asyncio.create_task(asked(port, "/drain", "POST"))
        await seen.until_status(Status.DRAINING, within=1.0)
        running.stop()
        assert await running.code(3.0) == 0
        assert seen.statuses() == ["healthy", "draining", "gone"]
        assert await draining == 200


async def test_before_anything_is_registered(store: EmbeddedStore, seen: Seen, port: int) -> None:
    nobody = ports.draw()
    async with sidecar(
        store, f"http://127.0.0.1:{nobody.number}/mcp", health_port=port, drain=30.0
    ) as running:

        async def drained() -> bool:
            assert not running.task.done()
            assert await asked(port, "/drain", "POST") == 200
            return True

        await until(drained, timeout=10, what="the health port being open")
        running.stop()
        assert await running.code(1.0) == 0
    nobody.release()


async def test_only_this_machine_may_ask_and_no_web_page(
    store: EmbeddedStore, server: McpServer, seen: Seen, port: int
) -> None:
    async with sidecar(store, server.url, health_port=port):
        await seen.until_status(Status.HEALTHY, within=5.0)
        # Istio's proxy hands on other machines' requests from this address.
        assert await asked(port, "/drain", "POST", by="127.0.0.6") == 403
        assert await asked(port, "/drain", "POST", Origin="https://example.com") == 403
        assert await asked(port, "/drain") == 405
        assert await asked(port, "/healthz", by="127.0.0.6") == 200
        assert seen.statuses() == ["healthy"]


async def test_a_host_that_is_none_is_one_sentence(
    store: EmbeddedStore, server: McpServer, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(
        store, server.url, health_port=port, health_host="no-such-host.invalid"
    ) as running:
        assert await running.code(5.0) == 2
    assert "cannot listen on 'no-such-host.invalid' for health checks" in caplog.text
    assert "--health-host" in caplog.text
