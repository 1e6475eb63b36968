"""An MCP server whose tools take their time, tell of it, and note when they are cancelled.

``python -m tests.facade.mcp.slow_server --port N``; ``GET /calls`` tells how its calls went.
"""

from __future__ import annotations

import argparse
import asyncio

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

server = MCPServer("slow", version="1.0.0")
calls = {"begun": 0, "cancelled": 0, "done": 0}


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, telling each number."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"at {number}")
    return f"counted to {to}"


@server.tool()
async def hang(ctx: Context) -> str:
    """Says that it begins, and never ends."""
    calls["begun"] += 1
    await ctx.report_progress(0, 1, "begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        calls["cancelled"] += 1
        raise
    return "never"


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("that did not work; try count")


async def told(_: Request) -> Response:
    return JSONResponse(calls)


server.custom_route("/calls", methods=["GET"])(told)
server.custom_route("/health", methods=["GET"])(told)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server.run("streamable-http", host="127.0.0.1", port=parser.parse_args().port)
