"""The whole line: a command that speaks stdio, registered, called in both eras, ended, started."""

from __future__ import annotations

import asyncio
import sys

import pytest
from mcp import Client

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from tests.sidecar.harness import Seen, sidecar

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "tests.sidecar.bridge.stdio_server")


async def test_a_command_is_served_to_both_eras(
    store: EmbeddedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(store, "", command=COMMAND, name="counter"):
        found = await seen.until_status(Status.HEALTHY, within=15)
        waiting = [each for each in caplog.messages if each.startswith("waiting for")]
        assert waiting == [
            f"waiting for the MCP server at {found.record.endpoint.url}: is starting"
        ]
        assert found.record.version == "1.2.3"
        assert set(found.record.capabilities.tools) == {"add", "end"}
        url = str(found.record.endpoint.url)
        for mode in ("auto", "legacy"):
            async with asyncio.timeout(15), Client(url, mode=mode) as client:
                result = await client.call_tool("add", {"number": 0})
                assert result.structured_content == {"result": 0}


async def test_a_crash_is_told_with_its_exit_code_and_mended(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with sidecar(store, "", command=COMMAND, name="counter"):
        found = await seen.until_status(Status.HEALTHY, within=15)
        async with asyncio.timeout(15), Client(str(found.record.endpoint.url)) as client:
            with pytest.raises(Exception, match="ended with exit code 7"):
                await client.call_tool("end", {"code": 7})
        down = await seen.until_status(Status.DOWN, within=2)
        assert down.health.reason.startswith("ended with exit code 7")
        await seen.until_status(Status.HEALTHY, within=15)
