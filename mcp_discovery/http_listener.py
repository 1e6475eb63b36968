"""A listener for HTTP that strangers cannot fill, with slow heads, connections or what is no HTTP.

aiohttp waits for a request's head as long as its sender likes, takes as many connections as there
may be open files, and logs what it cannot parse with its bytes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiohttp import web

from mcp_discovery.connection_room import Place, Room
from mcp_discovery.listener_tls import ListenerTLS

log = logging.getLogger(__name__)

#: How long, in seconds, a TLS handshake may take, and after it the head of the first request; that
#: of a later one from its first byte on.
HEAD_TIMEOUT = 10.0
#: How many are accepted before others get their turn.
_AT_ONCE = 64
#: How long, in seconds, nothing is accepted where the system has no open files left.
_PAUSE = 1.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: What every response says of its sender and of its content.
_HEADERS = {"Server": "mcp-discovery", "X-Content-Type-Options": "nosniff"}
_UNREADABLE = (
    b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"this is no request of '
    b'HTTP/1.1 as RFC 9112 has it, or its head is too large"}'
)


def sign(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Sets the headers of every response, whoever makes it, and ends the connection with it where
    that has no place of its own."""
    response.headers.update(_HEADERS)
    connection = request.protocol
    if isinstance(connection, Connection) and connection.place.over is not None:
        response.headers["Connection"] = "close"
        response.force_close()


class _Heads:
    """Closes connections whose request's head is not whole in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop = loop
        self._timeout = timeout
        #: All wait equally long, so that they end in this order.
        self._due: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def awaited(self, connection: Connection) -> None:
        if connection not in self._due:
            self._due[connection] = self._loop.time() + self._timeout
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout, self._end)

    def done(self, connection: Connection) -> None:
        self._due.pop(connection, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        now = self._loop.time()
        self._timer = None
        for connection, due in list(self._due.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._end)
                break
            del self._due[connection]
            connection.abort()


class Connection(web.RequestHandler):
    """A connection that a client opened."""

    __slots__ = ("_heads", "lost", "place", "shown")

    def __init__(self, manager: web.Server, heads: _Heads, place: Place, **options: Any) -> None:
        super().__init__(manager, **{"access_log": None, **options})
        self._heads = heads
        #: Its place among the others.
        self.place = place
        #: The credential that was shown on it last, and what came of it.
        self.shown: tuple[str, object] = "", None
        #: Are called when it has ended.
        self.lost: dict[Callable[[], None], None] = {}

    def abort(self) -> None:
        """Ends the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, and its TLS, if there is any, agreed upon."""
        super().connection_made(transport)
        self.place.drop = self.abort
        self._heads.awaited(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        self._heads.done(self)
        self.place.leave()
        super().connection_lost(exc)
        lost, self.lost = self.lost, {}
        for each in lost:
            each()

    def data_received(self, data: bytes) -> None:
        """Bytes have come: a part of a head, of a body or of a WebSocket's messages, or several."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._heads.done(self)
        elif self._waiter is not None:  # no request is being answered: it is a part of a head
            self._heads.awaited(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to what cannot be parsed, or to a fault. Its bytes go nowhere: a token may
        be among them."""
        peer = request.remote
        if status < 500:
            log.info("what %s sent is no HTTP request: %s", peer, type(exc).__name__)
        else:
            log.error("answering %s failed in a way it must not: %s", peer, _where(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun")
        response = web.Response(
            status=status,
            body=_UNREADABLE if status == 400 else None,
            content_type="application/problem+json" if status == 400 else None,
        )
        sign(request, response)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """For what went wrong after the response, such as a body that breaks off."""
        log.info("a connection failed: %s", _where(kw.get("exc_info")))


def _where(error: object) -> str:
    """The kind of an error and where it came from, without its text, which may be anybody's."""
    if not isinstance(error, BaseException):
        return "unknown"
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()


@asynccontextmanager
async def http_listener(
    runner: web.BaseRunner,
    sockets: list[socket.socket],
    *,
    room: Room,
    tls: ListenerTLS | None = None,
    head_timeout: float = HEAD_TIMEOUT,
    **options: Any,
) -> AsyncIterator[None]:
    """Serves what ``runner`` (which is set up) has at ``sockets``, which listen, inside the block.

    ``options`` are those of :class:`aiohttp.web.RequestHandler`. On leaving nothing is accepted any
    more; the connections are the runner's to end.
    """
    server = runner.server
    assert server is not None, "the runner is set up"
    heads = _Heads(asyncio.get_running_loop(), head_timeout)

    def connection(place: Place) -> Connection:
        return Connection(server, heads, place, loop=asyncio.get_running_loop(), **options)

    acceptor = _Acceptor(sockets, room, connection, tls, head_timeout)
    acceptor.start()
    try:
        yield
    finally:
        heads.close()
        await acceptor.close()


class _Acceptor:
    """Accepts connections. Those whose TLS is not agreed upon yet have their place, too."""

    def __init__(
        self,
        sockets: list[socket.socket],
        room: Room,
        connection: Callable[[Place], Connection],
        tls: ListenerTLS | None,
        timeout: float,
    ) -> None:
        self._sockets = sockets
        self._room = room
        self._connection = connection
        self._tls: dict[str, Any] = {}
        if tls is not None:
            limits = {"ssl_handshake_timeout": timeout, "ssl_shutdown_timeout": timeout}
            self._tls = {"ssl": tls.context, **limits}
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._pause = None
        for each in self._sockets:
            each.setblocking(False)
            self._loop.add_reader(each, self._accept, each)

    async def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        for each in self._sockets:
            self._loop.remove_reader(each)
            each.close()
        await asyncio.sleep(0)  # each has begun, and closes its socket when it is cancelled
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.error("no connection can be accepted for now: %s", error.strerror)
                for each in self._sockets:
                    self._loop.remove_reader(each)
                self._pause = self._loop.call_later(_PAUSE, self.start)
                return
            accepted.setblocking(False)
            place = self._room.enter(str(address[0]))
            task = self._loop.create_task(self._open(accepted, place), name="open a connection")
            place.drop = partial(self._loop.call_soon, task.cancel)  # when it has begun
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, place: Place) -> None:
        connection = self._connection(place)
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted, **self._tls)
        except OSError as error:  # no handshake in time, one that failed, or a client that has gone
            place.leave()
            log.debug("a connection from %s was not opened: %r", place.address, error)
        except asyncio.CancelledError:
            place.leave()
            raise
