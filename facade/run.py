"""Serves a facade until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.store import Store
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.app import create_app
from mcp_discovery.facade.garbage_collection import settle
from mcp_discovery.facade.http.descriptors import allow_many_connections
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.repeats import Connection
from mcp_discovery.facade.state import FACADE

log = logging.getLogger(__name__)

#: How many connections may wait to be accepted: thousands of readers come back at the same moment.
_BACKLOG = 4096
#: How long, in seconds, what is left of a body that is not wanted is read, so that its sender
#: finds the answer.
_LINGER = 2.0
#: The longest request line, in bytes: one with too many filters is answered in words of ours.
_LONGEST_LINE = 256 * 2**10
#: How long, in seconds, one of several workers waits for its first list before it takes a share of
#: the connections. Later it takes them without one: then the store is away.
_FIRST_LIST = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ListenError(DiscoveryError, OSError):
    """The address cannot be listened on; ``str()`` is one sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


class _Site(web.BaseSite):
    """Where the facade listens; its connections first look for what can be repeated."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, *, shared: bool) -> None:
        super().__init__(runner, backlog=_BACKLOG)
        self._host, self._port, self._shared = host, port, shared
        self._repeats = runner.app[FACADE].repeats

    @property
    def name(self) -> str:
        """Its URL."""
        return _url(self._host, self._port)

    async def start(self) -> None:
        """Listens; raises :class:`OSError`."""
        await super().start()
        handlers = self._runner.server
        assert handlers is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(handlers(), self._repeats),
            self._host,
            self._port,
            backlog=self._backlog,
            reuse_port=self._shared or None,
        )


@asynccontextmanager
async def serving(
    app: web.Application,
    host: str,
    port: int,
    *,
    shared: bool = False,
    first: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[str]:
    """Serves ``app`` inside the block; gives its URL, with the real port where ``port`` is 0.

    ``shared``: others may listen there, too, if they share it as well (``SO_REUSEPORT``). ``first``
    is awaited while the app runs and does not listen yet. Raises :class:`ListenError`. On leaving,
    streams of events end at once and requests in progress are given a few seconds.
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
        if first is not None:
            await first()
        site = _Site(runner, host, port, shared=shared)
        try:
            await site.start()
        except OSError as error:
            raise cannot_listen(host, port, error) from error
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
    life: int | None = None,
) -> int:
    """Serves a facade over ``store`` until SIGTERM or SIGINT; returns the exit status, 0.

    ``ready`` is called with the facade's URL once it listens. ``life`` is for one of several
    workers, which share the port: a file descriptor that can be read when the facade shall end,
    too. Raises :class:`ListenError`. The store stays the caller's to close.
    """
    log.debug("at most %d open files", allow_many_connections())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    if life is not None:
        loop.add_reader(life, stop.set)
    try:
        app = create_app(store, options)
        shared = life is not None
        first = partial(_first_list, app[FACADE].catalog, stop) if shared else None
        async with serving(app, host, port, shared=shared, first=first) as url:
            log.info("listening on %s (store %s)", url, store.url)
            if ready is not None:
                ready(url)
            settling = asyncio.create_task(settle(app[FACADE].catalog), name="settle")
            await stop.wait()
            settling.cancel()
            log.info("stopping")
    finally:
        if life is not None:
            loop.remove_reader(life)
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return 0


async def _first_list(catalog: Catalog, stop: asyncio.Event) -> None:
    """Waits for the first list of one of several workers, unless it is told to stop before."""
    waits = [asyncio.create_task(catalog.ready()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=_FIRST_LIST, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


def cannot_listen(host: str, port: int, error: OSError) -> ListenError:
    """Says why ``host`` and ``port`` cannot be listened on, which ``error`` is of."""
    where = _url(host, port).removeprefix("http://")
    if error.errno == errno.EADDRINUSE:
        problem = f"{where} is in use; stop what listens there, or choose another port"
    elif error.errno in (errno.EACCES, errno.EPERM):
        problem = f"listening on {where} is not permitted; choose a port above 1023"
    else:
        problem = f"cannot listen on {where}: {error.strerror or error}"
    return ListenError(error.errno, problem)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
