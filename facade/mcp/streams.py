"""Event streams to single clients, and the end of what is written for one that has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.mcp.messages import framed

PING: Final = b": ping\n\n"
#: Seconds between two looks for clients that have left.
_LOOK_EVERY: Final = 0.25
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class ClientGoneError(DiscoveryError):
    """The client has closed its connection, or leaves it full for too long."""


class EventStream:
    """One answer as server-sent events; ``write_timeout`` in seconds is how long a client may
    leave its connection full."""

    def __init__(self, request: web.Request, write_timeout: float) -> None:
        self._request = request
        self._write_timeout = write_timeout
        self.response: web.StreamResponse | None = None

    async def start(self, headers: dict[str, str]) -> web.StreamResponse:
        """Sends the head; the body is all that is left to do."""
        self.response = web.StreamResponse(headers=_HEADERS | headers)
        await self.response.prepare(self._request)
        return self.response

    async def send(self, *messages: dict[str, Any]) -> None:
        """Writes messages; raises :class:`ClientGoneError`."""
        await self.write(b"".join(map(framed, messages)))

    async def write(self, data: bytes) -> None:
        """Writes bytes; raises :class:`ClientGoneError`."""
        assert self.response is not None
        try:
            async with asyncio.timeout(self._write_timeout) as deadline:
                await self.response.write(data)
        except ConnectionResetError as error:
            raise ClientGoneError from error
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ClientGoneError from error


class Lives:
    """The answers that are for nobody once their client has left.

    aiohttp tells a handler that its client has left only when it writes; until then a call would
    go on, and a stream would be kept.
    """

    def __init__(self) -> None:
        self._lives: dict[asyncio.Timeout, web.Request] = {}

    def __len__(self) -> int:
        return len(self._lives)

    @asynccontextmanager
    async def of(self, request: web.Request) -> AsyncIterator[None]:
        """The block is cancelled, and :class:`ClientGoneError` raised, soon after the client has
        left."""
        try:
            async with asyncio.timeout(None) as life:
                self._lives[life] = request
                try:
                    yield
                finally:
                    del self._lives[life]
        except TimeoutError as error:
            if not life.expired():
                raise
            raise ClientGoneError from error

    async def end(self) -> None:
        """Ends those whose client has left, for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = asyncio.get_running_loop().time()
            for life, request in self._lives.items():
                if has_left(request) and not life.expired():
                    life.reschedule(now)


def has_left(request: web.Request) -> bool:
    """Whether the client's connection is closed, as far as is known here."""
    return request.transport is None or request.transport.is_closing()
