"""Transports of one long stream, server-sent events and WebSocket, and what tracks any transport.

The SDK's transport for server-sent events knows one limit for an event, 1 MiB, and ends at the
first request that a server refuses; from 2.0 on the SDK has none for WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx2
from anyio.abc import TaskGroup
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from mcp_discovery.client.answers import OversizedAnswerError, error_message, error_of
from mcp_discovery.client.attempt import ATTEMPT, Exchanges
from mcp_discovery.glance import glance
from mcp_discovery.urls import resolve_in_origin, wire_url

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams, WriteStream

#: So many characters of a message tell whether it is an error.
_GLANCED = 2**16
#: How many redirects within its origin a request follows.
_MOST_REDIRECTS = 3


@asynccontextmanager
async def tracked(
    inner: AbstractAsyncContextManager[TransportStreams], exchanges: Exchanges, *, own: bool = False
) -> AsyncGenerator[TransportStreams, None]:
    """The transport ``inner``, whose requests are noted in ``exchanges``.

    ``own``: every error that comes over it is the server's, since it makes none itself.
    """
    async with inner as (reading, writing):
        yield _TrackedReads(reading, exchanges, own), _TrackedWrites(writing, exchanges, own)


@dataclass(eq=False, slots=True)
class _TrackedWrites:
    inner: WriteStream[SessionMessage]
    exchanges: Exchanges
    own: bool

    async def send(self, item: SessionMessage, /) -> None:
        self.exchanges.sending(item.message)
        if self.own and (attempt := ATTEMPT.get()) is not None:
            attempt.sent = True
        await self.inner.send(item)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@dataclass(eq=False, slots=True)
class _TrackedReads:
    inner: ReadStream[SessionMessage | Exception]
    exchanges: Exchanges
    own: bool

    @property
    def last_context(self) -> Any:
        """The context in which the last message was sent, where the transport tells it."""
        return getattr(self.inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        try:
            item = await self.inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self.exchanges.over = True
            raise
        if isinstance(item, SessionMessage):
            attempt = self.exchanges.received(item.message)
            if self.own and attempt is not None and isinstance(item.message, JSONRPCError):
                attempt.record_own(item.message.error, named=True)
        return item

    async def aclose(self) -> None:
        await self.inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


Sink = Callable[[SessionMessage | Exception], Awaitable[None]]


async def _deliver(text: str, sink: Sink) -> None:
    """Gives the message in ``text`` to the session, or why it is none."""
    try:
        message = jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValidationError as error:
        await sink(error)
    else:
        await sink(SessionMessage(message))


@asynccontextmanager
async def sse_transport(
    url: str, http: httpx2.AsyncClient, exchanges: Exchanges
) -> AsyncGenerator[TransportStreams, None]:
    """MCP over one stream of server-sent events (2024-11-05, HTTP with SSE).

    Messages go to the address that the stream's event ``endpoint`` names, within the origin of
    ``url``. A request that is refused there fails alone. Raises ``httpx2.HTTPStatusError`` where
    the stream is, and ``httpx2.TransportError`` where it is none.
    """
    to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def receive(response: httpx2.Response) -> None:
        async with to_session:
            # The limit of an event is kept below.
            async for event in httpx2.EventSource(response, max_event_size=None):
                if event.event == "endpoint" and not endpoint.done():
                    target = resolve_in_origin(url, event.data)
                    if target is None:
                        raise httpx2.SSEError(f"its endpoint {event.data!r} is of another origin")
                    endpoint.set_result(target)
                elif event.event == "message" and event.data:
                    await _deliver(event.data, to_session.send)
            attempt = ATTEMPT.get()
            fault = attempt.fault if attempt is not None else None
            fault = fault or httpx2.RemoteProtocolError("the server ended its stream")
            exchanges.break_off(fault)
            if not endpoint.done():
                raise fault

    async def post(item: SessionMessage) -> None:
        body = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        address = await endpoint
        as_written = {"target": wire_url(address).raw_path_qs.encode()}
        request = http.build_request("POST", address, json=body, extensions=as_written)
        response = await _send(http, request)
        async with _closing(response):
            if response.status_code < 300 or not isinstance(item.message, JSONRPCRequest):
                return
            found = error_of(await response.aread())
            said = f"HTTP {response.status_code}"
            error = found[1] if found else ErrorData(code=INTERNAL_ERROR, message=said)
            message = JSONRPCError(jsonrpc="2.0", id=item.message.id, error=error)
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # it is over
                await to_session.send(SessionMessage(message))

    async def send(tasks: TaskGroup) -> None:
        async with from_session:
            async for item in from_session:
                if isinstance(item.message, JSONRPCRequest):
                    tasks.start_soon(post, item)
                else:
                    await post(item)  # what follows may depend on it

    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    opened = await _send(http, http.build_request("GET", url, headers=headers))
    async with (
        _closing(opened),
        anyio.create_task_group() as tasks,
        to_session,
        reading,
        writing,
    ):
        opened.raise_for_status()
        tasks.start_soon(receive, opened)
        await endpoint
        tasks.start_soon(send, tasks)
        yield reading, writing
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _closing(response: httpx2.Response) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await response.aclose()


async def _send(http: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """The head of the response, after redirects that keep the method and the origin."""
    for _ in range(_MOST_REDIRECTS):
        response = await http.send(request, stream=True, follow_redirects=False)
        following = response.next_request
        if following is None or following.method != request.method:
            return response
        if resolve_in_origin(str(request.url), str(following.url)) is None:
            return response
        await response.aclose()
        request = following
    return response


@asynccontextmanager
async def websocket_transport(
    url: str, auth: httpx2.Auth | None, exchanges: Exchanges, *, limit: int
) -> AsyncGenerator[TransportStreams, None]:
    """MCP over WebSocket: one JSON-RPC message in each text frame, subprotocol ``mcp``.

    A message over ``limit`` bytes ends the connection, of which nothing after it can be read.
    """
    import aiohttp

    from mcp_discovery.probe import SYSTEM_TLS, probing_session

    to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    async with (
        probing_session(aiohttp.TCPConnector()) as http,
        http.ws_connect(
            wire_url(url),
            protocols=["mcp"],
            headers=await _headers(url, auth),
            heartbeat=20.0,
            max_msg_size=limit,
            **SYSTEM_TLS.options(),
        ) as socket,
        anyio.create_task_group() as tasks,
        reading,
        writing,
    ):

        async def receive() -> None:
            async with to_session:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        await _deliver(regular(message.data), to_session.send)
                    elif message.type is aiohttp.WSMsgType.ERROR:
                        too_big = aiohttp.WSCloseCode.MESSAGE_TOO_BIG
                        if getattr(message.data, "code", None) == too_big:
                            exchanges.break_off(oversized(exchanges, limit))

        async def send() -> None:
            async with from_session:
                async for item in from_session:
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await socket.send_str(text)

        tasks.start_soon(receive)
        tasks.start_soon(send)
        yield reading, writing
        tasks.cancel_scope.cancel()


def regular(text: str) -> str:
    """``text``; a JSON-RPC error is made regular."""
    if glance(text[:_GLANCED].encode()).kind == "error" and (found := error_of(text)) is not None:
        return error_message(*found).decode()
    return text


def oversized(exchanges: Exchanges, limit: int) -> Exception:
    """What became of those who wait; whose answer it was is known where only one does."""
    fault = OversizedAnswerError(limit)
    return fault if exchanges.only is not None else ConnectionError(f"an answer ended it: {fault}")


async def _headers(url: str, auth: httpx2.Auth | None) -> dict[str, Any]:
    """The headers that ``auth`` gives a request."""
    if auth is None:
        return {}
    plain = httpx2.Request("GET", url.replace("ws", "http", 1))
    before = {name.lower() for name in plain.headers}
    flow = auth.async_auth_flow(plain)
    request = await anext(flow)
    await flow.aclose()
    return {name: value for name, value in request.headers.items() if name not in before}
