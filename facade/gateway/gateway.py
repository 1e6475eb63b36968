"""``/gateway/{name}/mcp``: forwards MCP requests to one replica, and streams its responses back."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import HttpVersion11, web

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.facade.access.audit.calls import PassedCalls
from mcp_discovery.facade.access.caller import Caller, caller_of
from mcp_discovery.facade.access.calling import PartialAccess, access_to
from mcp_discovery.facade.access.quotas import quotas_in
from mcp_discovery.facade.gateway import spans, upstream
from mcp_discovery.facade.gateway.answers import UnfilterableAnswerError, filtered_parts, is_stream
from mcp_discovery.facade.gateway.credentials import NO_CREDENTIALS, KnownCredentials
from mcp_discovery.facade.gateway.messages import Messages
from mcp_discovery.facade.gateway.replicas import TRANSPORT, Replicas, candidates, not_callable
from mcp_discovery.facade.gateway.restriction import refusal
from mcp_discovery.facade.gateway.sessions import SessionIds
from mcp_discovery.facade.gateway.upstream import (
    SESSION,
    ForwardedRequest,
    ReplicaUnreachableError,
    send_request,
)
from mcp_discovery.facade.http.body import decode
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.http.problems import MAX_BODY_BYTES, ProblemError
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Status
from mcp_discovery.mcp_messages import JsonRpcError, encoded, failure, only_listens
from mcp_discovery.probe import SYSTEM_TLS, ServerTls
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.record import Record
from mcp_discovery.telemetry.conventions import http_answered
from mcp_discovery.websocket_front import WebSocketFront, handshake_fault

log = logging.getLogger(__name__)

PROTOCOL = "MCP-Protocol-Version"
#: The first protocol version without sessions; versions are dates, and compare as texts.
_MODERN = "2026-07-28"

#: Seconds between two checks for clients that have left: closing the connection is how modern
#: clients cancel (MCP 2026-07-28, cancellation).
_DISCONNECT_CHECK = 0.05
#: How many requests may be in flight at once.
_MOST_REQUESTS = 8192
#: How many replicas are tried for one request.
_MOST_TRIES = 3
#: How many seconds an idle connection to a server is kept: less than the 5 s after which uvicorn,
#: which most Python servers run under, closes it, perhaps while a request is on its way.
_KEPT_ALIVE = 4.0
#: Seconds that what the clients of WebSockets wait for may take when the facade stops.
_GRACE = 2.0
#: The status of a request whose client has left; only the metrics see it.
_CLIENT_LEFT = 499


class McpGateway:
    """The gateway of one facade; it accepts requests inside of :meth:`running`."""

    def __init__(
        self,
        options: FacadeOptions,
        usage: Usage,
        sessions: SessionIds,
        credentials: Callable[[], KnownCredentials] | None = None,
        tls: ServerTls = SYSTEM_TLS,
        has_strangers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._has_strangers = has_strangers
        self._sessions = sessions
        self._credentials = credentials or (lambda: NO_CREDENTIALS)
        self._tls = tls
        self._options = options
        self._passed = upstream.require_passable(options.gateway_pass_headers)
        self._usage = usage
        self._replicas = Replicas()
        self._in_flight = DisconnectWatch(_DISCONNECT_CHECK)
        self.sockets = WebSocketFront(ping=options.ping, write_timeout=options.write_timeout)
        self._http: aiohttp.ClientSession | None = None

    def __len__(self) -> int:
        """How many requests are in flight."""
        return len(self._in_flight)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application."""
        dialer = Dialer(self._options.addresses, headers={}, connections=0, keepalive=_KEPT_ALIVE)
        self._http = dialer.session
        watch = asyncio.create_task(self._in_flight.run(), name="gateway: gone clients")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await dialer.close()

    async def end_streams(self, _: web.Application) -> None:
        """Ends the streams that would keep the application from stopping."""
        self._in_flight.end(only_listens)
        await self.sockets.close(_GRACE)

    async def serve_socket(
        self, request: web.Request, name: str, versions: frozenset[VersionRange]
    ) -> web.StreamResponse:
        """Speaks MCP over a WebSocket, each message as a request of its own to this path.

        Raises :class:`ProblemError` where that cannot be, or there is nothing to speak with.
        """
        if (fault := handshake_fault(request)) is not None:
            raise ProblemError(400, "bad-handshake", fault)
        upstream.reject_loop(request)
        candidates(view_of(request), name, versions, request)
        return await self.sockets.serve(request)

    async def forward(
        self, exchange: ForwardedRequest, name: str, versions: frozenset[VersionRange]
    ) -> web.StreamResponse:
        """Forwards the request to a replica of ``name`` and returns the response it streamed back.

        ``versions`` restricts the replicas where it is not empty. Raises :class:`ProblemError` for
        a request that cannot be forwarded.
        """
        request = exchange.request
        try:
            async with self._in_flight.guard(request):
                if len(self) > _MOST_REQUESTS:
                    detail = f"{_MOST_REQUESTS} requests are under way; try again soon"
                    raise ProblemError(503, "too-busy", detail)
                await exchange.begin()
                upstream.reject_loop(request)
                messages = Messages.of(request, exchange.prefix, whole=exchange.whole)
                calls = exchange.calls = PassedCalls.of(request, name, messages)
                forwarding = self._forward(exchange, name, versions, messages)
                return await (forwarding if calls is None else calls.recorded(forwarding))
        except ClientGoneError:
            _abort(request)
            return web.Response(status=_CLIENT_LEFT, reason="Client Closed Request")

    async def _forward(
        self,
        exchange: ForwardedRequest,
        name: str,
        versions: frozenset[VersionRange],
        messages: Messages,
    ) -> web.StreamResponse:
        """Finds the server and the caller's right first: only then is anything counted, and a call
        recorded."""
        request = exchange.request
        view, caller = view_of(request), caller_of(request)
        if (given := request.headers.get(SESSION)) is not None:
            entry, session = self._of_session(view, name, given, caller)
            if not access_to(caller.rights, entry.instance):
                raise not_callable(request, name)
            await _take_calls(request, messages)
            return await self._forward_in_session(exchange, entry, session)
        fit = candidates(view, name, versions, request)
        await _take_calls(request, messages)
        return await self._forward_to_any(exchange, name, fit)

    async def _forward_in_session(
        self, exchange: ForwardedRequest, entry: Entry, session: str
    ) -> web.StreamResponse:
        """Forwards to the instance that began the session, whatever its health."""
        try:
            return await self._send_to(exchange, entry, session)
        except ReplicaUnreachableError as error:
            if entry.health.status is Status.DOWN:
                raise _session_over(entry.id) from error
            raise self._none_reached([entry], error) from error

    async def _forward_to_any(
        self, exchange: ForwardedRequest, name: str, fit: list[Entry]
    ) -> web.StreamResponse:
        """Forwards to one of ``fit``; tries the next one as long as nothing was sent."""
        headers = exchange.request.headers
        protocol = headers.get(PROTOCOL, "")
        tool = headers.get("Mcp-Name") if headers.get("Mcp-Method") == "tools/call" else None
        order = self._replicas.ordered(fit, protocol if protocol >= _MODERN else None, tool)
        tried: list[Entry] = []
        for entry in order[:_MOST_TRIES]:
            tried.append(entry)
            try:
                return await self._send_to(exchange, entry)
            except ReplicaUnreachableError as error:
                log.info("gateway to %s: %s cannot be reached: %s", name, entry.id, error)
                last = error
        raise self._none_reached(tried, last) from last

    def _none_reached(self, tried: list[Entry], last: ReplicaUnreachableError) -> ProblemError:
        ids = [each.id for each in tried]
        none = f"{', '.join(ids)} cannot be reached now, nothing was sent"
        owned = all(each.instance.lease.holder.owner is not None for each in tried)
        if self._has_strangers() and not owned:
            # See mcp_discovery.facade.registration.strangers.
            return ProblemError(502, "not-reached", f"{none}; the facade's log says why", ids=ids)
        detail = f"{none}; {ids[-1]}: {last}"
        return ProblemError(504 if last.late else 502, "not-reached", detail, ids=ids)

    async def _send_to(
        self, exchange: ForwardedRequest, entry: Entry, session: str | None = None
    ) -> web.StreamResponse:
        assert self._http is not None, "requests come inside of running()"
        request = exchange.request
        access = access_to(caller_of(request).rights, entry.instance)
        if not access:
            raise not_callable(request, entry.record.name)
        part = access if isinstance(access, PartialAccess) else None
        if part is not None and (refused := await _refused(exchange, part)) is not None:
            if exchange.calls is not None:
                exchange.calls.refused(entry.instance, refused, part)
            return refused
        if exchange.calls is not None:
            await exchange.calls.begin(entry.instance, exchange.prefix)
        headers = upstream.to_server(
            request,
            session,
            passed=self._passed,
            authorization=self._passes_authorization(request),
            plain=part is not None,
        )
        with self._replicas.using(entry.id), spans.passed_on(exchange, entry.record) as span:
            spans.carry(exchange, headers)
            try:
                response = await send_request(
                    self._http,
                    entry.record,
                    exchange,
                    headers,
                    self._options.gateway_timeout,
                    self._tls,
                    self._credentials(),
                )
            except ReplicaUnreachableError as error:
                self._replicas.record_connection(entry.id, ok=False)
                self._count(entry.record, exchange, str(error))
                raise
            except ProblemError as error:
                if error.status >= 500:
                    self._count(entry.record, exchange, error.detail)
                raise
            self._replicas.record_connection(entry.id, ok=True)
            http_answered(span, response.status)
            try:
                self._require_accepted(request, entry.record, response)
                return await self._stream_response(entry.record, exchange, response, part)
            finally:
                response.close()  # keeps the connection where the response was read to its end

    def _passes_authorization(self, request: web.Request) -> bool:
        """Whether the client's ``Authorization`` is for the server: never one that is good for more
        of this facade than that server, which could act for the client with it."""
        caller = caller_of(request)
        is_own = caller.by == "token" or (caller.by == "jwt" and not caller.is_for_one_resource)
        return self._options.gateway_pass_authorization and not is_own

    def _require_accepted(
        self, request: web.Request, record: Record, response: aiohttp.ClientResponse
    ) -> None:
        """Raises :class:`ProblemError` (502) where the server wants credentials.

        It is not the client that it asks for them, unless the client's reach it.
        """
        if response.status == 401 and not self._passes_authorization(request):
            detail = (
                f"{record.id} wants other credentials (HTTP 401); name them in the file of "
                "--gateway-credentials, for its name and origin, or have those of clients passed "
                "on with --gateway-pass-authorization"
            )
            raise ProblemError(502, "credentials-wanted", detail, id=record.id)

    async def _stream_response(
        self,
        record: Record,
        exchange: ForwardedRequest,
        response: aiohttp.ClientResponse,
        access: PartialAccess | None,
    ) -> web.StreamResponse:
        """Streams the server's response to the client, or what of it ``access`` allows; aborts both
        if it breaks off."""
        request = exchange.request
        headers = upstream.to_client(response.headers)
        if session := response.headers.get(SESSION):
            headers[SESSION] = self._sessions.wrap(caller_of(request), record.id, session)
        answer = web.StreamResponse(
            status=response.status,
            reason=response.reason if (response.reason or "").isascii() else None,
            headers=headers,
        )
        if access is None:
            parts: AsyncIterator[bytes] = aiter(response.content.iter_any())
        else:
            answer.headers.popall("Content-Length", None)
            parts = filtered_parts(response, access)
            if not is_stream(response):
                parts = await _read(parts, record)
        await answer.prepare(request)
        while True:
            try:
                part = await anext(parts, b"")
            except (aiohttp.ClientError, OSError, UnfilterableAnswerError) as error:
                log.info("the answer of %s broke off: %s", record.id, error)
                self._count(record, exchange, "the answer broke off")
                _abort(request)
                return answer
            if not part:
                break
            if exchange.calls is not None:
                exchange.calls.read(part)
            try:
                async with asyncio.timeout(self._options.write_timeout):
                    await answer.write(part)
            except (TimeoutError, ConnectionError):
                _abort(request)
                return answer
        if response.status < 300 or response.status >= 500:
            failed = response.status >= 500
            self._count(record, exchange, f"HTTP {response.status}" if failed else None)
        return answer

    def _count(self, record: Record, exchange: ForwardedRequest, error: str | None) -> None:
        """Counts the outcome of a call, as a client's report would.

        A stream that clients listen on, and the end of a session, have no outcome.
        """
        request = exchange.request
        if request.method != "POST" or only_listens(request):
            return
        name = request.headers.get("Mcp-Name")
        offered = record.capabilities
        known = name in offered.tools or name in offered.prompts
        self._usage.outcome(
            record.id,
            latency=time.monotonic() - exchange.began,
            success=error is None,
            capability=name if known else None,
            error=error,
        )

    def _of_session(self, view: View, name: str, given: str, caller: Caller) -> tuple[Entry, str]:
        """The instance of a session of ``caller``, and the instance's own session id.

        Raises :class:`ProblemError` (404), after which a client initializes again (MCP 2025-11-25,
        session management).
        """
        parts = self._sessions.unwrap(caller, given)
        if parts is None:
            detail = (
                "this session is not one that the gateway gave you; start a new one with initialize"
            )
            raise ProblemError(404, "unknown-session", detail)
        entry = view.entries.get(parts[0])
        if (
            entry is None
            or entry.record.name != name
            or entry.record.endpoint.transport != TRANSPORT
            or entry.health.status is Status.QUARANTINED
        ):
            raise _session_over(parts[0])
        return entry, parts[1]


GATEWAY: web.AppKey[McpGateway] = web.AppKey("gateway", McpGateway)


async def _take_calls(request: web.Request, messages: Messages) -> None:
    """Counts the calls in a batch, of which the request is one already; raises
    :class:`ProblemError` (429)."""
    more = len(messages.calls) - 1
    if more > 0 and (quotas := quotas_in(request)) is not None:
        await quotas.take(caller_of(request), "calls", more)


async def _refused(exchange: ForwardedRequest, access: PartialAccess) -> web.Response | None:
    """The answer to what ``access`` does not allow a server to read; ``None``: it may read it."""
    if exchange.request.method != "POST":
        exchange.drop_body()
        return None
    request = exchange.request
    body = await exchange.read_whole(MAX_BODY_BYTES)
    try:
        found = await decode(request, body, lambda data: refusal(request, data, access))
    except JsonRpcError as fault:
        found = fault.modern_status, encoded(failure(exchange.id, fault))
    if found is None:
        return None
    return web.Response(status=found[0], body=found[1], content_type="application/json")


async def _read(parts: AsyncIterator[bytes], record: Record) -> AsyncIterator[bytes]:
    """What ``parts`` are, all of them read; raises :class:`ProblemError` where that cannot be."""
    try:
        found = [part async for part in parts]
    except UnfilterableAnswerError as error:
        raise ProblemError(502, "bad-answer", f"{record.id}: {error}", id=record.id) from error
    except (aiohttp.ClientError, OSError) as error:
        detail = f"the answer of {record.id} broke off; whether it did what it was asked is unknown"
        raise ProblemError(502, "broken-off", detail, id=record.id) from error

    async def again() -> AsyncIterator[bytes]:
        for part in found:
            yield part

    return again()


def _session_over(id: str) -> ProblemError:
    detail = f"the session is over, {id} has gone; start a new one with initialize"
    return ProblemError(404, "session-over", detail, id=id)


def _abort(request: web.Request) -> None:
    """Closes the connection so that no client takes a partial response for a whole one."""
    transport = request.transport
    if transport is None:
        return
    if request.version < HttpVersion11:
        # Without chunked encoding only a reset tells a broken response from a complete one.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
