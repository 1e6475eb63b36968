"""The whole system as an operator starts it: MCP server, sidecar, store, facade, agent.

Everything is a process of its own. The times are the promises of the README, seen from an agent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import ENVIRONMENT, ROOT, AskedFacade, Running, facade, running
from tests.servers.process import McpServer, example, odd, sdk
from tests.stores import ConsulServer, EtcdServer
from tests.stores.waiting import bounded, until

TTL = 6.0
INTERVAL = TTL / 3
#: What the store and the polling of this test may add.
MARGIN = 1.0


@dataclass
class Cluster:
    """A store, a facade over it, and a folder for logs."""

    store_url: str
    facade: AskedFacade
    folder: Path
    server: ConsulServer | EtcdServer | None

    @asynccontextmanager
    async def sidecar(self, url: str, *options: str) -> AsyncIterator[Running]:
        """A sidecar of the instance ``one``."""
        given = ("--id", "one", "--name", "thing", "--ttl", f"{TTL:g}", "--drain", "1")
        async with running(
            self.folder, "sidecar", "--store", self.store_url, "--url", url, *given, *options
        ) as process:
            yield process


@pytest.fixture(params=["facade", "consul", "etcd"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        server: ConsulServer | EtcdServer | None = None
        store_url = "embedded:"
        if request.param != "facade":
            server = ConsulServer() if request.param == "consul" else EtcdServer()
            await stack.enter_async_context(server)
            store_url = server.store_url
        asked = await stack.enter_async_context(facade(tmp_path, store_url))
        yield Cluster(asked.url if server is None else store_url, asked, tmp_path, server)


async def test_the_life_of_a_server_that_nobody_touched(cluster: Cluster, tmp_path: Path) -> None:
    server = McpServer(("-m", "tests.servers.odd", "--tools", "12"), tmp_path)
    async with cluster.sidecar(server.url, "--tag", "things") as sidecar:
        try:
            await server.start()
            seen = await cluster.facade.until_status("one", "healthy", 2 + MARGIN)
            assert seen["tags"] == ["things"]
            assert seen["url"] == server.url
            assert len(seen["capabilities"]["tools"]) == 12
            found = await cluster.facade.servers("tags=things,other")
            assert list(found) == ["one"]
            offered = await cluster.facade.get("/servers/one/capabilities")
            assert len(offered["tools"]) == 12
            assert offered["tools"][0]["inputSchema"]["type"] == "object"

            await server.control(fail=503)
            await cluster.facade.until_status("one", "degraded", INTERVAL + MARGIN)
            down = await cluster.facade.until_status("one", "down", 2 * INTERVAL + MARGIN)
            assert "HTTP 503" in down["reason"]
            assert await cluster.facade.servers("tags=things") == {}
            await server.control(fail=None)
            await cluster.facade.until_status("one", "healthy", INTERVAL + MARGIN)

            await server.pause()
            # It was just connected to for the second time, and that is made up for.
            await cluster.facade.until_status("one", "degraded", 2 * INTERVAL + 0.5 + MARGIN)
            await cluster.facade.until_status("one", "down", 2 * INTERVAL + MARGIN)
            await server.resume()
            await cluster.facade.until_status("one", "healthy", 2 * INTERVAL + MARGIN)

            await server.kill()
            down = await cluster.facade.until_status("one", "down", INTERVAL + MARGIN)
            assert down["reason"].startswith("connection re")  # refused, or reset at first
            await server.start()
            await cluster.facade.until_status("one", "healthy", INTERVAL + MARGIN)

            began = time.monotonic()
            leaving = asyncio.create_task(sidecar.stop())
            await cluster.facade.until_status("one", "draining", 1)
            await cluster.facade.until_status("one", None, 2)
            assert await leaving == 0
            assert time.monotonic() - began < 1 + 1 + MARGIN
        finally:
            await server.close()


@pytest.mark.parametrize("tools", [0, 400])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_eras_and_sizes(cluster: Cluster, era: str, tools: int) -> None:
    async with (
        sdk("--era", "legacy" if era == "legacy" else "both", "--tools", str(tools)) as server,
        cluster.sidecar(server.url),
    ):
        seen = await cluster.facade.until_status("one", "healthy", 5 + MARGIN)
        assert len(seen["capabilities"]["tools"]) == tools
        assert seen["protocol"]["era"] == era


async def test_a_killed_sidecar_leaves_no_ghost(cluster: Cluster) -> None:
    async with odd() as server, cluster.sidecar(server.url) as sidecar:
        await cluster.facade.until_status("one", "healthy", 5)
        await sidecar.stop(9)
        down = await cluster.facade.until_status("one", "down", TTL + 2 + MARGIN)
        assert down["reason"] == "no heartbeat for 6 s"
        # … and another one takes the id over at once, now that its holder is dead.
        async with cluster.sidecar(server.url):
            await cluster.facade.until_status("one", "healthy", 5)


@pytest.mark.parametrize("cluster", ["consul", "etcd"], indirect=True)
async def test_back_after_the_store_was_restarted(cluster: Cluster) -> None:
    assert cluster.server is not None
    async with odd() as server, cluster.sidecar(server.url):
        await cluster.facade.until_status("one", "healthy", 5)
        await cluster.server.restart(wipe=True)
        back = time.monotonic()
        await cluster.facade.until_status("one", "healthy", 5 + MARGIN)

        async def fresh() -> bool:
            return "staleSince" not in await cluster.facade.get("/status")

        left = back + 5 + MARGIN - time.monotonic()
        await until(fresh, timeout=left, what="the list being fresh")


async def test_the_example_agent_finds_and_calls(cluster: Cluster) -> None:
    async with (
        example("product_catalog") as server,
        cluster.sidecar(server.url, "--tag", "products"),
    ):
        await cluster.facade.until_status("one", "healthy", 5)
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "examples/agent_find_and_call.py", "--facade", cluster.facade.url),
            *("--tag", "products", "--tool", "search_products", "--args", '{"query": "lamp"}'),
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await bounded(agent.communicate(), 30)
        assert agent.returncode == 0
        assert b"Desk lamp" in out


async def test_a_facade_that_is_the_store_comes_back_empty_and_is_filled_again(
    tmp_path: Path,
) -> None:
    from tests.stores import ports

    port = str(ports.draw().number)
    arguments = ("facade", "--port", port)
    url = f"http://127.0.0.1:{port}"
    async with odd() as server, running(tmp_path, *arguments) as process:
        asked = AskedFacade(url, process)
        given = ("--store", url, "--url", server.url, "--id", "one", "--name", "thing")
        async with running(tmp_path, "sidecar", *given) as sidecar:
            await asked.until_status("one", "healthy", 10)
            assert await process.stop(9) == -9
            async with running(tmp_path, *arguments):
                await asked.until_status("one", "healthy", 5 + 2 + MARGIN)
                assert await sidecar.stop() == 0
