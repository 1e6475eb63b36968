"""The requests that the gateway is passing on, and the end of those that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mcp_discovery.errors import DiscoveryError

#: How often, in seconds, clients that have left are looked for: aiohttp tells a handler of that
#: only when it writes.
_LOOK_EVERY = 0.05


class ForwardingEndedError(DiscoveryError):
    """The client has left, or the facade ends: what was under way has been aborted."""


class UnderWay:
    """The requests under way."""

    def __init__(self) -> None:
        self._guards: dict[asyncio.Timeout, web.Request] = {}

    def __len__(self) -> int:
        return len(self._guards)

    @asynccontextmanager
    async def among(self, request: web.Request) -> AsyncIterator[None]:
        """Counts ``request`` while the block lasts; ends that with :class:`ForwardingEndedError`
        where it must."""
        guard = asyncio.timeout(None)
        try:
            async with guard:
                self._guards[guard] = request
                try:
                    yield
                finally:
                    del self._guards[guard]
        except TimeoutError as error:
            if not guard.expired():
                raise
            raise ForwardingEndedError from error

    async def drop_gone(self) -> None:
        """Ends, for ever, the requests whose clients leave: that is how modern clients cancel
        (MCP 2026-07-28, cancellation)."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            for guard, request in list(self._guards.items()):
                if request.transport is None or request.transport.is_closing():
                    _end(guard)

    def end_streams(self) -> None:
        """Ends what would not end by itself: streams on which clients only listen."""
        for guard, request in list(self._guards.items()):
            if only_listens(request):
                _end(guard)


def only_listens(request: web.Request) -> bool:
    """Whether ``request`` asks for a stream of notifications, in either era."""
    return request.method == "GET" or request.headers.get("Mcp-Method") == "subscriptions/listen"


def _end(guard: asyncio.Timeout) -> None:
    if not guard.expired():
        guard.reschedule(asyncio.get_running_loop().time())
