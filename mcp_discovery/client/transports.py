"""How an instance is reached: the SDK's transports over HTTP connections that the whole client
shares, with faults as responses, and a transport for WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx2
import orjson
from mcp.client import Transport
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, jsonrpc_message_adapter
from pydantic import ValidationError

from mcp_discovery.client.attempt import ATTEMPT, Attempt
from mcp_discovery.client.settings import ClientSettings, Guard
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.instance import Instance
from mcp_discovery.urls import wire_url

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams, WriteStream

#: The largest response, in bytes, that is not an event stream.
MAX_RESPONSE = 64 * 2**20
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


class BodyTooLargeError(DiscoveryError, httpx2.TransportError):
    """The answer is over :data:`MAX_RESPONSE`."""


class SharedHttp(httpx2.AsyncBaseTransport):
    """One pool of connections for a whole :class:`~mcp_discovery.client.Discovery`.

    Making a TLS context takes 31 to 75 ms, so there is one, made when the first https URL is
    called, in a thread.
    """

    def __init__(self, *, connect_timeout: float, guard: Guard | None) -> None:
        self._guard = guard
        self._plain = httpx2.AsyncHTTPTransport(verify=False, limits=_LIMITS)
        self._secure: asyncio.Future[httpx2.AsyncHTTPTransport] | None = None
        self._timeout = httpx2.Timeout(connect_timeout, read=None, write=30.0, pool=None)
        #: For the facade: faults are raised.
        self.facade = httpx2.AsyncClient(transport=self, timeout=self._timeout)

    def client(
        self, url: str, *, auth: httpx2.Auth | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.AsyncClient:
        """A client for the MCP server at ``url``: its own credentials and cookies, the shared
        connections."""
        return httpx2.AsyncClient(
            transport=_FaultsAsResponses(_AsRegistered(self, url), self._guard),
            auth=auth,
            headers=headers,
            timeout=self._timeout,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends ``request`` over a connection of the pool."""
        if request.url.scheme != "https":
            return await self._plain.handle_async_request(request)
        if self._secure is None:
            making = asyncio.to_thread(httpx2.AsyncHTTPTransport, limits=_LIMITS)
            self._secure = asyncio.ensure_future(making)
        secure = await asyncio.shield(self._secure)
        return await secure.handle_async_request(request)

    async def close(self) -> None:
        """Closes every connection."""
        await self.facade.aclose()
        await self._plain.aclose()
        if self._secure is not None:
            await (await self._secure).aclose()


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
    """Turns a fault of the transport into a response, and records it in the :data:`ATTEMPT`.

    A fault that is raised ends the SDK's whole session, and with it every other call under way at
    that server. As a response it ends only its own request.
    """

    inner: httpx2.AsyncBaseTransport
    guard: Guard | None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        attempt = ATTEMPT.get() or Attempt()
        try:
            if self.guard is not None:
                try:
                    await self.guard(request.url)
                except OSError as error:
                    raise httpx2.ConnectError(str(error)) from error
            async with asyncio.timeout(
                _NOTIFICATION_TIMEOUT if _is_notification(request) else None
            ):
                response = await self.inner.handle_async_request(request)
        except _NEVER_SENT as error:
            attempt.record_fault(error)
            return _fault_response(error)
        except httpx2.TransportError as error:
            attempt.sent = True
            attempt.record_fault(error)
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
        attempt.sent, attempt.status = True, response.status_code
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        kind = response.headers.get("content-type", "")
        limit = None if kind.startswith("text/event-stream") else MAX_RESPONSE
        response.stream = _BodyWithoutFaults(response.stream, attempt, limit)
        return response


@dataclass(eq=False, slots=True)
class _BodyWithoutFaults(httpx2.AsyncByteStream):
    """A body that ends where the connection breaks: incomplete JSON, or a stream that lacks the
    response, is an error of that request alone."""

    inner: httpx2.AsyncByteStream
    attempt: Attempt
    limit: int | None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self.inner:
                size += len(chunk)
                if self.limit is not None and size > self.limit:
                    self.attempt.record_fault(BodyTooLargeError(f"over {self.limit:,} bytes"))
                    return
                yield chunk
        except httpx2.TransportError as error:
            self.attempt.record_fault(error)

    async def aclose(self) -> None:
        await self.inner.aclose()


def _fault_response(error: httpx2.TransportError) -> httpx2.Response:
    message = f"{type(error).__name__}: {error}"
    fault = {"code": CONNECTION_CLOSED, "message": message}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": fault})
    return httpx2.Response(503, headers={"Content-Type": "application/json"}, content=body)


def _is_notification(request: httpx2.Request) -> bool:
    """Whether it is a notification or a response, which do not have both ``method`` and ``id``.

    The modern protocol has neither, and names the method of a request in a header. A message of
    more than 4 KiB is a request.
    """
    if request.method != "POST" or "Mcp-Method" in request.headers or len(request.content) > 4096:
        return False
    message = orjson.loads(request.content)
    return not (isinstance(message, dict) and "method" in message and "id" in message)


def transport_for(
    instance: Instance, url: str, settings: ClientSettings, http: SharedHttp
) -> Transport:
    """A transport to ``instance`` at ``url`` (empty for ``stdio``); nothing is connected yet.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` where a ``stdio`` server cannot be
    started for want of a variable.
    """
    endpoint = instance.record.endpoint
    auth = settings.auth_of(instance)
    match endpoint.transport:
        case "streamable-http":
            return streamable_http_client(url, http_client=http.client(url, auth=auth))
        case "sse":
            return sse_client(
                url,
                auth=auth,
                httpx_client_factory=lambda headers=None, timeout=None, auth=None: http.client(
                    url, auth=auth, headers=headers
                ),
            )
        case "websocket":
            return _send_tracking(_websocket(url, auth))
        case "stdio":
            command, args, environment = settings.command_of(instance)
            started = StdioServerParameters(command=command, args=args, env=environment)
            return _send_tracking(stdio_client(started))


@asynccontextmanager
async def _send_tracking(
    inner: AbstractAsyncContextManager[TransportStreams],
) -> AsyncGenerator[TransportStreams, None]:
    """A transport that records in a call's :data:`ATTEMPT` that it was sent."""
    async with inner as (reading, writing):
        yield reading, _TrackedWrites(writing)


@dataclass(eq=False, slots=True)
class _TrackedWrites:
    inner: WriteStream[SessionMessage]

    async def send(self, item: SessionMessage, /) -> None:
        if (attempt := ATTEMPT.get()) is not None:
            attempt.sent = True
        await self.inner.send(item)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@asynccontextmanager
async def _websocket(url: str, auth: httpx2.Auth | None) -> AsyncGenerator[TransportStreams, None]:
    """MCP over WebSocket: one JSON-RPC message in each text frame, subprotocol ``mcp``.

    As the SDK before 2.0 implemented it; the SDK from 2.0 on has no such transport.
    """
    import aiohttp

    from mcp_discovery.probe import probing_session

    to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    async with (
        probing_session(aiohttp.TCPConnector()) as http,
        http.ws_connect(
            wire_url(url),
            protocols=["mcp"],
            headers=await _headers(url, auth),
            heartbeat=20.0,
            max_msg_size=MAX_RESPONSE,
        ) as socket,
        anyio.create_task_group() as tasks,
        reading,
        writing,
    ):

        async def receive() -> None:
            async with to_session:
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    try:
                        parsed = jsonrpc_message_adapter.validate_json(message.data, by_name=False)
                    except ValidationError as error:
                        await to_session.send(error)
                    else:
                        await to_session.send(SessionMessage(parsed))

        async def send() -> None:
            async with from_session:
                async for item in from_session:
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await socket.send_str(text)

        tasks.start_soon(receive)
        tasks.start_soon(send)
        yield reading, writing
        tasks.cancel_scope.cancel()


async def _headers(url: str, auth: httpx2.Auth | None) -> dict[str, Any]:
    """The Authorization that ``auth`` gives a request."""
    if auth is None:
        return {}
    flow = auth.async_auth_flow(httpx2.Request("GET", url.replace("ws", "http", 1)))
    request = await anext(flow)
    await flow.aclose()
    found = request.headers.get("Authorization")
    return {"Authorization": found} if found else {}
