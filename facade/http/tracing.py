"""The trace of a request: its id, and how long it took, of which so much in the store."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aiohttp import web
from multidict import istr

#: The header that carries a request's id in both directions.
REQUEST_ID = istr("X-Request-Id")
#: The header that says how long a response took (W3C Server Timing).
SERVER_TIMING = istr("Server-Timing")
#: The ids from outside that are used as they are; they go into logs and headers.
_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch


class Trace:
    """One request: its id, when it began, and how long the store was asked (monotonic seconds).

    Calls to the store that overlap count once: ``store`` never exceeds the whole.
    """

    __slots__ = ("_calls", "_entered", "began", "id", "store")

    def __init__(self, id: str) -> None:
        self.id = id
        self.began = time.monotonic()
        self.store: float | None = None
        self._calls = 0
        self._entered = 0.0

    def enter(self) -> None:
        """A call to the store begins."""
        if self._calls == 0:
            self._entered = time.monotonic()
        self._calls += 1

    def leave(self) -> None:
        """A call to the store has ended."""
        self._calls -= 1
        if self._calls == 0:
            self.store = (self.store or 0.0) + time.monotonic() - self._entered

    def sign(self, response: web.StreamResponse) -> None:
        """Sets the headers with the id and the durations in milliseconds."""
        headers = response.headers
        headers[REQUEST_ID] = self.id
        timing = f"app;dur={(time.monotonic() - self.began) * 1000:.1f}"
        if self.store is not None:
            timing += f", store;dur={self.store * 1000:.1f}"
        headers[SERVER_TIMING] = timing


#: The trace of the request that the current task answers. It stays when the handler is done, since
#: the head of the response is written after that; each request has a task of its own.
_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin_trace(request: web.Request) -> Trace:
    """The trace of ``request``, with the id that it brings or a new one; the current one from now
    on."""
    given = request.headers.get(REQUEST_ID)
    trace = Trace(given if given is not None and _SANE(given) else secrets.token_hex(8))
    _CURRENT.set(trace)
    return trace


def current_trace() -> Trace | None:
    """The trace of the request that the current task answers, if any."""
    return _CURRENT.get()


def request_id() -> str | None:
    """The id of the request that the current task answers, if any."""
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
