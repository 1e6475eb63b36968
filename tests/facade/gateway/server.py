"""An MCP server written with the SDK that tells who it is and what became of its calls.

``python -m tests.facade.gateway.server --port 0 --who a [--json]`` prints ``listening on …``.
``GET /seen`` tells how often each thing happened and the headers of the last MCP request.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections import Counter
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send


def build(who: str, counts: Counter[str]) -> MCPServer:
    """The server ``who``; what happens is counted in ``counts``."""
    server = MCPServer("gate", version="1.2.3")

    @server.tool()
    async def whoami() -> str:
        """Who answers."""
        counts["whoami"] += 1
        return who

    @server.tool()
    async def echo(text: str) -> str:
        """The same text."""
        return text

    @server.tool()
    async def steps(count: int, pause: float, ctx: Context[Any, Any]) -> str:
        """Reports progress after each of ``pause`` seconds."""
        for step in range(count):
            await ctx.report_progress(step + 1, count)
            await asyncio.sleep(pause)
        return who

    @server.tool()
    async def hang() -> str:
        """Never answers, unless it is cancelled."""
        counts["hanging"] += 1
        try:
            await asyncio.Event().wait()
        finally:
            counts["cancelled"] += 1
        return who

    @server.tool()
    async def confirm(ctx: Context[Any, Any]) -> str:
        """Asks its client."""
        answer = await ctx.elicit("Sure?", Sure)
        return answer.action

    return server


class Sure(BaseModel):
    """What is asked."""

    sure: bool


async def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--who", default="a")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    last: dict[str, str] = {}
    server = build(given.who, counts)

    async def health(_: Request) -> Response:
        return JSONResponse({})

    async def seen(_: Request) -> Response:
        return JSONResponse({"counts": counts, "headers": last})

    server.custom_route("/health", methods=["GET"])(health)
    server.custom_route("/seen", methods=["GET"])(seen)
    app = server.streamable_http_app(
        json_response=given.json,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/mcp":
            counts[scope["method"]] += 1
            last.clear()
            last.update((key.decode(), value.decode()) for key, value in scope["headers"])
        await app(scope, receive, send)

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", given.port))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(noting, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
