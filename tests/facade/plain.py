"""A small MCP server with a health endpoint, as servers without a sidecar have one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web


class HealthServer:
    """An MCP server whose health endpoint can answer badly, late or not at all.

    ``fault`` answers MCP requests in its place, where it is set.
    """

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
        self.fault: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def health_url(self) -> str:
        return f"{self.base_url}/health"

    async def _health(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self.delay)
        return web.Response(status=self.status)

    async def _mcp(self, request: web.Request) -> web.StreamResponse:
        if self.fault is not None:
            return await self.fault(request)
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.Response:
        """Answers an MCP request well."""
        message: dict[str, Any] = await request.json()
        if message["method"] == "server/discover":
            result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        else:
            result = {message["method"].partition("/")[0]: []}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.get("/health", self._health), web.post("/{path:.*}", self._mcp)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
