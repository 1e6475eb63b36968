"""The sidecar over HTTP, for its supervisor: ``/healthz``, ``/readyz``, ``/drain``, figures."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mcp_discovery.errors import DiscoveryError, InvalidInputError


class PortInUseError(DiscoveryError):
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
    ``host`` is. Raises :class:`PortInUseError`, and
    :class:`~mcp_discovery.errors.InvalidInputError` when the address cannot be had for another
    reason. ``/metrics`` answers what ``figures`` returns.
    """
    if port is None:
        yield
        return
    from mcp_discovery.sidecar import (
        pages,  # a sidecar without the port does not pay for an HTTP server
    )

    runner = pages.runner(why_not_live, why_not_ready, drain, figures)
    await runner.setup()
    try:
        try:
            await pages.site(runner, host, port).start()
        except socket.gaierror as error:
            raise InvalidInputError(
                f"cannot listen on {host!r} for health checks ({error.strerror}); "
                "give --health-host an address of this machine"
            ) from error
        except OSError as error:
            problem = (
                f"cannot listen on {host}:{port} for health checks "
                f"({os.strerror(error.errno or 0)}); give another --health-port"
            )
            raise (
                PortInUseError(problem)
                if error.errno == errno.EADDRINUSE
                else InvalidInputError(problem)
            ) from error
        yield
    finally:
        await runner.cleanup()
