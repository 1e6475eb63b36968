"""How an instance is reached: the HTTP connections that the whole client shares, faults as
responses, answers within their limit, and the transport for each kind of endpoint."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

import httpx2
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, ErrorData, RequestId

from mcp_discovery.client.answers import (
    EventCutter,
    MisdirectedAnswerError,
    OversizedAnswerError,
    Parts,
    UnusableAnswerError,
    error_message,
    error_of,
    event_data,
    size_text,
    with_data,
)
from mcp_discovery.client.attempt import Attempt, Exchanges
from mcp_discovery.client.settings import ClientSettings, Guard
from mcp_discovery.client.stdio import stdio_transport
from mcp_discovery.client.streams import sse_transport, tracked, websocket_transport
from mcp_discovery.connection_errors import is_refused_handshake
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.glance import Glance, glance
from mcp_discovery.instance import Instance
from mcp_discovery.program import Program
from mcp_discovery.telemetry import spans
from mcp_discovery.tls_files import system_context
from mcp_discovery.urls import wire_url

log = logging.getLogger(__name__)

#: What unpacks to at most a thousand times its size is asked for, so that a part of an answer that
#: has come stays small.
_HEADERS = {"Accept-Encoding": "gzip, deflate"}
#: Idle connections are closed before a server closes them (uvicorn does after 5 s).
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=4.0)
#: Faults after which the server cannot have received the request.
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
#: Seconds that a server may take to accept a notification; the SDK sends nothing else meanwhile.
_NOTIFICATION_TIMEOUT = 5.0


class SharedHttp(httpx2.AsyncBaseTransport):
    """One pool of connections for a whole :class:`~mcp_discovery.client.Discovery`.

    Making a TLS context takes 31 to 75 ms, so there is one, made when the first https URL is
    called, in a thread. CAs that are added to the system's file later are trusted as well.
    """

    def __init__(self, *, connect_timeout: float, guard: Guard | None) -> None:
        self._guard = guard
        self._plain = httpx2.AsyncHTTPTransport(verify=False, limits=_LIMITS)
        self._secure: asyncio.Future[_Secure] | None = None
        self._timeout = httpx2.Timeout(connect_timeout, read=None, write=30.0, pool=None)
        #: For the facade: faults are raised.
        self.facade = httpx2.AsyncClient(transport=self, timeout=self._timeout)

    def client(
        self, url: str, exchanges: Exchanges, *, limit: int, auth: httpx2.Auth | None = None
    ) -> httpx2.AsyncClient:
        """A client for the MCP server at ``url``: its own credentials, the shared connections.

        No answer is taken that is over ``limit`` bytes.
        """
        return httpx2.AsyncClient(
            transport=_FaultsAsResponses(_AsRegistered(self, url), self._guard, exchanges, limit),
            auth=auth,
            headers=_HEADERS,
            timeout=self._timeout,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends ``request`` over a connection of the pool, with the context of its span."""
        if spans.are_on():
            spans.inject(request.headers)
        if request.url.scheme != "https":
            return await self._plain.handle_async_request(request)
        if self._secure is None:
            self._secure = asyncio.ensure_future(asyncio.to_thread(_Secure))
        secure = await asyncio.shield(self._secure)
        secure.follow()
        try:
            return await secure.transport.handle_async_request(request)
        except ssl.SSLError as error:
            # httpx2 lets through what comes after a handshake, as its refusal does in TLS 1.3.
            kind = httpx2.ConnectError if is_refused_handshake(error) else httpx2.ReadError
            raise kind(str(error)) from error

    async def close(self) -> None:
        """Closes every connection."""
        await self.facade.aclose()
        await self._plain.aclose()
        if self._secure is not None:
            await (await self._secure).transport.aclose()


class _Secure:
    """The connections over TLS."""

    def __init__(self) -> None:
        self._context = httpx2.create_ssl_context()
        self._trusted = system_context()
        self.transport = httpx2.AsyncHTTPTransport(verify=self._context, limits=_LIMITS)

    def follow(self) -> None:
        """Trusts what was added to the system's file of CAs: the pool has one context for good."""
        if (trusted := system_context()) is not None and trusted is not self._trusted:
            self._trusted = trusted
            added = b"".join(trusted.get_ca_certs(binary_form=True))
            self._context.load_verify_locations(cadata=added)


@dataclass(eq=False, slots=True)
class _AsRegistered(httpx2.AsyncBaseTransport):
    """Sends path and query of ``url`` as they are written there: httpx2 resolves dot segments, and
    encodes some characters."""

    inner: httpx2.AsyncBaseTransport
    url: str

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url == httpx2.URL(self.url):
            request.extensions["target"] = wire_url(self.url).raw_path_qs.encode()
        return await self.inner.handle_async_request(request)


@dataclass(eq=False, slots=True)
class _FaultsAsResponses(httpx2.AsyncBaseTransport):
    """Turns a fault of the transport into a response, and records it in the call's attempt.

    A fault that is raised ends the SDK's whole session, and with it every other call under way at
    that server. As a response it ends only its own request.
    """

    inner: httpx2.AsyncBaseTransport
    guard: Guard | None
    exchanges: Exchanges
    limit: int

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        post = request.method == "POST"
        message = glance(request.content) if post else Glance(None, None)
        id = message.request_id
        attempt = self.exchanges.of(id)
        notifies = message.kind is not None and id is None
        try:
            if self.guard is not None:
                try:
                    await self.guard(request.url)
                except OSError as error:
                    raise httpx2.ConnectError(str(error)) from error
            async with asyncio.timeout(_NOTIFICATION_TIMEOUT if notifies else None):
                response = await self.inner.handle_async_request(request)
        except _NEVER_SENT as error:
            attempt.fault = error
            return _fault_response(error)
        except httpx2.TransportError as error:
            attempt.sent, attempt.fault = True, error
            return _fault_response(error)
        except TimeoutError as error:
            return _fault_response(
                httpx2.ReadTimeout(
                    f"a notification was not taken in {_NOTIFICATION_TIMEOUT:g} s ({error})"
                )
            )
        except asyncio.CancelledError:
            attempt.sent = True  # how far it got is not known
            raise
        attempt.sent = True
        if not notifies:
            attempt.status = response.status_code
        headers = response.headers.copy()
        for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):
            headers.pop(name, None)
        return httpx2.Response(
            response.status_code,
            headers=headers,
            stream=_Answer(response, self.exchanges, attempt, id, self.limit),
            extensions=response.extensions,
        )


@dataclass(eq=False, slots=True)
class _Answer(httpx2.AsyncByteStream):
    """The body of ``response``, unpacked, as the SDK can take it.

    It ends where the connection breaks: incomplete JSON, or a stream that lacks the answer, is an
    error of that request alone. In the place of an answer that is over the limit, or is that of
    another request, there is an error. Errors of the server are made regular and recorded.

    ``id`` is that of the request that it answers; ``None``: a stream that answers many, or none.
    """

    response: httpx2.Response
    exchanges: Exchanges
    attempt: Attempt
    id: RequestId | None
    limit: int
    answered: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        kind = self.response.headers.get("Content-Type", "").lower()
        answer = self._events() if kind.startswith("text/event-stream") else self._message()
        try:
            async with aclosing(answer):
                async for part in answer:
                    yield part
        except (httpx2.TransportError, httpx2.DecodingError, ssl.SSLError) as error:
            self.attempt.fault = error

    async def aclose(self) -> None:
        await self.response.aclose()

    async def _message(self) -> AsyncGenerator[bytes, None]:
        parts = Parts()
        size = 0
        async with aclosing(self.response.aiter_bytes()) as body:
            async for part in body:
                size += len(part)
                if size > self.limit:
                    parts.clear()
                    yield self._refused(self.id, OversizedAnswerError(self.limit))
                    return
                parts.append(part)
        found = glance(parts.ends())
        instead = self._regular(found, parts.whole)
        if found.kind == "result" and self.id is not None and not found.names(self.id):
            instead = self._refused(self.id, MisdirectedAnswerError(self.id, found.id))
        for part in parts.taken() if instead is None else (instead,):
            yield part

    async def _events(self) -> AsyncGenerator[bytes, None]:
        cutter = EventCutter(self.limit)
        settled = False  # it is known whose the event is that is coming, and said
        async with aclosing(self.response.aiter_bytes()) as body:
            async for chunk in body:
                for parts, whole in cutter.cut(chunk):
                    ends = event_data(parts.ends())
                    if whole:
                        for part in self._event(glance(ends), parts):
                            yield part
                    elif not settled and (instead := self._instead_of(ends)) is not None:
                        yield instead
                    settled = False
                self.exchanges.blocked = cutter.oversized and self.id is None
                if not cutter.oversized or settled:
                    continue
                if (instead := self._instead_of(event_data(cutter.parts.ends()))) is not None:
                    settled = True
                    yield instead
                    if self.answered:
                        return
        if self.id is not None and not self.answered:
            self.attempt.fault = httpx2.RemoteProtocolError("the stream ended without an answer")

    def _event(self, found: Glance, parts: Parts) -> Iterator[bytes]:
        """An event within the limit as the SDK can take it."""
        self.answered = self.answered or found.kind in ("result", "error")
        error = self._regular(found, lambda: event_data(parts.whole()))
        return parts.taken() if error is None else iter((with_data(parts.whole(), error),))

    def _instead_of(self, beginning: bytes) -> bytes | None:
        """What comes in the place of an event over the limit; ``None``: whose it is is not seen."""
        found = glance(beginning)
        if found.kind == "method":
            log.warning("a message of a server is left out: it is over %s", size_text(self.limit))
            return b": left out\n\n"
        candidates = (self.id, found.value, self.exchanges.only)
        id = next((each for each in candidates if each is not None), None)
        if id is None:
            return None
        self.answered = self.id is not None
        return with_data(b"", self._refused(id, OversizedAnswerError(self.limit)))

    def _regular(self, found: Glance, read: Callable[[], bytes]) -> bytes | None:
        """The error that a server sent, which is recorded; ``None`` for another message.

        ``read`` gives the whole message.
        """
        error = error_of(read()) if found.kind == "error" else None
        if error is None:
            return None
        id, said = error
        id = id if self.id is None else self.id
        attempt = self.exchanges.of(id) if self.id is None else self.attempt
        attempt.record_own(said, named=found.names(id))
        return error_message(id, said)

    def _refused(self, id: RequestId | None, fault: UnusableAnswerError) -> bytes:
        """The error in the place of an answer to the request ``id`` that cannot be taken."""
        self.exchanges.of(id).fault = fault
        return error_message(id, ErrorData(code=INTERNAL_ERROR, message=str(fault)))


def _fault_response(error: httpx2.TransportError) -> httpx2.Response:
    said = ErrorData(code=CONNECTION_CLOSED, message=f"{type(error).__name__}: {error}")
    headers = {"Content-Type": "application/json"}
    return httpx2.Response(503, headers=headers, content=error_message(None, said))


def transport_for(
    instance: Instance,
    url: str,
    settings: ClientSettings,
    http: SharedHttp,
    exchanges: Exchanges,
) -> Transport:
    """A transport to ``instance`` at ``url`` (empty for ``stdio``); nothing is connected yet.

    ``exchanges`` are those over this transport alone. Raises
    :class:`~mcp_discovery.errors.InvalidInputError` where a ``stdio`` server cannot be started for
    want of a variable.
    """
    if settings.transport is not None:
        return tracked(settings.transport(instance), exchanges, own=True)
    auth = settings.auth_of(instance)
    limit = settings.max_answer_bytes
    match instance.record.endpoint.transport:
        case "streamable-http":
            client = http.client(url, exchanges, limit=limit, auth=auth)
            # The limit is kept below.
            found = streamable_http_client(url, http_client=client, max_sse_event_size=None)
            return tracked(found, exchanges)
        case "sse":
            return tracked(
                sse_transport(url, http.client(url, exchanges, limit=limit, auth=auth), exchanges),
                exchanges,
            )
        case "websocket":
            found = websocket_transport(url, auth, exchanges, limit=limit)
            return tracked(found, exchanges, own=True)
        case "stdio":
            command, args, environment = settings.command_of(instance)
            program = Program(command=(command, *args), env=environment or {})
            found = stdio_transport(program, instance.id, exchanges, limit=limit)
            return tracked(found, exchanges, own=True)
        case "a2a":
            raise InvalidInputError(f"{instance.id} is an A2A agent, which no MCP client can call")
