"""MCP over one connection that carries all answers: the old HTTP+SSE, and WebSocket.

HTTP+SSE is the transport of 2024-11-05: a GET holds an event stream, its ``endpoint`` event
names where to POST, answers come on the stream. WebSocket (subprotocol ``mcp``) is no part of
the specification; some servers offer it with JSON-RPC messages as text frames.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp

from mcp_discovery.probe.errors import BadAnswerError, ProbeError, UnreachableError
from mcp_discovery.probe.event_stream import Event
from mcp_discovery.probe.messages import (
    IDS_AS_STRINGS,
    McpCall,
    is_answer,
    is_id,
    misaddressed,
    parse,
)
from mcp_discovery.probe.wire import (
    Budget,
    HttpWire,
    Wire,
    read_beginning,
    refusal,
    socket_errors,
)
from mcp_discovery.urls import resolve_in_origin, wire_url

_UNREAD_NOTIFICATIONS = 256


#: The bytes that an answer came with, and its message.
_Answer = asyncio.Future[tuple[int, dict[str, Any]]]


class _Waiting(NamedTuple):
    method: str
    answer: _Answer


@dataclass(eq=False, kw_only=True)
class Duplex(Wire):
    """A wire with one reader task, which hands each answer to whoever waits for it.

    The task lives from ``open`` to ``close``. When the connection ends, it fails all that wait
    and ends every ``listen``; asking again then needs ``open``.
    """

    is_one_connection = True
    has_session = True

    def __post_init__(self) -> None:
        self._connection = AsyncExitStack()
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._asked = 0  # the highest id so far
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    async def open(self) -> None:
        await self.close()
        try:
            with socket_errors():
                messages = await self._connect(self._connection)
        except BaseException:
            await self._connection.aclose()
            raise
        self._reader = asyncio.create_task(self._read(messages), name="mcp-probe-reader")

    async def ask(self, call: McpCall, budget: Budget) -> dict[str, Any]:
        if self._reader is None or self._reader.done():
            raise UnreachableError("the connection is closed", was_connected=True)
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._waiting[call.id] = _Waiting(call.method, answer)
        self._asked = max(self._asked, call.id)
        try:
            with socket_errors():
                await self._send(call.body)
            size, message = await answer
        finally:
            self._waiting.pop(call.id, None)
        budget.take_bytes(size)
        return message

    async def notify(self, body: bytes, headers: Mapping[str, str]) -> None:
        with socket_errors():
            await self._send(body)

    async def listen(
        self, headers: Mapping[str, str], call: McpCall | None
    ) -> AsyncGenerator[bytes, None]:
        if self._reader is None or self._reader.done():
            return
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_UNREAD_NOTIFICATIONS)
        self._listeners.add(queue)
        try:
            while (raw := await queue.get()) is not None:
                yield raw
        finally:
            self._listeners.discard(queue)

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait({reader})
        await self._connection.aclose()

    @abstractmethod
    async def _connect(self, connection: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        """Connect, with ``connection`` owning what must be closed; return the messages to read."""

    @abstractmethod
    async def _send(self, body: bytes) -> None:
        """Send one message."""

    async def _read(self, messages: AsyncGenerator[bytes, None]) -> None:
        failure: ProbeError = UnreachableError(
            "the server closed the connection", was_connected=True
        )
        try:
            with socket_errors():
                async with aclosing(messages):
                    async for raw in messages:
                        self._deliver(raw)
        except ProbeError as error:
            failure = error
        finally:
            for waiting in self._waiting.values():
                if not waiting.answer.done():
                    waiting.answer.set_exception(failure)
                    waiting.answer.exception()  # retrieved: who waits may be cancelled now
            for queue in self._listeners:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(None)
            await self._connection.aclose()

    def _deliver(self, raw: bytes) -> None:
        decoded = parse(raw)
        for message in decoded if isinstance(decoded, list) else [decoded]:
            if not isinstance(message, dict):
                continue
            if "method" in message:
                for queue in self._listeners:
                    # A full queue already says that there is something to look at anew.
                    if not queue.full():
                        queue.put_nowait(raw)
                continue
            if is_answer(message):
                self._hand_over(len(raw), message)

    def _hand_over(self, size: int, message: dict[str, Any]) -> None:
        """Give an answer to whom it is for; one with an id that nobody gave is for all that wait,
        as an error: who answers so answers nobody."""
        given = message.get("id")
        for id, waiting in self._waiting.items():
            if is_id(given, id):
                if isinstance(given, str):
                    self.oddities.add(IDS_AS_STRINGS)
                if not waiting.answer.done():
                    waiting.answer.set_result((size, message))
                return
        if _number(given) in range(1, self._asked + 1):
            return  # nobody waits for it any more
        for waiting in self._waiting.values():
            if waiting.answer.done():
                continue
            if message.get("error") is not None:
                waiting.answer.set_result((size, message))
            else:
                waiting.answer.set_exception(misaddressed(waiting.method, given))


def _number(id: Any) -> int | None:
    if isinstance(id, str):
        return int(id) if id.isascii() and id.isdecimal() and len(id) < 18 else None
    return id if isinstance(id, int) else None


@dataclass(eq=False, kw_only=True)
class HttpSse(HttpWire, Duplex):
    """The HTTP+SSE transport of protocol version 2024-11-05."""

    has_modern = False
    _endpoint = ""

    async def _connect(self, connection: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        response = await connection.enter_async_context(
            self._request("GET", self.url, {**self.headers, "Accept": "text/event-stream"})
        )
        if response.status != HTTPStatus.OK:
            raise await refusal(response, "GET")
        if response.content_type != "text/event-stream":
            raise BadAnswerError("answered, but not MCP: the GET gave no event stream")
        events = await connection.enter_async_context(aclosing(self._events(response)))
        async for event in events:
            if event.name == "endpoint":
                endpoint = resolve_in_origin(
                    self.url, event.data.decode("utf-8", "replace").strip()
                )
                if endpoint is None:
                    raise BadAnswerError("the event stream names an endpoint of another origin")
                self._endpoint = endpoint
                return _messages(events)
        raise BadAnswerError("answered, but not MCP: the event stream named no endpoint")

    async def _send(self, body: bytes) -> None:
        headers = {**self.headers, "Content-Type": "application/json"}
        async with self._request("POST", self._endpoint, headers, body) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise await refusal(response, "POST")
            await read_beginning(response)


async def _messages(events: AsyncIterator[Event]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        if event.name == "message" and event.data:
            yield event.data


@dataclass(eq=False, kw_only=True)
class WebSocket(HttpWire, Duplex):
    """JSON-RPC messages as text frames."""

    has_modern = False
    _socket: aiohttp.ClientWebSocketResponse = field(init=False, repr=False)

    async def _connect(self, connection: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        self._socket = await connection.enter_async_context(
            self.session.ws_connect(
                wire_url(self.url),
                headers=self.headers,
                protocols=("mcp",),
                max_msg_size=self.limits.body_bytes,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                **self.tls.options(),
            )
        )
        return self._frames()

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        async for frame in self._socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                yield frame.data.encode()
            elif frame.type is aiohttp.WSMsgType.BINARY:
                yield frame.data
            elif frame.type is aiohttp.WSMsgType.ERROR:
                raise UnreachableError("the connection broke", was_connected=True)

    async def _send(self, body: bytes) -> None:
        self.requests += 1
        await self._socket.send_str(body.decode())
