"""Serves a facade until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.store import Store
from mcp_discovery.connection_room import Room, default_most
from mcp_discovery.credential_files import read_again
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.writes import refused_verbs
from mcp_discovery.facade.app import create_app
from mcp_discovery.facade.http.client_address import TRUSTED_PROXIES
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.state import FACADE
from mcp_discovery.facade.status.ops import OPS
from mcp_discovery.http_listener import http_listener
from mcp_discovery.listener_tls import ListenerTLS
from mcp_discovery.listening import free_port, listeners

log = logging.getLogger(__name__)

Result = TypeVar("Result")

#: How long, in seconds, the rest of an unwanted body is read: so its sender finds the response.
_LINGER = 2.0
#: The longest request line, in bytes: one with too many filters gets a problem document.
_LONGEST_LINE = 256 * 2**10
#: The longest header, in bytes: a JWT that names hundreds of groups is longer than the usual 8 KiB.
_LONGEST_HEADER = 64 * 2**10
#: How long, in seconds, one of several workers waits for its first list before it takes a share of
#: the connections. Later it takes them without one: then the store is away.
_FIRST_LIST = 5.0
#: More open files than any facade needs; without a limit some systems loop over all there may be.
_MOST_FILES = 2**20
#: While the first list comes in, this is the garbage collector's threshold of its youngest
#: generation, and how many of its collections make one of an older generation.
_YOUNG, _OLDER = 50_000, 1000
#: The garbage collector's thresholds while requests are served: those in flight are thousands of
#: objects, which its usual 700 would have it look through again and again. Its second generation
#: has 50,000 of them at most, which takes some 10 ms.
_SERVING = 10_000, 5, 80
#: Within how many seconds the first list comes, if the store can be reached.
_FIRST_LIST_AT_MOST = 60.0
#: How many connections the listener for health and metrics has.
_OPS_CONNECTIONS = 256
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ListenError(DiscoveryError, OSError):
    """The address cannot be listened on; ``str()`` is one sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


def run_in_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs ``main`` as :func:`asyncio.run` does, in a loop of uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def allow_many_connections() -> int:
    """Raises this process's soft limit of open files to the hard one; returns the limit.

    Each reader of a stream is an open file, and the usual soft limit is 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:  # a system may allow less than it says
        log.warning("at most %d open files: the limit cannot be raised: %s", soft, error)
        return soft
    return wanted


async def freeze_first_list(catalog: Catalog) -> None:
    """Waits for the first list, and excludes it from garbage collection.

    An entry is some forty objects, none of which is ever part of a cycle. With 100,000 instances
    each full collection would hold up everything for a quarter of a second, and those during the
    reading of the list would take as long as reading it.
    """
    gc.set_threshold(_YOUNG, _OLDER, _OLDER)
    try:
        with suppress(TimeoutError):  # the store is away: the garbage until then is collected
            async with asyncio.timeout(_FIRST_LIST_AT_MOST):
                await catalog.ready()
    finally:
        gc.set_threshold(*_SERVING)
    await catalog.ready()
    gc.collect()
    gc.freeze()


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
    options = app[FACADE].options
    tls = ListenerTLS.of_options(options.tls_cert, options.tls_key, options.tls_client_ca)
    runner = web.AppRunner(app, shutdown_timeout=options.shutdown_timeout, handle_signals=False)
    await runner.setup()
    try:
        if first is not None:
            await first()
        async with AsyncExitStack() as stack:
            if options.ops_port is not None:
                ops_host = host if options.ops_host is None else options.ops_host
                place = ops_host, options.ops_port
                ops = await stack.enter_async_context(_ops(app[OPS], *place, shared=shared))
                log.info("health and metrics at %s", ops)
            sockets = _listeners(host, port, shared=shared)
            port = int(sockets[0].getsockname()[1])
            await stack.enter_async_context(
                http_listener(
                    runner,
                    sockets,
                    room=_room(app),
                    tls=tls,
                    head_timeout=options.head_timeout,
                    lingering_time=_LINGER,
                    max_line_size=_LONGEST_LINE,
                    max_field_size=_LONGEST_HEADER,
                    auto_decompress=False,  # bodies are unpacked within their own limits
                )
            )
            yield _url(host, port, "http" if tls is None else "https")
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _ops(app: web.Application, host: str, port: int, *, shared: bool) -> AsyncIterator[str]:
    """Serves ``app`` inside the block, with room of its own; gives its URL."""
    runner = web.AppRunner(app, shutdown_timeout=_LINGER, handle_signals=False)
    await runner.setup()
    try:
        sockets = _listeners(host, port, shared=shared)
        room = Room(_OPS_CONNECTIONS, _OPS_CONNECTIONS)
        async with http_listener(runner, sockets, room=room):
            yield _url(host, int(sockets[0].getsockname()[1]))
    finally:
        await runner.cleanup()


def _listeners(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    try:
        return listeners(host, port, shared=shared)
    except OSError as error:
        raise cannot_listen(host, port, error) from error


def _room(app: web.Application) -> Room:
    options = app[FACADE].options
    most = default_most() if options.max_connections is None else options.max_connections
    per_address = options.max_connections_per_address
    if per_address is None:
        per_address = max(most // 2, 1)
    return Room(most, per_address, app[TRUSTED_PROXIES].trusts)


async def run(
    store: Store,
    host: str,
    port: int,
    *,
    options: FacadeOptions | None = None,
    ready: Callable[[str], None] | None = None,
    life: int | None = None,
) -> int:
    """Serves a facade over ``store`` until SIGTERM or SIGINT; returns the exit status, 0. SIGHUP
    makes it read credential files again.

    ``ready`` is called with the facade's URL once it listens. ``life`` is for one of several
    workers, which share the port: a file descriptor that can be read when the facade shall end,
    too. Raises :class:`ListenError`. The store stays the caller's to close.
    """
    log.debug("at most %d open files", allow_many_connections())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, read_again)
    if life is not None:
        loop.add_reader(life, stop.set)
    try:
        app = create_app(store, options)
        shared = life is not None
        first = partial(_first_list, app[FACADE].catalog, stop) if shared else None
        async with serving(app, host, port, shared=shared, first=first) as url:
            log.info("listening on %s (store %s)", url, store.url)
            for why in dict.fromkeys(refused_verbs(app[FACADE].options).values()):
                log.warning("%s", why)
            if ready is not None:
                ready(url)
            freezing = asyncio.create_task(
                freeze_first_list(app[FACADE].catalog), name="freeze the first list"
            )
            await stop.wait()
            freezing.cancel()
            log.info("stopping")
    finally:
        if life is not None:
            loop.remove_reader(life)
        for number in (*_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)
    return 0


async def _first_list(catalog: Catalog, stop: asyncio.Event) -> None:
    """Waits for the first list of one of several workers, unless it is stopped before."""
    waits = [asyncio.create_task(catalog.ready()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=_FIRST_LIST, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


def require_free(host: str, port: int) -> int:
    """``port``, or a free one for 0; raises :class:`ListenError` where it cannot be listened on.

    It is asked before the store is opened: what is wrong here is told at once, and first. Workers
    would not notice, too: they would share the port with any program that shares it.
    """
    try:
        return free_port(host, port)
    except OSError as error:
        raise cannot_listen(host, port, error) from error


def cannot_listen(host: str, port: int, error: OSError) -> ListenError:
    """Says why ``host`` and ``port`` cannot be listened on, which ``error`` is of."""
    where = _url(host, port).removeprefix("http://")
    if error.errno == errno.EADDRINUSE:
        problem = f"{where} is in use; stop what listens there, or choose another port"
    elif error.errno in (errno.EACCES, errno.EPERM):
        problem = f"listening on {where} is not permitted; choose a port above 1023"
    else:
        why = str(error.strerror or error).partition(" (while")[0]
        problem = f"cannot listen on {where}: {why}"
    return ListenError(error.errno, problem)


def _url(host: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
