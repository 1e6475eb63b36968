"""``/gateway/{name}/mcp``: forwards MCP requests to one replica, and streams its responses back."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator

import aiohttp
import orjson
from aiohttp import HttpVersion11, web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.gateway import upstream
from mcp_discovery.facade.gateway.replicas import TRANSPORT, Replicas, candidates
from mcp_discovery.facade.gateway.upstream import (
    SESSION,
    ForwardedRequest,
    ReplicaUnreachableError,
    send_request,
    unwrap_session,
)
from mcp_discovery.facade.http.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.origin import check_origin
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.http.problems import ProblemError, problem
from mcp_discovery.facade.options import OPTIONS, FacadeOptions
from mcp_discovery.facade.servers.current_list import current_view
from mcp_discovery.facade.servers.filters import parse
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Status
from mcp_discovery.probe import SYSTEM_TLS, ServerTls
from mcp_discovery.query.versions import VersionRange
from mcp_discovery.record import Record

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
#: The status of a request whose client has left; only the metrics see it.
_CLIENT_LEFT = 499


class McpGateway:
    """The gateway of one facade; it accepts requests inside of :meth:`running`."""

    def __init__(
        self,
        catalog: Catalog,
        options: FacadeOptions,
        usage: Usage,
        tls: ServerTls = SYSTEM_TLS,
    ) -> None:
        self._tls = tls
        self._catalog = catalog
        self._options = options
        self._usage = usage
        self._replicas = Replicas()
        self._in_flight = DisconnectWatch(_DISCONNECT_CHECK)
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

    async def forward(
        self, exchange: ForwardedRequest, name: str, versions: frozenset[VersionRange]
    ) -> web.StreamResponse:
        """Forwards the request to a replica of ``name`` and returns the response it streamed back.

        ``versions`` restricts the replicas where it is not empty. Raises :class:`ProblemError` for
        a request that cannot be forwarded.
        """
        request = exchange.request
        check_origin(request, self._options.cors_origins)
        try:
            async with self._in_flight.guard(request):
                if len(self) > _MOST_REQUESTS:
                    detail = f"{_MOST_REQUESTS} requests are under way; try again soon"
                    raise ProblemError(503, "too-busy", detail)
                await exchange.begin()
                upstream.reject_loop(request)
                view = current_view(self._catalog)
                if (given := request.headers.get(SESSION)) is not None:
                    return await self._forward_in_session(exchange, view, name, given)
                fit = candidates(view, name, versions)
                return await self._forward_to_any(exchange, name, fit)
        except ClientGoneError:
            _abort(request)
            return web.Response(status=_CLIENT_LEFT, reason="Client Closed Request")

    async def _forward_in_session(
        self, exchange: ForwardedRequest, view: View, name: str, given: str
    ) -> web.StreamResponse:
        """Forwards to the instance that began the session, whatever its health."""
        entry, session = _of_session(view, name, given)
        try:
            return await self._send_to(exchange, entry, session)
        except ReplicaUnreachableError as error:
            if entry.health.status is Status.DOWN:
                raise _session_over(entry.id) from error
            raise _none_reached([entry.id], error) from error

    async def _forward_to_any(
        self, exchange: ForwardedRequest, name: str, fit: list[Entry]
    ) -> web.StreamResponse:
        """Forwards to one of ``fit``; tries the next one as long as nothing was sent."""
        headers = exchange.request.headers
        protocol = headers.get(PROTOCOL, "")
        tool = headers.get("Mcp-Name") if headers.get("Mcp-Method") == "tools/call" else None
        order = self._replicas.ordered(fit, protocol if protocol >= _MODERN else None, tool)
        tried: list[str] = []
        for entry in order[:_MOST_TRIES]:
            tried.append(entry.id)
            try:
                return await self._send_to(exchange, entry)
            except ReplicaUnreachableError as error:
                log.info("gateway to %s: %s cannot be reached: %s", name, entry.id, error)
                last = error
        raise _none_reached(tried, last) from last

    async def _send_to(
        self, exchange: ForwardedRequest, entry: Entry, session: str | None = None
    ) -> web.StreamResponse:
        assert self._http is not None, "requests come inside of running()"
        request = exchange.request
        with self._replicas.using(entry.id):
            try:
                response = await send_request(
                    self._http,
                    entry.record,
                    exchange,
                    upstream.to_server(request, session),
                    self._options.gateway_timeout,
                    self._tls,
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
            try:
                return await self._stream_response(entry.record, exchange, response)
            finally:
                response.close()  # keeps the connection where the response was read to its end

    async def _stream_response(
        self, record: Record, exchange: ForwardedRequest, response: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """Streams the server's response to the client; aborts both if it breaks off."""
        request = exchange.request
        answer = web.StreamResponse(
            status=response.status,
            reason=response.reason if (response.reason or "").isascii() else None,
            headers=upstream.to_client(response.headers, record.id),
        )
        await answer.prepare(request)
        while True:
            try:
                part = await response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                log.info("the answer of %s broke off: %s", record.id, error)
                self._count(record, exchange, "the answer broke off")
                _abort(request)
                return answer
            if not part:
                break
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


GATEWAY: web.AppKey[McpGateway] = web.AppKey("gateway", McpGateway)


def only_listens(request: web.Request) -> bool:
    """Whether ``request`` asks for a stream of notifications, legacy or modern."""
    return request.method == "GET" or request.headers.get("Mcp-Method") == "subscriptions/listen"


def _of_session(view: View, name: str, given: str) -> tuple[Entry, str]:
    """The instance of a session, and the instance's own session id.

    Raises :class:`ProblemError` (404), after which a client initializes again (MCP 2025-11-25,
    session management).
    """
    parts = unwrap_session(given)
    if parts is None:
        detail = "this session is not one that the gateway gave; start a new one with initialize"
        raise ProblemError(404, "unknown-session", detail)
    entry = view.entries.get(parts[0])
    if entry is None or entry.record.name != name or entry.record.endpoint.transport != TRANSPORT:
        raise _session_over(parts[0])
    return entry, parts[1]


def _session_over(id: str) -> ProblemError:
    detail = f"the session is over, {id} has gone; start a new one with initialize"
    return ProblemError(404, "session-over", detail, id=id)


def _none_reached(ids: list[str], last: ReplicaUnreachableError) -> ProblemError:
    detail = f"{', '.join(ids)} cannot be reached now, nothing was sent; {ids[-1]}: {last}"
    return ProblemError(504 if last.late else 502, "not-reached", detail, ids=ids)


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


#: JSON-RPC 2.0, 5.1: the request is at fault, or the server is.
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603


async def mcp(request: web.Request) -> web.StreamResponse:
    """MCP (Streamable HTTP) with one living replica of the server, wherever it runs now.

    Bodies and answers are MCP's own and pass through as they come. Errors of the gateway itself are
    JSON-RPC errors, with the problem document as their ``data``, where the request is a POST. Off
    unless the facade was started with ``--gateway``.
    """
    gateway = request.app.get(GATEWAY)
    if gateway is None:
        detail = "the gateway is off; start the facade with --gateway to have it"
        raise ProblemError(404, "gateway-off", detail)
    name = request.match_info["name"]
    forwarded = ForwardedRequest(request, request.app[OPTIONS].body_timeout)
    versions = parse(request)["version"]
    try:
        return await gateway.forward(forwarded, name, versions)
    except ProblemError as error:
        if request.method != "POST":
            raise
        level = logging.INFO if error.status >= 500 else logging.DEBUG
        log.log(level, "gateway to %s: %s", name, error.detail)
        return _json_rpc_error(request, error, forwarded.id)


def _json_rpc_error(
    request: web.Request, error: ProblemError, id: str | int | None
) -> web.Response:
    """The JSON-RPC error for ``error``, with its HTTP status and its problem document as ``data``.

    ``id`` is that of the JSON-RPC request, ``None`` where it could not be read.
    """
    document = problem(request, error.status, error.detail, kind=error.kind, facts=error.facts)
    assert isinstance(document.body, bytes)
    code = _INVALID_REQUEST if error.status < 500 else _INTERNAL_ERROR
    data = orjson.Fragment(document.body)
    message = {"code": code, "message": error.detail, "data": data}
    retry = document.headers.get("Retry-After")
    return web.Response(
        status=error.status,
        body=orjson.dumps({"jsonrpc": "2.0", "id": id, "error": message}),
        content_type="application/json",
        headers={} if retry is None else {"Retry-After": retry},
    )


_PARAMETERS = (
    Parameter("name", "The server's name.", where="path"),
    Parameter(
        "version",
        "Only replicas in this range of semantic versions, such as `^1.2`; sessions stay where "
        "they began.",
        {"type": "array", "items": {"type": "string"}},
    ),
    Parameter("Mcp-Session-Id", "The session, as it was given.", where="header"),
)
OPERATIONS = tuple(
    Operation(
        method,
        "/gateway/{name}/mcp",
        mcp,
        "gateway",
        parameters=_PARAMETERS,
        errors=(403, 404, 408, 413, 501, 504, 508),
        needs="call",
    )
    for method in ("POST", "GET", "DELETE")
)
