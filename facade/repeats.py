"""Answers a request that was answered just now, byte for byte the same, with the same bytes.

Agents ask the same question again and again, each with a client that spells it the same every time.
What such a request costs is mostly what stands around the answer: reading headers, finding the
handler, writing headers. So an answer that changes with the list alone is kept under the bytes of
the request that it was given to, and the next request of these very bytes is answered from there.
All of that is forgotten when the list changes and at every second, so that ``lastSeen`` moves.

How an answer gets there, and out again:

1. :class:`Connection`, between the network and aiohttp, notes the bytes of a request that it passes
   on, where they are known to be one whole request.
2. The handler calls :meth:`Repeats.may_keep`: nothing but the list decides about this answer.
3. :meth:`Repeats.keep` sees the finished answer and keeps it, unless something about request or
   answer could make another one to the same bytes differ.
4. :class:`Connection` writes it to whoever sends these bytes next; aiohttp never hears of that
   request. Long polls that one change ends together are given it by :meth:`Repeats.tell`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from aiohttp import HttpVersion11, web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import View
from mcp_discovery.facade.http.metrics import Counted, Metrics
from mcp_discovery.facade.http.tracing import REQUEST_ID, SERVER_TIMING

#: Where each request is logged, for those who debug.
log = logging.getLogger("mcp_discovery.facade.http.problems")

#: How many answers are kept, how many bytes with their requests, and of the longest request.
_MOST: Final = 1024
_MOST_BYTES: Final = 32 * 2**20
_LONGEST: Final = 8192
#: Headers that are another one's with every answer.
_OWN = frozenset({"date", REQUEST_ID.lower(), SERVER_TIMING.lower()})
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer: its head but for the headers in :data:`_OWN`, its body, and how to count it."""

    status: int
    head: bytes
    body: bytes
    counted: Counted


class Repeats:
    """The answers of one facade that may be given once more."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._kept: dict[bytes, _Kept] = {}
        self._size = 0
        self._moment: tuple[View, int] | None = None  # the list and the second that all are of
        self._date = b""
        #: How many requests were answered from here.
        self.told = 0

    def may_keep(self, request: web.Request, view: View) -> None:
        """The answer to ``request`` is of ``view``, and the same for as long as the list is and
        the second lasts.

        Called by the handler before it answers; without that nothing is kept.
        """
        connection = connection_of(request)
        if connection is not None:
            connection.moment = view, int(time.time())

    async def keep(self, request: web.Request, response: web.StreamResponse) -> None:
        """Keeps the answer, where it may be. A signal (``on_response_prepare``), the last of all,
        so that no header is missing."""
        connection = connection_of(request)
        if connection is None:
            return
        moment, connection.moment = connection.moment, None  # an idle one holds no old list
        if connection.asked is None or moment != self._forget_outdated():
            return
        if response.status not in (200, 304):
            return  # a fault is found, and told, anew each time
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes | None):
            return  # a stream
        if request.version != HttpVersion11 or not request.keep_alive or request.body_exists:
            return  # aiohttp has more to do than to write
        if REQUEST_ID in request.headers or log.isEnabledFor(logging.DEBUG):
            return  # each answer says the id of its request; each request is logged
        lines = [f"HTTP/1.1 {response.status} {response.reason}"]
        lines += [f"{k}: {v}" for k, v in response.headers.items() if k.lower() not in _OWN]
        head, body = "\r\n".join(lines).encode(), response.body or b""
        size = len(connection.asked) + len(head) + len(body)
        if len(self._kept) >= _MOST or self._size + size > _MOST_BYTES:
            return
        counted = self._metrics.counted(request, response.status, timed=True)
        self._kept[connection.asked] = _Kept(response.status, head, body, counted)
        self._size += size

    def answer(self, asked: bytes) -> bytes | None:
        """The whole answer to a request of these bytes, where it was given just now."""
        self._forget_outdated()
        kept = self._kept.get(asked)
        if kept is None:
            return None
        self.told += 1
        kept.counted.add(0.0)
        return self._spelled(kept, 0.0)

    def tell(self, connection: Connection, took: float) -> bool:
        """Answers the request that aiohttp still answers over ``connection``, where such a one was
        answered with 200 just now; its handler has to end with :class:`Told`.

        ``took`` is for how many seconds it has waited. Returns whether that was done.
        """
        self._forget_outdated()
        kept = self._kept.get(connection.asked) if connection.asked is not None else None
        if kept is None or kept.status != 200 or not connection.is_clear:
            return False
        self.told += 1
        connection.write(self._spelled(kept, took))
        return True

    def _spelled(self, kept: _Kept, took: float) -> bytes:
        own = b"\r\nDate: %b\r\n%b: %b\r\n%b: app;dur=%.1f\r\n\r\n" % (
            self._date,
            REQUEST_ID.encode(),
            secrets.token_hex(8).encode(),
            SERVER_TIMING.encode(),
            took * 1000,
        )
        return b"".join((kept.head, own, kept.body))

    def _forget_outdated(self) -> tuple[View, int]:
        """Forgets what is of another list or second than now; returns these."""
        view, second = self._catalog.view, int(time.time())
        if self._moment is None or self._moment[0] is not view or self._moment[1] != second:
            self._kept.clear()
            self._size = 0
            self._moment = view, second
            self._date = formatdate(second, usegmt=True).encode()
        return self._moment


class Told(web.StreamResponse):
    """The answer of a handler whose client has it already, by :meth:`Repeats.tell`."""

    keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Writes no head."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes no end."""


class Connection(asyncio.Protocol):
    """One connection to the facade: gives a known request its answer, and all others to aiohttp.

    A request is known by the whole of what came at once, and only while aiohttp waits for the next
    one. As long as nothing has come but single requests without a body, that means that nothing of
    another request lies before it; anything else that comes (a HEAD, a POST, a GET that was cut)
    ends looking for as long as the connection lasts.
    """

    def __init__(self, handler: web.RequestHandler, repeats: Repeats) -> None:
        self._handler = handler
        self._repeats = repeats
        self._single = True
        self._full = False
        self._heard = 0.0  # the monotonic second at which aiohttp last heard of it
        #: The bytes of the request that aiohttp answers now, where they stand for it.
        self.asked: bytes | None = None
        #: The list and the second that its answer is of, where nothing else decides about it.
        self.moment: tuple[View, int] | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.asked = self.moment = None
        self._single = self._single and _is_single(data)
        if self._single and not self._full and len(data) <= _LONGEST and _waits(self._handler):
            answer = None if self._seems_idle else self._repeats.answer(data)
            if answer is not None:
                self.write(answer)
                return
            self.asked = data
        self._heard = time.monotonic()
        self._handler.data_received(data)

    @property
    def _seems_idle(self) -> bool:
        """Whether aiohttp, which closes connections that are idle for long, shall hear from it."""
        return time.monotonic() - self._heard > self._handler.keepalive_timeout / 2

    @property
    def is_clear(self) -> bool:
        """Whether all that was written is on its way."""
        return not (self._transport.is_closing() or self._transport.get_write_buffer_size())

    def write(self, data: bytes) -> None:
        """Writes past aiohttp."""
        self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._heard = time.monotonic()
        self._handler.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._handler.connection_lost(exc)

    def eof_received(self) -> None:
        """No more will come."""
        self._handler.eof_received()

    def pause_writing(self) -> None:
        """The client does not read fast enough: aiohttp waits for it before it writes."""
        self._full = True
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self._full = False
        self._handler.resume_writing()


def connection_of(request: web.Request) -> Connection | None:
    """The connection over which a request came; ``None`` where the facade is served otherwise."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, Connection) else None


def _is_single(data: bytes) -> bool:
    """Whether ``data`` is one GET without a body, if it begins one."""
    return data.startswith(b"GET ") and data.find(_END) == len(data) - len(_END)


def _waits(handler: web.RequestHandler) -> bool:
    """Whether aiohttp has answered all requests of a connection and waits for the next.

    It tells nobody; where it does not have this name for it any more, nothing is repeated.
    """
    waiter: asyncio.Future[None] | None = getattr(handler, "_waiter", None)
    return waiter is not None and not waiter.done()
