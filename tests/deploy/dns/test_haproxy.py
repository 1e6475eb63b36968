"""haproxy.cfg in front of real MCP servers, which it finds through the agent's DNS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from mcp import Client

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.registration import ConsulRegistration
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Health, Status
from tests.deploy.consul.agents import DEPLOY
from tests.deploy.consul.conftest import Site
from tests.deploy.consul.test_mesh import INITIALIZE
from tests.deploy.tools import program
from tests.records import document, record
from tests.servers.process import McpServer
from tests.stores import ports
from tests.stores.waiting import NotYet, until

CONFIG = DEPLOY / "haproxy" / "haproxy.cfg"
EXAMPLE = ("examples/product_catalog.py",)
HEADERS = {"Accept": "application/json, text/event-stream"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@contextlib.asynccontextmanager
async def haproxy(folder: Path, site: Site) -> AsyncIterator[str]:
    """HAProxy from the file as it is; the URL that it listens at."""
    port = ports.draw()
    environment = {
        "PATH": os.environ["PATH"],
        "CONSUL_DNS": f"127.0.0.1:{site.client.port('dns')}",
        "MCP_BIND": f"127.0.0.1:{port.number}",
    }
    checked = await asyncio.to_thread(
        subprocess.run,
        [program("haproxy"), "-c", "-f", str(CONFIG)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr, checked.stderr
    with (folder / "haproxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program("haproxy"), "-db", "-f", str(CONFIG)),
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port.number}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def replicas(
    folder: Path, store: ConsulStore, count: int
) -> AsyncIterator[list[tuple[McpServer, ConsulRegistration]]]:
    """So many instances of product-catalog, registered as healthy."""
    found: list[tuple[McpServer, ConsulRegistration]] = []
    async with contextlib.AsyncExitStack() as stack:
        for n in range(count):
            mcp = McpServer(EXAMPLE, folder)
            stack.push_async_callback(mcp.close)
            await mcp.start()
            each = record(f"replica-{n}", endpoint={"url": mcp.url})
            held = await store.register(each, document("a"), ttl=60, reap_after=60)
            stack.push_async_callback(held.deregister)
            found.append((mcp, held))
        yield found


async def initialized(http: aiohttp.ClientSession, url: str) -> str:
    """A new legacy session's id."""
    async with http.post(url, json=INITIALIZE, headers=HEADERS) as response:
        if response.status != 200:
            raise NotYet(f"HTTP {response.status}")
        await response.read()
        return response.headers["Mcp-Session-Id"]


async def test_a_client_reaches_a_server_and_another_takes_over(site: Site, tmp_path: Path) -> None:
    options = StoreOptions(token=site.tokens["sidecar"])
    async with (
        ConsulStore(site.client.store_url, options) as store,
        replicas(tmp_path, store, 2) as (one, two),
        haproxy(tmp_path, site) as base,
    ):
        url = f"{base}/mcp"

        async def called() -> bool:
            async with Client(url) as client:
                result = await client.call_tool("search_products", {"query": "kettle"})
            return not result.is_error

        async with aiohttp.ClientSession() as http:
            await until(lambda: initialized(http, url), timeout=15, what="a server")
            assert await called()

            # Legacy sessions stay with their process, and end with it.
            sessions = [await initialized(http, url) for _ in range(6)]
            for _ in range(2):
                for session in sessions:
                    mine = HEADERS | {"Mcp-Session-Id": session}
                    async with http.post(url, json=LIST, headers=mine) as response:
                        assert response.status == 200, await response.text()

            # A stream of events begins at once, and stays open.
            mine = HEADERS | {"Mcp-Session-Id": sessions[0]}
            async with http.get(url, headers=mine) as stream:
                assert stream.status == 200
                assert stream.content_type == "text/event-stream"

            # One dies. Consul does not know yet: no call fails for it.
            await one[0].kill()
            for _ in range(5):
                assert await called()
            # Consul knows: nobody is left, then the other one is back.
            await one[1].heartbeat(Health(Status.DOWN, "killed"))
            await two[1].heartbeat(Health(Status.DOWN, "tried out"))

            async def status(expected: int) -> bool:
                async with http.post(url, json=INITIALIZE, headers=HEADERS) as response:
                    return response.status == expected

            await until(lambda: status(503), timeout=15, what="503 where no instance passes")
            await two[1].heartbeat(Health(Status.HEALTHY, "answers MCP"))
            await until(lambda: status(200), timeout=15, what="the other one's answer")
            assert await called()
