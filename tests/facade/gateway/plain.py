"""A bare HTTP server in place of an MCP server, for what the SDK cannot be made to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultyServer:
    """Answers every request with ``handler``; notes requests and whose client left."""

    def __init__(self) -> None:
        self.handler: Handler = self._fine
        self.requests: list[web.Request] = []
        self.peers: set[object] = set()
        self.left = asyncio.Event()
        self.url = ""

    async def _fine(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        return web.Response(body=body, content_type="application/json")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.peers.add(request.get_extra_info("peername"))
        try:
            return await self.handler(request)
        except asyncio.CancelledError:
            self.left.set()
            raise


@asynccontextmanager
async def faulty() -> AsyncIterator[FaultyServer]:
    """Such a server, on a port of its own."""
    server = FaultyServer()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{tail:.*}", server._handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}/mcp"
        yield server
    finally:
        await runner.cleanup()
