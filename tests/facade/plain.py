"""A plain HTTP server with a health endpoint, as servers without a sidecar have one."""

from __future__ import annotations

import asyncio

from aiohttp import web


class HealthServer:
    """A plain HTTP server with a health endpoint; it can answer badly, late or not at all."""

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
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

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.get("/health", self._health)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
