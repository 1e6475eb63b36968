"""An MCP server written with the MCP SDK, in each of the ways the SDK can serve.

``python -m tests.servers.sdk [--port 0] [--tools 3] [--era both] [--stateless] [--json]
[--transport streamable-http]`` prints ``listening on 127.0.0.1:PORT``. ``POST /tools?n=5``
changes the number of tools, ``&notify=1`` tells listeners.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn
from mcp.server import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ToolsListChanged
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LEGACY_VERSIONS = (b"2024-11-05", b"2025-03-26", b"2025-06-18", b"2025-11-25")


def build(tools: int) -> MCPServer:
    """Return a server with ``tools`` tools, one resource, one resource template, one prompt."""
    bus = InMemorySubscriptionBus()
    server = MCPServer("sdk-server", version="1.2.3", instructions="Add things.", subscriptions=bus)
    names: list[str] = []

    def offer(count: int) -> None:
        while len(names) > count:
            server.remove_tool(names.pop())
        while len(names) < count:
            name = f"add_{len(names)}"
            names.append(name)
            server.add_tool(_adder(), name=name, description=f"Add two numbers, way {name}.")

    offer(tools)

    @server.resource("things://all", mime_type="application/json")
    def things() -> str:
        """All things."""
        return "[]"

    @server.resource("things://{number}")
    def thing(number: str) -> str:
        """One thing."""
        return number

    @server.prompt()
    def explain(topic: str) -> str:
        """Ask for an explanation."""
        return f"Explain {topic}."

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def change(request: Request) -> Response:
        offer(int(request.query_params["n"]))
        if request.query_params.get("notify"):
            await bus.publish(ToolsListChanged())
        return JSONResponse({"tools": len(names)})

    server.custom_route("/health", methods=["GET"])(health)
    server.custom_route("/tools", methods=["POST"])(change)
    return server


def _adder() -> Callable[[int, int], int]:
    def add(a: int, b: int) -> int:
        return a + b

    return add


def legacy_only(app: ASGIApp) -> ASGIApp:
    """Refuse modern requests the way SDKs before the modern era do."""

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        version = headers.get(b"mcp-protocol-version")
        if scope["type"] == "http" and version is not None and version not in LEGACY_VERSIONS:
            error = {"code": -32600, "message": "Bad Request: Unsupported protocol version"}
            body = {"jsonrpc": "2.0", "id": "server-error", "error": error}
            await JSONResponse(body, status_code=400)(scope, receive, send)
            return
        await app(scope, receive, send)

    return refusing


async def main(argv: Sequence[str] | None = None) -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tools", type=int, default=3)
    parser.add_argument("--era", choices=("both", "legacy"), default="both")
    parser.add_argument("--stateless", action="store_true")
    parser.add_argument("--json", action="store_true", help="answer with JSON, not event streams")
    parser.add_argument(
        "--transport", choices=("streamable-http", "sse"), default="streamable-http"
    )
    given = parser.parse_args(argv)
    server = build(given.tools)
    app: ASGIApp
    if given.transport == "sse":
        app = server.sse_app(host=given.host)
    else:
        app = server.streamable_http_app(
            host=given.host, json_response=given.json, stateless_http=given.stateless
        )
    if given.era == "legacy":
        app = legacy_only(app)
    logging.getLogger("mcp").setLevel(logging.WARNING)
    # With the protocol named, asyncio turns Nagle's algorithm off; without, answers take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((given.host, given.port))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    print(f"listening on {given.host}:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
