"""The odd server at every path, and the request targets that it was sent, byte for byte."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.servers.odd import OddServer, Options


class RecordingServer(OddServer):
    """An odd server in this process that serves MCP, or its health, wherever it is asked."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        #: ``POST /mcp?a=%2F`` and so on, as they stood in the requests.
        self.targets: list[str] = []
        #: The headers of each request.
        self.headers: list[dict[str, str]] = []
        #: Where ``/health`` redirects to.
        self.health_location = ""
        self.runner: web.AppRunner | None = None
        self.port = 0

    def app(self) -> web.Application:
        """Return the application; its routes are not asked."""
        app = super().app()
        app.middlewares.append(self._anywhere)
        return app

    def drop_connections(self) -> None:
        """Close every connection, as a server that starts anew does."""
        assert self.runner is not None
        assert self.runner.server is not None
        for connection in self.runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    @web.middleware
    async def _anywhere(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.targets.append(f"{request.method} {request.raw_path}")
        self.headers.append(dict(request.headers))
        if request.raw_path.startswith("/health"):
            answer = await self.health(request)
            if self.health_location:
                answer.headers["Location"] = self.health_location
            return answer
        if self.options.redirect and request.raw_path == "/mcp":
            return web.Response(status=307, headers={"Location": self.options.redirect})
        if "Upgrade" in request.headers:
            return await self.websocket(request)
        if "session_id=" in request.raw_path:
            return await self.post_sse(request)
        match request.method, request.headers.get("Accept"):
            case "GET", "text/event-stream" if self.options.era == "sse":
                return await self.open_sse(request)
            case "GET", _:
                return await self.get(request)
            case "DELETE", _:
                return await self.delete(request)
        return await self.post(request)


@asynccontextmanager
async def recording(
    host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[RecordingServer]:
    """Run one on ``host`` until the block ends; ``era="sse"`` speaks the old HTTP+SSE."""
    server = RecordingServer(Options(**options))
    server.runner = runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
