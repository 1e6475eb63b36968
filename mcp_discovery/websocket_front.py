"""MCP over WebSocket before an endpoint of Streamable HTTP: a JSON-RPC message in each text frame.

It is no transport of the specification; the TypeScript SDK has a client for it (subprotocol
``mcp``), and a browser's ``WebSocket`` is one. Each message goes the way of a ``POST`` to the same
path, through every middleware (:mod:`mcp_discovery.inner_request`), and what streams back comes as
frames. A legacy session lives as long as its socket.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import WSCloseCode, WSMsgType, web
from multidict import CIMultiDict

from mcp_discovery.disconnects import has_left
from mcp_discovery.glance import glance
from mcp_discovery.inner_request import InnerRequests, ResponseSink
from mcp_discovery.json_values import count_values
from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    SESSION,
    VERSION,
    Id,
    JsonRpcError,
    encoded,
    failure,
    routing_headers,
)
from mcp_discovery.param_headers import ParamHeaders
from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.event_stream import EventReader

log = logging.getLogger(__name__)

SUBPROTOCOL: Final = "mcp"
#: How many requests of one socket may be under way, how many bytes their bodies may have, and for
#: how many seconds a further one waits before it is refused.
MOST_REQUESTS, _MOST_BYTES, _WAIT = 100, 64 * 2**20, 5.0
#: The largest message, in bytes, either way.
_LARGEST = 64 * 2**20
#: A message over so many bytes is parsed beside the event loop; of answers over so many, one at a
#: time is held in memory; a large message may have so many JSON values, which take memory each.
_LARGE, _LARGE_ANSWER, _MOST_VALUES = 64 * 2**10, 256 * 2**10, 1_000_000
#: So many frames in a row that are no messages end the socket.
_MOST_ERRORS = 20
#: Seconds: for a client to confirm that the socket is closed; for a server to end a session; for it
#: to take a notification; until a stream of it that has ended is asked for again.
_GOODBYE, _END_SESSION, _NOTIFICATION_TIMEOUT, _AGAIN = 1.0, 5.0, 30.0, 1.0
#: The headers of the handshake that are not those of the messages.
_NOT_PASSED: Final = frozenset(
    (
        *("connection", "upgrade", "accept", "accept-encoding", "content-type", "content-length"),
        *("content-encoding", "transfer-encoding", "expect", "x-request-id", "last-event-id"),
    )
)
_NOT_PASSED_ANY: Final = ("sec-websocket-", "mcp-")
_POSTED: Final = {
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
}
_LISTENS: Final = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_CANCELLED: Final = "notifications/cancelled"


def asks_for_websocket(request: web.Request) -> bool:
    """Whether ``request`` wants to become a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def handshake_fault(request: web.Request) -> str | None:
    """Why ``request`` cannot become a WebSocket of MCP, a sentence; ``None``: it can."""
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
    if SUBPROTOCOL not in (each.strip() for each in offered.split(",")):
        return f"offer the subprotocol {SUBPROTOCOL!r}: new WebSocket(url, {SUBPROTOCOL!r})"
    try:
        fit = request.method == "GET" and _socket(None).can_prepare(request)
    except web.HTTPException:
        fit = False
    return None if fit else "this is no handshake of WebSocket 13 as RFC 6455 has it"


def _socket(ping: float | None) -> web.WebSocketResponse:
    return web.WebSocketResponse(
        protocols=(SUBPROTOCOL,),
        heartbeat=ping,
        timeout=_GOODBYE,
        max_msg_size=_LARGEST,
        compress=False,
        decode_text=False,
    )


class WebSocketFront:
    """The sockets of one endpoint.

    ``ping`` and ``write_timeout`` in seconds: the pause before an idle socket is pinged, and how
    long a client may leave it full.
    """

    def __init__(self, *, ping: float, write_timeout: float) -> None:
        self._ping = ping
        self._write_timeout = write_timeout
        self._open: set[_SocketConversation] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Speaks MCP with the client of ``request`` until it leaves, or :meth:`close` is called.

        :func:`handshake_fault` was asked before.
        """
        socket = _socket(self._ping)
        await socket.prepare(request)
        conversation = _SocketConversation(request, socket, self._write_timeout)
        self._open.add(conversation)
        try:
            if self._closed:
                await conversation.stop(0)
            await conversation.run()
        finally:
            # A client that leaves may end this task, too.
            ending = asyncio.create_task(conversation.end(), name="the end of a socket")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._open.discard(conversation)
            await asyncio.shield(ending)
        return socket

    async def close(self, grace: float) -> None:
        """Closes every socket, and those to come: once what its client waits for is answered, after
        ``grace`` seconds at the latest."""
        self._closed = True
        await asyncio.gather(*(each.stop(grace) for each in self._open))
        if self._ending:
            await asyncio.wait(list(self._ending))


class _SocketMessage(NamedTuple):
    """A message of a client, as it came; ``method`` is ``None`` for a response."""

    data: bytes
    id: Id | None
    method: str | None
    params: Mapping[str, Any]
    headers: dict[str, str]

    @property
    def is_modern(self) -> bool:
        return VERSION in self.headers


async def _read(data: bytes) -> _SocketMessage:
    """The message in ``data``; raises :class:`JsonRpcError` where there is none."""
    value = _parsed(data) if len(data) <= _LARGE else await asyncio.to_thread(_parsed, data)
    if isinstance(value, list):
        raise JsonRpcError(INVALID_REQUEST, "Invalid request: send each message in its own frame")
    if isinstance(value, dict):
        id, method = value.get("id"), value.get("method")
        params = value.get("params") or {}
        fit = isinstance(id, str | int) and not isinstance(id, bool)
        if method is None and ("result" in value or "error" in value):
            return _SocketMessage(data, None, None, {}, {})
        if isinstance(method, str) and isinstance(params, dict) and (fit or "id" not in value):
            return _SocketMessage(data, id, method, params, routing_headers(method, params))
    raise JsonRpcError(INVALID_REQUEST, "Invalid request: a frame is one JSON-RPC 2.0 message")


def _parsed(data: bytes) -> Any:
    if len(data) > _LARGE and count_values(data, _MOST_VALUES) > _MOST_VALUES:
        detail = f"the message has more than {_MOST_VALUES:,} JSON values; send it by POST"
        raise JsonRpcError(INVALID_REQUEST, detail)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)  # an integer of more than 64 bits, for one
        except (ValueError, RecursionError) as error:
            raise JsonRpcError(PARSE_ERROR, "Parse error: the frame is not JSON") from error


class _SocketConversation:
    """One socket: what is under way on it, and its legacy session."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, write_timeout: float
    ) -> None:
        self._request = request
        self._inner = InnerRequests(request)
        self._socket = socket
        self._write_timeout = write_timeout
        self._headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if (low := name.lower()) not in _NOT_PASSED and not low.startswith(_NOT_PASSED_ANY)
        )
        #: What has to stand in headers of calls, too.
        self.params = ParamHeaders()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[Id, asyncio.Task[None]] = {}
        self._cancelled: set[Id] = set()
        self._bytes = 0
        self._ended = asyncio.Event()
        #: What the messages to come have to wait for.
        self._first: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._stopping = False
        #: The id and the version of its legacy session.
        self._session: str | None = None
        self._version: str | None = None
        #: Held by the one large answer that is in memory.
        self.large = asyncio.Lock()

    # -- from the client ------------------------------------------------------------------------

    async def run(self) -> None:
        """Receives until the client leaves; :meth:`end` is to be called then."""
        errors = 0
        try:
            while errors < _MOST_ERRORS:
                frame = await self._socket.receive()
                if frame.type is WSMsgType.BINARY:
                    why = b"a message of MCP is a text frame"
                    await self._socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=why)
                if frame.type is not WSMsgType.TEXT:
                    return
                try:
                    await self._take(await _read(frame.data))
                    errors = 0
                except JsonRpcError as fault:
                    await self.send(encoded(failure(None, fault)))
                    errors += 1
            why = b"too many frames that are no messages"
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=why)
        except ConnectionError:
            pass  # it has left, or does not read

    async def _take(self, message: _SocketMessage) -> None:
        id = message.id
        if id is not None and (fault := self._fault_of(message, id)) is not None:
            await self.send(encoded(failure(id, JsonRpcError(INVALID_REQUEST, fault))))
            return
        if message.method == _CANCELLED and self._cancel(message.params.get("requestId")):
            return
        if not await self._has_room(len(message.data)):
            if id is not None:
                full = f"a socket may have {MOST_REQUESTS} requests under way; wait for an answer"
                await self.send(encoded(failure(id, JsonRpcError(INVALID_REQUEST, full))))
            return
        first = self._first
        work = self._notify(message, first) if id is None else self._answer(message, id, first)
        task = asyncio.create_task(work, name="a message of a socket")
        self._tasks.add(task)
        self._bytes += len(message.data)
        if id is not None:
            self._under_way[id] = task
        if id is None or message.method == "initialize":
            self._first = task  # what follows may depend on it
        task.add_done_callback(lambda _: self._over(task, id, len(message.data)))

    def _fault_of(self, message: _SocketMessage, id: Id) -> str | None:
        """Why the request ``id`` is not taken."""
        if self._stopping:
            return "this socket is about to be closed; open another one"
        if id in self._under_way:
            return f"a request with the id {str(id)[:100]!r} is under way; give each one its own"
        if message.method == "initialize" and self._version is not None:
            return "this socket has a session; open another one"
        return None

    def _cancel(self, id: Any) -> bool:
        """The client waits for the request ``id`` no more; whether nobody else has to be told."""
        if not isinstance(id, str | int) or (task := self._under_way.get(id)) is None:
            return False
        if self._version is None:  # closing the request's connection says it (2026-07-28)
            task.cancel()
            return True
        self._cancelled.add(id)
        return False

    async def _has_room(self, size: int) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT):
                while self._tasks and (
                    len(self._tasks) >= MOST_REQUESTS or self._bytes + size > _MOST_BYTES
                ):
                    self._ended.clear()
                    await self._ended.wait()
                return True
        return False

    def _over(self, task: asyncio.Task[None], id: Id | None, size: int) -> None:
        self._tasks.discard(task)
        self._bytes -= size
        if id is not None:
            del self._under_way[id]
            self._cancelled.discard(id)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a message of a socket failed in a way it must not", exc_info=error)

    # -- to the endpoint ------------------------------------------------------------------------

    async def _notify(self, message: _SocketMessage, first: asyncio.Task[None] | None) -> None:
        """Posts what is not answered."""
        if first is not None:
            await asyncio.wait((first,))
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_NOTIFICATION_TIMEOUT):
                await self._post(message, _SocketAnswer(self, None))
        if message.method == "notifications/initialized" and self._session is not None:
            self._listening = asyncio.create_task(self._listen(), name="listen for a socket")

    async def _answer(
        self, message: _SocketMessage, id: Id, first: asyncio.Task[None] | None
    ) -> None:
        """Has a request answered, whatever becomes of it."""
        if first is not None:
            await asyncio.wait((first,))
        answer = _SocketAnswer(self, id)
        try:
            await self._post(message, answer)
            while answer.is_unfinished:
                # The server ended its stream before the answer (2025-11-25, resumability).
                await asyncio.sleep(_AGAIN)
                answer = _SocketAnswer(self, id, answer.last_event)
                await self._ask("GET", _LISTENS, b"", answer)
            if message.method == "initialize" and answer.result is not None:
                version = answer.result.get("protocolVersion")
                self._version = version if isinstance(version, str) else ""
                self._session = answer.headers.get(SESSION)
            if not answer.answered and id not in self._cancelled:
                await self.send(encoded(answer.in_place(id)))
        except ConnectionError:
            return  # the client has left
        if answer.status == 404 and self._session is not None:
            why = b"the session is over; connect again"
            await self._socket.close(code=WSCloseCode.SERVICE_RESTART, message=why)

    async def _post(self, message: _SocketMessage, answer: _SocketAnswer) -> None:
        headers = _POSTED | message.headers
        if message.is_modern and message.method == "tools/call":
            headers |= self.params.of(message.params)
        await self._ask("POST", headers, message.data, answer)

    async def _ask(
        self, method: str, headers: Mapping[str, str], body: bytes, answer: _SocketAnswer
    ) -> None:
        own = self._headers.copy()
        own.update(headers)
        if VERSION not in own and self._version:
            own[VERSION] = self._version
            if self._session is not None:
                own[SESSION] = self._session
        if answer.after:
            own["Last-Event-ID"] = answer.after
        try:
            await self._inner.ask(method, own, body, answer)
            await answer.finish()
        finally:
            answer.let_go()

    async def _listen(self) -> None:
        """Passes on what the server of a legacy session says by itself."""
        last = ""
        while True:
            answer = _SocketAnswer(self, None, last)
            try:
                await self._ask("GET", _LISTENS, b"", answer)
            except ConnectionError:
                return
            if answer.status != 200:
                return  # 405: it says nothing by itself
            last = answer.last_event or last
            await asyncio.sleep(_AGAIN)

    # -- to the client --------------------------------------------------------------------------

    async def send(self, message: bytes) -> None:
        """Sends a frame; raises ``ConnectionError`` where the client left, or does not read."""
        try:
            async with asyncio.timeout(self._write_timeout) as deadline:
                await self._socket.send_frame(message, WSMsgType.TEXT)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            # It leaves its socket full: closing it politely would take as long.
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client does not read") from error

    # -- the end --------------------------------------------------------------------------------

    async def stop(self, grace: float) -> None:
        """Closes the socket once its requests are answered, after ``grace`` seconds at most."""
        self._stopping = True
        if self._under_way and grace > 0:
            await asyncio.wait(list(self._under_way.values()), timeout=grace)
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")

    async def end(self) -> None:
        """Ends what is under way, and the session."""
        tasks = [*self._tasks, *filter(None, [self._listening])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if has_left(self._request):  # so that its next ping, which holds it, is not waited for
            with suppress(ConnectionError):
                await self._socket.close(drain=False)
        if self._session is not None:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_END_SESSION):
                    await self._ask("DELETE", {}, b"", _SocketAnswer(self, None))


class _SocketAnswer(ResponseSink):
    """What comes back for one message: JSON, or a stream of events, each of them a frame.

    ``id`` is that of the request that it answers, ``None`` for what answers none; ``after`` is the
    event that a stream resumes behind.
    """

    def __init__(self, conversation: _SocketConversation, id: Id | None, after: str = "") -> None:
        super().__init__()
        self._conversation = conversation
        self._id = id
        self.after = after
        self.answered = False
        self.last_event = after
        #: The result, where it tells a version, as that of ``initialize``.
        self.result: dict[str, Any] | None = None
        self._fault = ""
        self._events: EventReader | None = None
        self._body = bytearray()
        self._held = 0
        self._holds = False

    @property
    def _is_stream(self) -> bool:
        return self.headers.get("Content-Type", "").lower().startswith("text/event-stream")

    @property
    def is_unfinished(self) -> bool:
        """Whether the server may have the answer for who asks for the stream again."""
        done = self.answered or self.broken or self.status >= 300
        return self._is_stream and not done and self.last_event != ""

    async def take(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > _LARGE_ANSWER and not self._holds:
            await self._conversation.large.acquire()
            self._holds = True
        if not self._is_stream:
            self._body += data
            if len(self._body) > _LARGEST:
                self._fault = f"its answer is over the limit of {_LARGEST:,} bytes"
                raise ConnectionResetError(self._fault)
            return
        if self._events is None:
            self._events = EventReader(_LARGEST)
        try:
            events = self._events.feed(data)
        except BadAnswerError as error:
            self._fault = str(error)
            raise ConnectionResetError(self._fault) from error
        for event in events:
            self.last_event = event.id or self.last_event
            if event.name == "message" and event.data.strip():
                await self._pass_on(event.data)
        if events:
            self.let_go()

    async def finish(self) -> None:
        """Its end has come, whole or not."""
        if self._body and not self.broken and not self._is_stream and self.status < 300:
            await self._pass_on(bytes(self._body))

    def let_go(self) -> None:
        """Nothing large of it is in memory any more."""
        self._held = 0
        if self._holds:
            self._holds = False
            self._conversation.large.release()

    async def _pass_on(self, message: bytes) -> None:
        if message.lstrip()[:1] == b"[":  # what a server of 2025-03-26 may send
            if len(message) <= _LARGE:
                for each in orjson.loads(message):
                    await self._pass_on(orjson.dumps(each))
            return
        found = glance(message)
        if found.kind is None:
            self._fault = "its answer is no message of MCP"
            return
        if self._id is not None and found.kind != "method" and found.names(self._id):
            self.answered = True
            if found.kind == "result" and b'"protocolVersion"' in message[:_LARGE]:
                self.result = orjson.loads(message).get("result")
        await self._conversation.params.learn(message)
        await self._conversation.send(message)

    def in_place(self, id: Id) -> dict[str, Any]:
        """The error in the place of an answer that did not come."""
        said: Any = None
        if self.status >= 300 and not self._is_stream:
            with suppress(orjson.JSONDecodeError):
                said = orjson.loads(self._body)
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            return {"jsonrpc": "2.0", "id": id, "error": said["error"]}
        code = INVALID_REQUEST if 300 <= self.status < 500 else INTERNAL_ERROR
        detail = said.get("detail") if isinstance(said, dict) else None
        if self.status >= 300:
            why = detail if isinstance(detail, str) else f"HTTP {self.status}"
        else:
            why = self._fault or "the answer broke off; whether it was done is not known"
        return failure(id, JsonRpcError(code, why, said))
