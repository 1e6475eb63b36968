"""The sidecar over HTTP, for its supervisor: ``/healthz``, ``/readyz``, ``/drain``, figures."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from mcp_discovery.errors import DiscoveryError, InvalidInput

#: Where ``/drain`` may be asked from. Not all of 127.0.0.0/8: Istio's proxy hands on what comes
#: from other machines from an address of its own there, 127.0.0.6.
_HERE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


class PortInUse(DiscoveryError):
    """Another process listens on the port for health checks."""


@asynccontextmanager
async def answering(
    port: int | None,
    *,
    host: str,
    why_not_live: Callable[[], str | None],
    why_not_ready: Callable[[], str | None],
    drain: Callable[[], Awaitable[None]],
    figures: Callable[[], str],
) -> AsyncIterator[None]:
    """Answers on ``host`` at ``port`` while the block runs; nothing when ``port`` is ``None``.

    ``/healthz`` and ``/readyz`` answer 200, or 503 with the reason that their function returns.
    ``POST /drain`` answers when ``drain`` has returned; it is for this machine alone, whatever
    ``host`` is. Raises :class:`PortInUse`, and :class:`~mcp_discovery.errors.InvalidInput` when the
    address cannot be had for another reason. ``/metrics`` answers what ``figures`` returns.
    """
    if port is None:
        yield
        return
    app = web.Application()
    app.router.add_get("/healthz", _told("live", why_not_live))
    app.router.add_get("/readyz", _told("ready", why_not_ready))
    app.router.add_post("/drain", _drained(drain))
    app.router.add_get("/metrics", _figures(figures))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except socket.gaierror as error:
            raise InvalidInput(
                f"cannot listen on {host!r} for health checks ({error.strerror}); "
                "give --health-host an address of this machine"
            ) from error
        except OSError as error:
            problem = (
                f"cannot listen on {host}:{port} for health checks "
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


def _figures(told: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=told().encode(), headers={"Content-Type": kind})

    return answer


def _drained(
    drain: Callable[[], Awaitable[None]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        # A browser on this machine sends the Origin of the page that makes it ask.
        if request.remote not in _HERE or "Origin" in request.headers:
            reason = "draining may be asked for from this machine or pod only, at 127.0.0.1"
            return web.json_response({"status": "refused", "reason": reason}, status=403)
        await drain()
        return web.json_response({"status": "drained"})

    return answer
