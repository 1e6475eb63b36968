"""A client's request over HTTP while it is under way: answered with JSON, or with a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import ClientGoneError
from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    Id,
    JsonRpcError,
    accepts,
    failure,
    framed,
    notification,
    result,
)
from mcp_discovery.mcp_responses import PING, EventStream, json_response
from mcp_discovery.sidecar.bridge.connection import Params

#: Seconds between two signs of life on a stream.
PING_INTERVAL: Final = 15.0
#: How long, in seconds, a client may take to read.
WRITE_TIMEOUT: Final = 30.0
#: How many messages may wait for a client; further notifications are dropped.
_MOST_WAITING: Final = 1000


class HttpExchange:
    """One POST with a request in it."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._streams = accepts(request)[1]
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

    def notify(self, method: str, params: Params) -> None:
        """Sends the client a notification."""
        if self._waiting.qsize() < _MOST_WAITING:
            self.send(notification(method, params))

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends the client any message."""
        if self._streams:
            self._waiting.put_nowait(framed(message))

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """Refuses: nobody answers a modern server's questions but by a request of its own."""
        raise JsonRpcError(INTERNAL_ERROR, f"{method}: this client cannot be asked")

    async def respond(
        self,
        id: Id,
        work: Awaitable[Mapping[str, Any]],
        headers: Mapping[str, str],
        *,
        modern: bool,
    ) -> web.StreamResponse:
        """The response to the request ``id``, whose result ``work`` is."""
        working = asyncio.ensure_future(work)
        working.add_done_callback(lambda _: self._waiting.put_nowait(None))
        stream = EventStream(self._request, WRITE_TIMEOUT)
        try:
            while True:
                try:
                    async with asyncio.timeout(PING_INTERVAL):
                        frame = await self._waiting.get()
                except TimeoutError:
                    frame = PING
                if frame is None:
                    break
                if self._streams:
                    if stream.response is None:
                        await stream.start(dict(headers))
                    await stream.write(frame)
            status = 200
            try:
                message = result(id, working.result())
            except JsonRpcError as fault:
                message = failure(id, fault)
                status = fault.modern_status if modern else 200
            if stream.response is None:
                return json_response(message, dict(headers), status)
            await stream.send(message)
        except ClientGoneError:
            pass
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        return stream.result
