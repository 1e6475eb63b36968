"""A facade and servers with their sidecars, as processes, for tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.facade.access.tokens import knowing_sidecars
from tests.programs import AskedFacade, Running, facade, running
from tests.servers.process import McpServer

TTL = 6.0
INTERVAL = TTL / 3


class Cluster:
    """One facade; :meth:`add` puts a counting server with a sidecar beside it."""

    def __init__(
        self,
        asked: AskedFacade,
        folder: Path,
        stack: AsyncExitStack,
        environment: Mapping[str, str],
    ) -> None:
        self._environment = environment
        self.facade = asked
        self.url = asked.url
        self._folder = folder
        self._stack = stack
        self.servers: dict[str, McpServer] = {}
        self.sidecars: dict[str, Running] = {}

    async def add(
        self, id: str, *options: str, name: str = "counting", sidecar: tuple[str, ...] = ()
    ) -> McpServer:
        """Starts a server with ``options`` and its sidecar; returns when it is listed."""
        path = "/sse" if "sse" in options else "/mcp"
        server = McpServer(("-m", "tests.servers.counting"), self._folder, path)
        self._stack.push_async_callback(server.close)
        await server.start(*options)
        given = ("--store", self.url, "--url", server.url, "--id", id, "--name", name)
        times = ["--ttl", f"{TTL:g}", "--drain", "0.5", "--tag", "tests"]
        if "sse" in options:
            times += ["--transport", "sse"]
        self.sidecars[id] = await self._stack.enter_async_context(
            running(self._folder, "sidecar", *given, *times, *sidecar, **self._environment)
        )
        self.servers[id] = server
        await self.facade.until_status(id, "healthy", 20)
        return server

    async def counts(self, id: str) -> dict[str, Any]:
        """How often the tools of ``id`` were called, and its process."""
        url = f"{self.servers[id].base_url}/counts"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            counted: dict[str, Any] = await response.json()
            return counted

    async def total(self, key: str) -> int:
        """How often ``key`` was counted by all servers that live."""
        found = [await self.counts(id) for id, one in self.servers.items() if one.running]
        return sum(each.get(key, 0) for each in found)


@asynccontextmanager
async def cluster(folder: Path, *, known: bool = True) -> AsyncIterator[Cluster]:
    """A cluster with a facade and nothing else. With ``known`` the facade knows its sidecars by a
    token; otherwise they only claim to be who they are."""
    auth, token = knowing_sidecars(folder) if known else ({}, {})
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(facade(folder, "embedded:", **auth))
        yield Cluster(asked, folder, stack, token)
