"""Tells handlers of requests that their clients have left: aiohttp notices that only on a write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.http_listener import Connection


class ClientGoneError(DiscoveryError):
    """Nobody waits for the response any more: the client has left, or the server ends it."""


class DisconnectWatch:
    """The requests that end when their client leaves, checked every ``interval`` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._requests: dict[asyncio.Timeout, web.Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    @asynccontextmanager
    async def guard(
        self, request: web.Request, seconds: float | None = None
    ) -> AsyncIterator[None]:
        """Raises :class:`ClientGoneError` inside once the client left or after ``seconds``."""
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._requests[scope] = request
                try:
                    yield
                finally:
                    del self._requests[scope]
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise ClientGoneError from error

    async def run(self) -> None:
        """Ends, for ever, the requests whose clients have left."""
        while True:
            await asyncio.sleep(self._interval)
            self.end(has_left)

    def end(self, condition: Callable[[web.Request], bool]) -> None:
        """Ends those requests for which ``condition`` holds."""
        now = asyncio.get_running_loop().time()
        for scope, request in self._requests.items():
            if condition(request) and not scope.expired():
                scope.reschedule(now)


def has_left(request: web.Request) -> bool:
    """Whether the client's connection is closed, as far as is known."""
    return request.transport is None or request.transport.is_closing()


@contextmanager
def when_lost(request: web.Request, callback: Callable[[], None]) -> Iterator[None]:
    """Calls ``callback`` at once where the client's connection is lost while the block runs.

    Not for an inner request (:mod:`mcp_discovery.inner_request`), whose task is cancelled then.
    """
    connection = request.protocol
    if not isinstance(connection, Connection):
        yield
        return
    connection.lost[callback] = None
    try:
        if has_left(request):
            callback()
        yield
    finally:
        connection.lost.pop(callback, None)


@contextmanager
def cancelled_when_lost(request: web.Request) -> Iterator[None]:
    """Cancels the task that runs the block where the client's connection is lost meanwhile."""
    task = asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        task.cancel()

    with when_lost(request, cancel):
        yield
