"""A request that a handler makes of its own application: it passes every middleware as any other.

What comes over a WebSocket is answered so: nothing has to be decided a second time, and what is
decided for requests tomorrow holds for it as well.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from typing import Final, cast

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

#: As many bytes of a body are read at once, as a connection would have at most.
_PIECE: Final = 256 * 2**10


class ResponseSink(AbstractStreamWriter):
    """Takes the response to an inner request as it is written.

    ``status`` is 0 until its head was written. ``broken``: it ended before it was whole.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.broken = False

    @abstractmethod
    async def take(self, data: bytes) -> None:
        """Takes a part of the body; whoever answers waits for it. Raises ``ConnectionError`` where
        no more of it is wanted."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        self.status, self.headers = int(status_line.split(" ", 2)[1]), headers

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        if self.broken:
            raise ConnectionResetError("the response was broken off")
        if chunk:
            self.output_size += len(chunk)
            await self.take(bytes(chunk))

    async def write_eof(self, chunk: bytes = b"") -> None:
        await self.write(chunk)

    async def drain(self) -> None:
        return

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise NotImplementedError("an inner request accepts no encoding")

    def enable_chunking(self) -> None:
        return


def is_inner(request: web.Request) -> bool:
    """Whether it was made by :class:`InnerRequests`, and so belongs to an open request."""
    return isinstance(request.protocol, _InnerConnection)


class InnerRequests:
    """Asks the application of ``outer`` for the same path, as the same client, also when that has
    left by then."""

    def __init__(self, outer: web.Request) -> None:
        self._outer = outer
        transport, connection = outer.transport, outer.protocol
        self.ssl_context, self.peername = connection.ssl_context, connection.peername
        self.sockname = connection.sockname
        #: What is known of the client's connection.
        self.extra = {
            name: None if transport is None else transport.get_extra_info(name)
            for name in ("peername", "sockname", "sslcontext", "ssl_object", "peercert", "cipher")
        }

    async def ask(
        self, method: str, headers: CIMultiDict[str], body: bytes, sink: ResponseSink
    ) -> None:
        """Has ``sink`` take the response; ``headers`` are all that the request has.

        Cancelling it is for the application as if the client left.
        """
        loop = asyncio.get_running_loop()
        outer, connection = self._outer, _InnerConnection(self, sink)
        payload = EMPTY_PAYLOAD
        given = headers.copy()
        if body:
            payload = _Body(connection, 2**16, loop=loop)
            payload.feed_data(body)
            payload.feed_eof()
            given["Content-Length"] = str(len(body))
        task = asyncio.current_task()
        assert task is not None
        url = outer.rel_url
        message = RawRequestMessage(
            method=method,
            path=url.raw_path_qs,
            version=HttpVersion11,
            headers=CIMultiDictProxy(given),
            raw_headers=(),
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=False,
            url=url,
        )
        request = web.Request(
            message,
            payload,
            cast(web.RequestHandler, connection),
            sink,
            task,
            loop,
            client_max_size=outer.client_max_size,
        )
        # What the server of the application calls for each request, too.
        try:
            response = await outer.app._handle(request)
            await response.prepare(request)
            await response.write_eof()
        except web.HTTPException as error:
            await error.prepare(request)
            await error.write_eof()
        except ConnectionError:
            sink.broken = True
        finally:
            connection.transport.over = True


class _Body(StreamReader):
    """A body that is there, and is read as if it came: a large one is not passed on at a stroke."""

    async def readany(self) -> bytes:
        return await self.read(_PIECE)


class _InnerConnection(BaseProtocol):
    """In the place of a connection of its own, with what is known of the client's."""

    max_field_size, max_headers = 8190, 128

    def __init__(self, client: InnerRequests, sink: ResponseSink) -> None:
        super().__init__(asyncio.get_running_loop())
        self._upgraded = True  # so that nothing parses what the body's reader holds back
        self.transport: _InnerTransport = _InnerTransport(client, sink)
        self.ssl_context, self.peername = client.ssl_context, client.peername
        self.sockname = client.sockname


class _InnerTransport(asyncio.Transport):
    def __init__(self, client: InnerRequests, sink: ResponseSink) -> None:
        super().__init__(client.extra)
        self._sink = sink
        #: Whether the request is answered, or given up.
        self.over = False

    def is_closing(self) -> bool:
        return self.over or self._sink.broken

    def abort(self) -> None:
        self._sink.broken = True

    close = abort
