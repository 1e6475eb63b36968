"""The sidecar's own health over HTTP, for whoever supervises it: ``/healthz`` and ``/readyz``."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from mcp_discovery.errors import DiscoveryError, InvalidInput

_HOST = "127.0.0.1"


class PortInUse(DiscoveryError):
    """Another process listens on the port for health checks."""


@asynccontextmanager
async def answering(
    port: int | None,
    *,
    why_not_live: Callable[[], str | None],
    why_not_ready: Callable[[], str | None],
) -> AsyncIterator[None]:
    """Answers on 127.0.0.1 at ``port`` while the block runs; nothing when ``port`` is ``None``.

    Each path answers 200, or 503 with the reason that its function returns. Raises
    :class:`PortInUse`, and :class:`~mcp_discovery.errors.InvalidInput` when the port cannot be had
    for another reason.
    """
    if port is None:
        yield
        return
    app = web.Application()
    app.router.add_get("/healthz", _told("live", why_not_live))
    app.router.add_get("/readyz", _told("ready", why_not_ready))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, _HOST, port).start()
        except OSError as error:
            problem = (
                f"cannot listen on {_HOST}:{port} for health checks "
                f"({os.strerror(error.errno or 0)}); give another --health-port"
            )
            raise (
                PortInUse(problem) if error.errno == errno.EADDRINUSE else InvalidInput(problem)
            ) from error
        yield
    finally:
        await runner.cleanup()


def _told(
    good: str, why_not: Callable[[], str | None]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        reason = why_not()
        if reason is None:
            return web.json_response({"status": good})
        return web.json_response({"status": f"not {good}", "reason": reason}, status=503)

    return answer
