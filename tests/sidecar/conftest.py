"""Fixtures of the sidecar's tests."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from tests.servers.process import McpServer, odd
from tests.sidecar.harness import Seen, watching


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Lets tests read what the sidecar logs for people."""
    caplog.set_level(logging.INFO, logger="mcp_discovery")


@pytest.fixture
async def store() -> AsyncIterator[EmbeddedStore]:
    """A store in this process."""
    async with EmbeddedStore() as embedded:
        yield embedded


@pytest.fixture
async def seen(store: EmbeddedStore) -> AsyncIterator[Seen]:
    """What a watcher of ``store`` sees."""
    async with watching(store) as found:
        yield found


@pytest.fixture
async def server() -> AsyncIterator[McpServer]:
    """An MCP server of both eras, with faults on demand."""
    async with odd() as running:
        yield running
