"""The library at servers that others wrote: lists, calls, their own errors, and a restart."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mcp.shared.exceptions import MCPError

from mcp_discovery import Discovery
from mcp_discovery.errors import CallError
from tests.foreign.servers import SERVERS, ForeignServer
from tests.foreign.servers import running as foreign
from tests.mcp_discovery.client.verbatim import ListedServer
from tests.stores.waiting import until


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
async def test_a_foreign_server_is_called_before_and_after_its_restart(
    server: ForeignServer, tmp_path: Path
) -> None:
    async with foreign(server, tmp_path) as process:
        source = ListedServer(process.url, server.transport, legacy=True)
        async with Discovery(source, connect_timeout=20) as discovery:
            tools = [each.own_name for each in await discovery.tools()]
            tool = "echo" if "echo" in tools else tools[0]

            async def answers() -> bool:
                try:  # a result that says that its arguments are wrong is an answer, too
                    return bool((await discovery.call(tool, {"message": "hello"})).content)
                except CallError:
                    return False

            assert await answers()
            async with discovery.session("verbatim") as client:
                try:
                    assert (await client.call_tool("no-such-tool", {})).is_error
                except MCPError as error:
                    assert error.code == -32602
                    assert "no-such-tool" in error.message
            os.killpg(process.process.pid, signal.SIGKILL)
            await process.process.kill()
            _, *arguments = server.command(urlsplit(process.url).port or 0)
            await process.process.start(arguments)
            await until(answers, timeout=60, what=f"{server.name} being called after its restart")
