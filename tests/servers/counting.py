"""An MCP server that counts the calls of its tools, by key: who was called twice is seen.

``python -m tests.servers.counting [--port 0] [--era both] [--schema 1] [--pause 0] [--stdio]``;
``GET /counts`` tells. ``read`` says that it is read-only, ``write`` says nothing of itself;
``slow`` tells of its progress, ``ask`` asks its user, ``chat`` logs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
from collections import Counter
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from tests.servers.sdk import legacy_only

STEP = 0.05
"""Seconds that each reported step of the slow tool takes."""


class Name(BaseModel):
    """What ``ask`` asks for."""

    name: str


def build(schema: int, pause: float) -> MCPServer:
    """The server; ``schema`` is the number of the tools' spelling, ``pause`` seconds for each."""
    server = MCPServer("counting", version=f"{schema}.0.0")
    counts: Counter[str] = Counter()

    async def counted(kind: str, key: str) -> dict[str, Any]:
        counts[f"{kind}:{key}"] += 1
        await asyncio.sleep(pause)
        return {"pid": os.getpid(), "schema": schema, "times": counts[f"{kind}:{key}"]}

    async def read(key: str) -> dict[str, Any]:
        return await counted("read", key)

    async def read_2(key: str, exactly: bool = False) -> dict[str, Any]:
        return await counted("read", key)

    async def write(key: str) -> dict[str, Any]:
        return await counted("write", key)

    async def slow(steps: int, ctx: Context) -> str:
        counts["slow:begun"] += 1
        try:
            for step in range(1, steps + 1):
                await ctx.report_progress(step, steps, f"step {step}")
                await asyncio.sleep(STEP)
        except asyncio.CancelledError:
            counts["slow:cancelled"] += 1
            raise
        return "done"

    async def chat(ctx: Context) -> str:
        await ctx.info("hello from the server")
        return "said"

    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Who is it?", Name)
        return f"{answer.action}: {getattr(answer, 'data', None)}"

    hints = ToolAnnotations(read_only_hint=True)
    server.add_tool(read if schema == 1 else read_2, name="read", annotations=hints)
    for tool in (write, slow, chat, ask):
        server.add_tool(tool)

    async def told(_: Request) -> Response:
        return JSONResponse({"pid": os.getpid(), **counts})

    for path in ("/counts", "/health"):
        server.custom_route(path, methods=["GET"])(told)
    return server


async def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--era", choices=("both", "legacy"), default="both")
    parser.add_argument("--schema", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument(
        "--transport", choices=("streamable-http", "sse"), default="streamable-http"
    )
    parser.add_argument("--stdio", action="store_true")
    given = parser.parse_args()
    server = build(given.schema, given.pause)
    logging.getLogger("mcp").setLevel(logging.WARNING)
    if given.stdio:
        await server.run_stdio_async()
        return
    app: ASGIApp = server.sse_app() if given.transport == "sse" else server.streamable_http_app()
    if given.era == "legacy":
        app = legacy_only(app)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", given.port))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
