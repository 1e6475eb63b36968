"""A facade with its gateway on, and replicas of a server behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased, served
from tests.servers.process import McpServer, running

PROGRAM = ("-m", "tests.facade.gateway.server")


async def list_it(ask: Client, id: str, url: str, **more: Any) -> None:
    """Lists an instance of ``gate`` as one whose registrant vouches for it."""
    body = leased(id, name="gate", url=url, version="1.2.3", **more)
    assert (await ask("POST", "/servers", body)).status == 201


async def seen(server: McpServer) -> dict[str, Any]:
    """What the server counted, and the headers of its last request."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.base_url}/seen") as response:
        told: dict[str, Any] = await response.json()
        return told


@asynccontextmanager
async def replicas(ask: Client, *ids: str) -> AsyncIterator[dict[str, McpServer]]:
    """Servers of these ids, listed and running."""
    async with AsyncExitStack() as stack:
        found = {}
        for id in ids:
            server = await stack.enter_async_context(running(PROGRAM, "--who", id))
            await list_it(ask, id, server.url)
            found[id] = server
        yield found


@pytest.fixture
async def gate() -> AsyncIterator[Client]:
    """A client of a facade whose gateway is on."""
    async with served(gateway=True) as ask:
        yield ask


@pytest.fixture
async def server(gate: Client) -> AsyncIterator[FaultyServer]:
    """A bare server, listed as the one replica ``a`` of ``gate``."""
    async with faulty() as found:
        await list_it(gate, "a", found.url)
        yield found
