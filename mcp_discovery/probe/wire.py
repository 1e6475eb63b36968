"""What every transport offers the probe, how much it reads, and what a socket's errors mean."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any, ClassVar

import aiohttp

from mcp_discovery.connection_errors import (
    connection_sentence,
    is_refused_handshake,
    is_unknown_ca,
    is_wrong_name,
)
from mcp_discovery.probe.errors import (
    AddressRefusedError,
    BadAnswerError,
    NoAnswerError,
    NotOkError,
    ProbeError,
    UnreachableError,
)
from mcp_discovery.probe.event_stream import Event, EventReader
from mcp_discovery.probe.messages import MCP_ENDPOINT, WANTS_TLS, McpCall, status_error
from mcp_discovery.probe.tls import (
    REMEDIES,
    SYSTEM_TLS,
    ServerTls,
    is_expired_ca,
    speaks_tls,
    wrong_name_sentence,
)
from mcp_discovery.telemetry import spans
from mcp_discovery.urls import wire_url

# The probe's own deadlines bound every exchange; aiohttp's default total of 300 s would cut
# streams that are meant to stay open.
UNBOUNDED = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

# Compression would only cost both ends time on loopback, and hides the size of an answer.
PLAIN = {"Accept-Encoding": "identity"}

#: Errors that say something of the network between here and there.
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT})


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for one introspection (and for any single answer).

    Attributes:
        body_bytes: bytes of all answers together, after decompression.
        pages: pages of one list.
        items: items of all lists together.
    """

    body_bytes: int = 32 * 2**20
    pages: int = 1000
    items: int = 50_000


_over = partial(BadAnswerError, over_limit=True)


class Budget:
    """What is left of a ``Limits`` during one operation."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: Bytes that may still be read.
        self.bytes_left = limits.body_bytes
        #: Items that may still be listed.
        self.items_left = limits.items

    def take_bytes(self, count: int) -> None:
        """Count ``count`` bytes read; raises BadAnswerError once they exceed the limit."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise _over(f"answered with more than {self._limits.body_bytes} bytes")

    def take_items(self, count: int, method: str) -> None:
        """Count ``count`` items listed; raises BadAnswerError once they exceed the limit."""
        self.items_left -= count
        if self.items_left < 0:
            raise _over(f"{method} brought the items over the limit of {self._limits.items}")

    def check_pages(self, page: int, method: str) -> None:
        """Raise BadAnswerError when ``page`` (counted from 1) is beyond the limit."""
        if page > self._limits.pages:
            raise _over(f"{method} has more than {self._limits.pages} pages")


@dataclass(eq=False, kw_only=True)
class Wire(ABC):
    """One MCP server over one transport; ``url`` is where, in messages."""

    url: str
    limits: Limits
    #: What is odd about the server's messages and was understood all the same.
    oddities: set[str] = field(default_factory=set, init=False)
    #: How many requests were sent, whatever for.
    requests: int = field(default=0, init=False)
    _ids: Iterator[int] = field(default_factory=lambda: count(1), init=False)

    #: Whether everything goes over one connection, which is the session.
    is_one_connection: ClassVar[bool] = False
    #: Whether servers of the modern era are reached by it.
    has_modern: ClassVar[bool] = True

    def next_id(self) -> int:
        """Return the id for the next request; none recurs."""
        return next(self._ids)

    @property
    @abstractmethod
    def has_session(self) -> bool:
        """Whether the server remembers this probe between requests."""

    @abstractmethod
    async def open(self) -> None:
        """Begin anew: forget any session and connect where the transport has a connection."""

    @abstractmethod
    async def ask(self, call: McpCall, budget: Budget) -> dict[str, Any]:
        """Send ``call`` and return the message that answers it: a result or an error.

        Raises UnreachableError or BadAnswerError; the caller sets the deadline.
        """

    @abstractmethod
    async def notify(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a notification or a response, for which no answer is due."""

    @abstractmethod
    def listen(
        self, headers: Mapping[str, str], call: McpCall | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield messages that the server sends by itself until their stream ends.

        ``call`` is the request that opens the stream where one is needed. Raises as ``ask``.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the session and of connections, best effort and within a second."""

    @property
    def has_unfinished(self) -> bool:
        """Whether the server may still open a session that nobody waits for any more."""
        return False

    async def settle(self, within: float) -> None:
        """Wait at most ``within`` seconds for what is unfinished, and let go of the rest."""
        return

    async def explain(self, failure: ProbeError) -> None:
        """Add to ``failure`` what has to be asked for."""
        return


@dataclass(eq=False, kw_only=True)
class HttpWire(Wire):
    """A wire over HTTP; ``headers`` go with every request."""

    session: aiohttp.ClientSession
    headers: Mapping[str, str]
    tls: ServerTls = SYSTEM_TLS

    async def explain(self, failure: ProbeError) -> None:
        await explain(failure, self.session, self.url, self.tls)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        self.requests += 1
        if spans.are_on():
            spans.inject(headers := dict(headers))
        return self.session.request(
            method,
            wire_url(url),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=UNBOUNDED,
            **self.tls.options(),
        )

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Event, None]:
        reader = EventReader(self.limits.body_bytes)
        async for chunk in response.content.iter_any():
            for event in reader.feed(chunk):
                yield event


def probing_session(
    connector: aiohttp.BaseConnector,
    headers: Mapping[str, str] | None = None,
    middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
    *,
    owner: bool = True,
) -> aiohttp.ClientSession:
    """A session that keeps no cookies and follows no redirect by itself; as its ``owner`` it closes
    ``connector``.

    A redirect would take a request, credentials and all, to where nobody sent it. ``headers`` go
    with every request; ``middlewares`` are aiohttp's.
    """
    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=connector,
        connector_owner=owner,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        middlewares=middlewares,
        trace_configs=[redirects],
    )


async def _refuse_redirect(
    _: aiohttp.ClientSession, __: SimpleNamespace, found: aiohttp.TraceRequestRedirectParams
) -> None:
    """Ends a request that aiohttp would take elsewhere; only its WebSocket handshake would."""
    response = found.response
    response.close()
    raise aiohttp.WSServerHandshakeError(
        response.request_info, response.history, status=response.status, headers=response.headers
    )


@contextmanager
def socket_errors() -> Iterator[None]:
    """Turn aiohttp's and the socket's errors into UnreachableError or BadAnswerError."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
        if isinstance(error, TimeoutError) and error.errno is None:
            raise  # a deadline of ours, not the socket's
        raise _translated(error) from error


def _translated(error: Exception) -> UnreachableError | BadAnswerError:
    sentence = connection_sentence(error, REMEDIES)
    match error:
        case aiohttp.WSServerHandshakeError():
            return BadAnswerError(
                f"HTTP {error.status} instead of a WebSocket handshake",
                status=error.status,
                retry_after=retry_after(error.headers or {}),
            )
        case aiohttp.ClientResponseError():
            return BadAnswerError(sentence)
        case aiohttp.ClientConnectorError():
            return UnreachableError(sentence)
        case _ if is_refused_handshake(error):
            return UnreachableError(sentence)
        case _:
            broke = isinstance(error, OSError | aiohttp.ServerConnectionError)
            broke |= isinstance(error, aiohttp.ClientPayloadError)
            return UnreachableError(sentence, was_connected=broke)


def is_elsewhere(failure: ProbeError) -> bool:
    """Whether another machine may well reach what could not be reached from this one."""
    if isinstance(failure, NoAnswerError):
        return True
    cause = failure.__cause__
    own = cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else None
    return (
        isinstance(cause, aiohttp.ClientConnectorDNSError)
        or isinstance(own, AddressRefusedError)
        or (isinstance(cause, OSError) and cause.errno in _NO_WAY)
        or is_unknown_ca(cause)
    )


async def explain(
    failure: ProbeError, session: aiohttp.ClientSession, url: str, tls: ServerTls
) -> None:
    """Add to ``failure`` what has to be asked for: the names in a certificate for another name,
    that it is the CA that has expired, and whether TLS is spoken where plain HTTP was not answered.
    """
    cause = failure.__cause__
    if is_wrong_name(cause):
        failure.args = (await wrong_name_sentence(session, url, tls),)
    elif is_expired_ca(cause, tls):
        sentence = (
            "the CA that is trusted for it has expired; put the one that signs now in its file"
        )
        failure.args = (sentence,)
    elif _may_be_tls(cause, url) and await speaks_tls(session, url):
        failure.args = (WANTS_TLS,)


def _may_be_tls(cause: BaseException | None, url: str) -> bool:
    """Whether plain HTTP was ended as servers that speak TLS do it, if not by an answer."""
    if wire_url(url).scheme not in ("http", "ws"):
        return False
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.WSServerHandshakeError):
        return False
    return isinstance(
        cause, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientResponseError
    )


async def probe_health_url(
    session: aiohttp.ClientSession,
    url: str,
    timeout: float,
    *,
    tls: ServerTls = SYSTEM_TLS,
    auth: aiohttp.ClientMiddlewareType | None = None,
) -> float:
    """GET ``url`` and return how many seconds the answer took; its body is not read.

    ``auth`` adds credentials in the place of those that ``session`` adds.

    Raises NotOkError when the status is not 2xx (redirects are not followed), UnreachableError
    without a connection, and NoAnswerError after ``timeout`` seconds.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        with socket_errors():
            async with (
                asyncio.timeout(timeout),
                session.get(
                    wire_url(url),
                    headers=PLAIN,
                    timeout=UNBOUNDED,
                    allow_redirects=False,
                    middlewares=None if auth is None else (auth,),
                    **tls.options(),
                ) as response,
            ):
                if not 200 <= response.status < 300:
                    signed = "Authorization" in response.request_info.headers
                    wish = retry_after(response.headers)
                    raise NotOkError(response.status, signed=signed, retry_after=wish)
                return loop.time() - started
    except TimeoutError as error:
        raise NoAnswerError(timeout) from error
    except ProbeError as failure:
        await explain(failure, session, url, tls)
        raise


async def read_whole(response: aiohttp.ClientResponse, budget: Budget) -> bytes:
    """Return the body of ``response``; raises BadAnswerError as soon as it exceeds ``budget``."""
    if response.content_length is not None and response.content_length > budget.bytes_left:
        budget.take_bytes(response.content_length)
    chunks: list[bytes] = []
    async for chunk in response.content.iter_any():
        budget.take_bytes(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


async def refusal(
    response: aiohttp.ClientResponse, method: str, place: str = MCP_ENDPOINT
) -> BadAnswerError:
    """What to raise for an error status in answer to ``method`` from ``place``."""
    error = status_error(response.status, await read_beginning(response), method, place)
    error.retry_after = retry_after(response.headers)
    return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds in ``Retry-After``, however it says them (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


async def read_beginning(response: aiohttp.ClientResponse, size: int = 65_536) -> bytes:
    """Return the beginning of an error's body, at most about ``size`` bytes."""
    chunks: list[bytes] = []
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size -= len(chunk)
        if size <= 0:
            break
    return b"".join(chunks)
