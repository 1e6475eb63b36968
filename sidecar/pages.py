"""The handlers of the sidecar's health port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

#: The addresses from which ``/drain`` is accepted. Not all of 127.0.0.0/8: Istio's proxy hands on
#: what comes from other machines from an address of its own there, 127.0.0.6.
_HERE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def runner(
    why_not_live: Callable[[], str | None],
    why_not_ready: Callable[[], str | None],
    drain: Callable[[], Awaitable[None]],
    figures: Callable[[], str],
) -> web.AppRunner:
    """The runner of the application, not yet set up; see
    :func:`mcp_discovery.sidecar.healthz.answering`."""
    app = web.Application()
    app.router.add_get("/healthz", _status("live", why_not_live))
    app.router.add_get("/readyz", _status("ready", why_not_ready))
    app.router.add_post("/drain", _drained(drain))
    app.router.add_get("/metrics", _figures(figures))
    return web.AppRunner(app, access_log=None, shutdown_timeout=0.1)


def site(of: web.AppRunner, host: str, port: int) -> web.TCPSite:
    """Where ``of`` will listen."""
    return web.TCPSite(of, host, port)


def _status(
    good: str, why_not: Callable[[], str | None]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        reason = why_not()
        if reason is None:
            return web.json_response({"status": good})
        return web.json_response({"status": f"not {good}", "reason": reason}, status=503)

    return answer


def _figures(exposition: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=exposition().encode(), headers={"Content-Type": kind})

    return answer


def _drained(
    drain: Callable[[], Awaitable[None]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        # A browser on this machine sends the Origin of the page that makes the request.
        if request.remote not in _HERE or "Origin" in request.headers:
            reason = "draining may be asked for from this machine or pod only, at 127.0.0.1"
            return web.json_response({"status": "refused", "reason": reason}, status=403)
        await drain()
        return web.json_response({"status": "drained"})

    return answer
