"""An MCP server over stdio by the SDK, of both eras, whose tool asks in mid-request."""

from __future__ import annotations

import os

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

server = MCPServer("dual", version="1.0.0")


class Name(BaseModel):
    name: str


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks who is there."""
    found = await ctx.elicit("Who?", Name)
    return found.data.name if found.action == "accept" else found.action


@server.tool()
async def process() -> int:
    """Which process answers."""
    return os.getpid()


if __name__ == "__main__":
    server.run("stdio")
