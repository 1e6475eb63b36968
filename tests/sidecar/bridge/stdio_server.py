"""An MCP server over stdio by the SDK, which speaks both eras: ``python -m …`` starts it."""

from __future__ import annotations

import os

from mcp.server import MCPServer

server = MCPServer("counter", version="1.2.3", instructions="Counts.")
_count = 0


@server.tool()
def add(number: int) -> int:
    """Adds a number to what was counted."""
    global _count
    _count += number
    return _count


@server.tool()
def end(code: int) -> None:
    """Ends the process at once."""
    os._exit(code)


if __name__ == "__main__":
    server.run("stdio")
