"""An MCP server over stdio that is as busy as it is told to be."""

from __future__ import annotations

import asyncio
import os
import time

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("busy", version="1.0.0")
_held: list[bytearray] = []


@server.tool()
async def wait(seconds: float) -> None:
    """Answers after so many seconds."""
    await asyncio.sleep(seconds)


@server.tool()
def fail() -> None:
    """Fails."""
    raise ToolError("as asked")


@server.tool()
def hold(size: int) -> None:
    """Takes so many bytes of memory."""
    _held.append(bytearray(os.urandom(1)) * size)


@server.tool()
def work(seconds: float) -> None:
    """Takes so many seconds of processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@server.tool()
def end(code: int) -> None:
    """Ends the process at once."""
    os._exit(code)


if __name__ == "__main__":
    server.run("stdio")
