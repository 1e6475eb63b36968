"""The sidecar for its supervisor: ``/healthz``, ``/readyz``, ``/drain``, and its figures, over HTTP
and, where it is asked for, over OTLP."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from mcp_discovery.errors import DiscoveryError, InvalidInputError
from mcp_discovery.listening import free_port, listeners
from mcp_discovery.telemetry.setup import exported

#: The addresses from which ``/drain`` is accepted. Not all of 127.0.0.0/8: Istio's proxy hands on
#: what comes from other machines from an address of its own there, 127.0.0.6.
_HERE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


#: More connections than health checks, scrapes and a drain need.
_CONNECTIONS = 64


class PortInUseError(DiscoveryError):
    """Another process listens on the port for health checks."""


def require_free(host: str, port: int | None) -> None:
    """Raises what :func:`answering` does where it could not listen now."""
    if port is not None:
        with refusals(host, port, "health checks", "--health-{}"):
            free_port(host, port)


@asynccontextmanager
async def answering(
    port: int | None,
    *,
    host: str,
    why_not_live: Callable[[], str | None],
    why_not_ready: Callable[[], str | None],
    trouble: Callable[[], str | None],
    drain: Callable[[], Awaitable[None]],
    figures: Callable[[], str],
    servers: Callable[[], Mapping[str, str]] | None = None,
) -> AsyncIterator[None]:
    """Answers on ``host`` at ``port`` while the block runs; nothing when ``port`` is ``None``.
    With or without it ``figures`` are sent over OTLP, where that is asked for.

    ``/healthz`` and ``/readyz`` answer 200, or 503 with the reason that their function returns;
    who is ready all the same answers what ``trouble`` returns, besides, and ``servers`` says of
    each of several how it is.
    ``POST /drain`` answers when ``drain`` has returned; it is for this machine alone, whatever
    ``host`` is. Raises :class:`PortInUseError`, and
    :class:`~mcp_discovery.errors.InvalidInputError` when the address cannot be had for another
    reason. ``/metrics`` answers what ``figures`` returns.
    """
    if port is None:
        async with exported(figures):
            yield
        return
    # A sidecar without the port does not pay for an HTTP server.
    from aiohttp import web

    from mcp_discovery.connection_room import Room
    from mcp_discovery.http_listener import http_listener, sign

    def status(
        good: str, why_not: Callable[[], str | None], more: Mapping[str, Any] | None = None
    ) -> web.Response:
        if (reason := why_not()) is None:
            return web.json_response({"status": good, **(more or {})})
        body = {"status": f"not {good}", "reason": reason, **(more or {})}
        return web.json_response(body, status=503)

    async def live(_: web.Request) -> web.Response:
        return status("live", why_not_live)

    async def ready(_: web.Request) -> web.Response:
        more = {"servers": dict(servers())} if servers is not None else {}
        if why_not_ready() is None and (what := trouble()) is not None:
            return web.json_response({"status": "ready", "problem": what, **more})
        return status("ready", why_not_ready, more)

    async def drained(request: web.Request) -> web.Response:
        # A browser on this machine sends the Origin of the page that makes the request.
        if request.remote not in _HERE or "Origin" in request.headers:
            reason = "draining may be asked for from this machine or pod only, at 127.0.0.1"
            return web.json_response({"status": "refused", "reason": reason}, status=403)
        await drain()
        return web.json_response({"status": "drained"})

    async def metrics(_: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=figures().encode(), headers={"Content-Type": kind})

    async def prepared(request: web.Request, response: web.StreamResponse) -> None:
        sign(request, response)

    app = web.Application()
    app.on_response_prepare.append(prepared)
    app.router.add_get("/healthz", live)
    app.router.add_get("/readyz", ready)
    app.router.add_post("/drain", drained)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        with refusals(host, port, "health checks", "--health-{}"):
            sockets = listeners(host, port)
        room = Room(_CONNECTIONS, _CONNECTIONS)
        async with http_listener(runner, sockets, room=room), exported(figures):
            yield
    finally:
        await runner.cleanup()


@contextmanager
def refusals(host: str, port: int, purpose: str, option: str) -> Iterator[None]:
    """Turns the system's refusals to listen for ``purpose`` into one sentence that says what to do.

    ``option`` is the one to give, with ``{}`` for ``host`` or ``port`` where there are two.
    """
    try:
        yield
    except socket.gaierror as error:
        raise InvalidInputError(
            f"cannot listen on {host!r} for {purpose} ({error.strerror}); "
            f"give {option.format('host')} an address of this machine"
        ) from error
    except OSError as error:
        problem = (
            f"cannot listen on {host}:{port} for {purpose} "
            f"({os.strerror(error.errno or 0)}); give another {option.format('port')}"
        )
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(problem) from error
        raise InvalidInputError(problem) from error
