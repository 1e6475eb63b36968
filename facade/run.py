"""Serves a facade until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from adapters.store import Store
from facade.app import create_app
from facade.descriptors import allow_many_connections
from facade.options import FacadeOptions
from facade.state import FACADE

log = logging.getLogger(__name__)

#: How many connections may wait to be accepted: thousands of readers come back at the same moment.
_BACKLOG = 4096
#: How long, in seconds, what is left of a body that is not wanted is read, so that its sender
#: finds the answer.
_LINGER = 2.0
#: The longest request line, in bytes: one with too many filters is answered in words of ours.
_LONGEST_LINE = 256 * 2**10
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class CannotListen(OSError):
    """The address cannot be listened on; ``str()`` is one sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serves ``app`` inside the block; gives its URL, with the real port where ``port`` is 0.

    Raises :class:`CannotListen`. On leaving, streams of events end at once and requests in
    progress are given a few seconds.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        lingering_time=_LINGER,
        max_line_size=_LONGEST_LINE,
        auto_decompress=False,  # bodies are unpacked within their own limits
        shutdown_timeout=app[FACADE].options.shutdown_timeout,
        handle_signals=False,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        yield _url(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def run(
    store: Store,
    host: str,
    port: int,
    *,
    options: FacadeOptions | None = None,
    ready: Callable[[str], None] | None = None,
) -> int:
    """Serves a facade over ``store`` until SIGTERM or SIGINT; returns the exit status, 0.

    ``ready`` is called with the facade's URL once it listens. Raises :class:`CannotListen`. The
    store stays the caller's to close.
    """
    log.debug("at most %d open files", allow_many_connections())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(create_app(store, options), host, port) as url:
            log.info("listening on %s (store %s)", url, store.url)
            if ready is not None:
                ready(url)
            await stop.wait()
            log.info("stopping")
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return 0


def _cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    where = _url(host, port).removeprefix("http://")
    if error.errno == errno.EADDRINUSE:
        problem = f"{where} is in use; stop what listens there, or choose another port"
    elif error.errno in (errno.EACCES, errno.EPERM):
        problem = f"listening on {where} is not permitted; choose a port above 1023"
    else:
        problem = f"cannot listen on {where}: {error.strerror or error}"
    return CannotListen(error.errno, problem)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
