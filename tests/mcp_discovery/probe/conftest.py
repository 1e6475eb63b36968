"""What the probe's tests share: an HTTP session that must end clean, and probes that are closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from mcp_discovery.probe import McpProbe

MakeProbe = Callable[..., McpProbe]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session; fails the test when tasks of the probe outlive it."""
    async with aiohttp.ClientSession() as session:
        yield session
    left = [task.get_name() for task in asyncio.all_tasks() if "mcp-probe" in task.get_name()]
    assert left == []


@pytest.fixture
async def probe_of(http: aiohttp.ClientSession) -> AsyncIterator[MakeProbe]:
    """Makes probes, which are closed when the test ends."""
    made: list[McpProbe] = []

    def make(url: str, **options: Any) -> McpProbe:
        made.append(McpProbe(url, session=http, **options))
        return made[-1]

    yield make
    for probe in made:
        await probe.close()


def acquired(http: aiohttp.ClientSession) -> int:
    """How many connections are in use right now (idle ones in the pool are not)."""
    connector = http.connector
    assert connector is not None
    return len(connector._acquired)
