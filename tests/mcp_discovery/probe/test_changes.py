"""What servers say by themselves: lists that changed, and streams that end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest

from mcp_discovery.probe import McpProbe
from tests.mcp_discovery.probe.conftest import MakeProbe, acquired
from tests.servers.process import McpServer, odd, sdk
from tests.stores.waiting import bounded, until

WAYS = {
    "modern": ("--era", "modern"),
    "legacy": ("--era", "legacy"),
    "sse": (),
    "websocket": (),
}


@asynccontextmanager
async def heard(probe: McpProbe) -> AsyncIterator[asyncio.Queue[str | None]]:
    """Listen in the background; None in the queue says that the stream ended."""
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def listen() -> None:
        async with aclosing(probe.changes()) as changes:
            async for name in changes:
                queue.put_nowait(name)
        queue.put_nowait(None)

    listening = asyncio.create_task(listen())
    try:
        yield queue
    finally:
        listening.cancel()
        await asyncio.wait({listening})


async def opened(server: McpServer) -> None:
    async def is_open() -> bool:
        return bool((await server.control())["open_streams"])

    await until(is_open, timeout=5, what="a stream being open")


@pytest.mark.parametrize("way", WAYS)
async def test_changes_and_the_end(
    way: str, probe_of: MakeProbe, http: aiohttp.ClientSession
) -> None:
    transport = way if way in ("sse", "websocket") else "streamable-http"
    async with odd(*WAYS[way]) as server:
        probe = probe_of(server.base_url, transport=transport)
        first = await probe.introspect(5)
        async with heard(probe) as queue:
            await opened(server)
            for name in ("tools", "resources", "prompts"):

                async def told(name: str = name) -> bool:
                    await server.control(tools=5, notify=name)
                    async with asyncio.timeout(0.2):
                        return await queue.get() == name

                await until(told, timeout=5, what=f"a change of {name}")
            assert len((await probe.introspect(5)).tools) == 5 != len(first.tools)
            await server.kill()
            died = time.monotonic()
            while await bounded(queue.get(), 5) is not None:
                pass
            assert time.monotonic() - died < 2
        await probe.close()
        assert acquired(http) == 0


async def test_sdk_server_notifies(probe_of: MakeProbe) -> None:
    async with sdk() as server:
        probe = probe_of(server.url)
        await probe.connect(5)
        async with heard(probe) as queue:

            async def told() -> bool:
                await server.offer_tools(8, notify=True)
                async with asyncio.timeout(0.2):
                    return await queue.get() == "tools"

            await until(told, timeout=5, what="a change of tools")


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_no_stream_offered(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--no-streams") as server:
        probe = probe_of(server.url)
        async with heard(probe) as queue:
            assert await bounded(queue.get(), 2) is None  # not connected yet
        await probe.connect(5)
        async with heard(probe) as queue:
            assert await bounded(queue.get(), 2) is None


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_lying_server_is_found_out_by_asking(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--tools", "400") as server:
        probe = probe_of(server.url)
        first = await probe.introspect(5)
        assert await probe.introspect(5) is first
        await server.control(description="weighs")
        second = await probe.introspect(5)
        assert second is not first
        assert second.tools[399]["description"] == "Tool 399 weighs"
        await server.control(description="counts")
        assert await probe.introspect(5) == first
