"""The trace of a request: its id, its span, and how long it took, of which so much in the store."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from string import ascii_letters, digits

from aiohttp import web
from multidict import istr

from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.conventions import http_answered, http_method
from mcp_discovery.telemetry.spans import NO_SPAN, Attribute, TraceSpan

#: The header that carries a request's id in both directions.
REQUEST_ID = istr("X-Request-Id")
#: The header that says how long a response took (W3C Server Timing).
SERVER_TIMING = istr("Server-Timing")
#: The characters of ids from outside that are used as they are, and the longest such id.
_SANE = ascii_letters + digits + "._:/+=@-"
_LONGEST = 128
#: What is asked all the time by those who watch a facade, and has no span.
_WATCHED = frozenset(("/health", "/ready", "/metrics"))


class Trace:
    """One request: its id, when it began (monotonic seconds), and its calls to the store.

    The id is the one that the request brings, if it may stand in logs and headers, or a new one.
    """

    __slots__ = ("began", "id", "over", "span", "store")

    def __init__(self, request: web.Request) -> None:
        given = request.headers.get(REQUEST_ID)
        if not given or len(given) > _LONGEST or given.strip(_SANE):
            given = f"{random.getrandbits(64):016x}"
        self.id = given
        self.began = time.monotonic()
        #: ``None`` until the store is called.
        self.store: StoreTime | None = None
        #: Whether the request is answered: what its tasks still do is not for it.
        self.over = False
        self.span = NO_SPAN if spans.drops(request.headers) else self._span(request)

    def _span(self, request: web.Request) -> TraceSpan:
        """The span of the request, by the conventions for HTTP servers: below what its headers
        carry, or a trace of its own. What stands in a query is nobody else's business."""
        resource = request.match_info.route.resource
        route = "" if resource is None else resource.canonical
        if route in _WATCHED:
            return NO_SPAN
        method = http_method(request.method)
        name = f"{method} {route}" if route else method
        span = spans.span(name, "server", parent=request.headers, fresh=True)
        if span.is_recorded:
            known: dict[str, Attribute] = {
                "http.request.method": method,
                "url.scheme": request.scheme,
                "url.path": request.rel_url.raw_path,
                "server.address": request.host[:_LONGEST],
                "user_agent.original": request.headers.get("User-Agent", "")[:_LONGEST],
                "http.response.header.x-request-id": [self.id],
            }
            if route:
                known["http.route"] = route
            if request.remote:
                known["client.address"] = request.remote
            span.set(known)
        return span

    def begin(self, request: web.Request, response: web.StreamResponse) -> None:
        """Ends the span with the head of what has no end, a stream or WebSocket that a GET opened:
        what goes over it later is told by itself."""
        if request.method == "GET" and not isinstance(response, web.Response):
            http_answered(self.span, response.status, from_=500)
            self.span.end()

    def sign(self, response: web.StreamResponse) -> None:
        """Sets the headers with the id and the durations in milliseconds."""
        headers = response.headers
        headers[REQUEST_ID] = self.id
        timing = f"app;dur={(time.monotonic() - self.began) * 1000:.1f}"
        if self.store is not None:
            timing += f", store;dur={self.store.seconds * 1000:.1f}"
        headers[SERVER_TIMING] = timing


@dataclass(slots=True)
class StoreTime:
    """How many ``seconds`` a request waited for the store; calls that overlap count once."""

    seconds: float = 0.0
    calls: int = 0
    entered: float = 0.0


#: The trace of the request that the current task answers. It stays when the handler is done, since
#: the head of the response is written after that; each request has a task of its own.
CURRENT_TRACE: ContextVar[Trace | None] = ContextVar("trace", default=None)


spans.answering = CURRENT_TRACE.get


def request_id() -> str | None:
    """The id of the request that the current task answers, if any."""
    trace = CURRENT_TRACE.get()
    return None if trace is None else trace.id


@contextmanager
def asking_store() -> Iterator[None]:
    """Counts the time inside the block as spent on the store, where a request waits for it."""
    trace = CURRENT_TRACE.get()
    if trace is None:
        yield
        return
    spent = trace.store = trace.store or StoreTime()
    if not spent.calls:
        spent.entered = time.monotonic()
    spent.calls += 1
    try:
        yield
    finally:
        spent.calls -= 1
        if not spent.calls:
            spent.seconds += time.monotonic() - spent.entered
