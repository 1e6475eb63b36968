"""What every answer says of itself: the request's id, and how long it took."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The header in which a request's id comes and goes.
REQUEST_ID = "X-Request-Id"
#: In which an answer says how long it took (W3C Server Timing).
SERVER_TIMING = "Server-Timing"
#: What an id from outside may look like: it goes into logs and headers as it is.
_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True)
class Trace:
    """One request: its id, when it began, and how long the store was asked (monotonic seconds).

    Calls to the store that overlap count once: ``store`` never exceeds the whole.
    """

    id: str
    began: float = field(default_factory=time.monotonic)
    store: float | None = None
    _asking: int = 0
    _asked: float = 0.0

    def enter(self) -> None:
        """The store is asked."""
        if self._asking == 0:
            self._asked = time.monotonic()
        self._asking += 1

    def leave(self) -> None:
        """The store has answered."""
        self._asking -= 1
        if self._asking == 0:
            self.store = (self.store or 0.0) + time.monotonic() - self._asked

    def timing(self) -> str:
        """The value of ``Server-Timing`` (W3C), in milliseconds."""
        told = f"app;dur={(time.monotonic() - self.began) * 1000:.1f}"
        if self.store is not None:
            told += f", store;dur={self.store * 1000:.1f}"
        return told


#: The request that the current task answers. It is not taken back when the handler is done, since
#: the answer's head goes out after that; the connection's next request puts its own there.
_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def request_id() -> str | None:
    """The id of the request that is being answered, where there is one."""
    trace = _CURRENT.get()
    return None if trace is None else trace.id


@contextmanager
def asking_store() -> Iterator[None]:
    """Counts the time inside the block as spent on the store, where a request waits for it."""
    trace = _CURRENT.get()
    if trace is None:
        yield
        return
    trace.enter()
    try:
        yield
    finally:
        trace.leave()


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request its id and its clock; the outermost of all middlewares."""
    given = request.headers.get(REQUEST_ID, "")
    _CURRENT.set(Trace(given if _SANE.fullmatch(given) else secrets.token_hex(8)))
    return await handler(request)


async def sign(request: web.Request, response: web.StreamResponse) -> None:
    """Puts id and timing on an answer as its head goes out.

    A signal (``on_response_prepare``), so that streams and WebSockets have them, too.
    """
    trace = _CURRENT.get()
    if trace is not None:
        response.headers[REQUEST_ID] = trace.id
        response.headers[SERVER_TIMING] = trace.timing()
