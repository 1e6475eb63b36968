"""One socket: the messages of its client, and its legacy session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web
from multidict import CIMultiDict

from mcp_discovery.disconnects import has_left
from mcp_discovery.inner_request import InnerRequests
from mcp_discovery.mcp_messages import (
    INVALID_REQUEST,
    SESSION,
    VERSION,
    Id,
    JsonRpcError,
    encoded,
    failure,
)
from mcp_discovery.websocket_front.answer import FrameWriter, SocketAnswer
from mcp_discovery.websocket_front.message import SocketMessage, read

log = logging.getLogger(__name__)

#: How many requests of one socket may be under way, how many bytes their bodies may have, and for
#: how many seconds a further one waits before it is refused.
MOST_REQUESTS, _MOST_BYTES, _WAIT = 100, 64 * 2**20, 5.0
#: So many frames in a row that are no messages end the socket.
_MOST_ERRORS: Final = 20
#: Seconds for a server to end a session; for it to take a notification; until a stream of it that
#: has ended is asked for again.
_END_SESSION, _NOTIFICATION_TIMEOUT, _AGAIN = 5.0, 30.0, 1.0
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


class Conversation:
    """One socket: what is under way on it, and its legacy session."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, write_timeout: float
    ) -> None:
        self._request = request
        self._inner = InnerRequests(request)
        self._socket = socket
        self._frames = FrameWriter(request, socket, write_timeout)
        self._headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if (low := name.lower()) not in _NOT_PASSED and not low.startswith(_NOT_PASSED_ANY)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[Id, tuple[asyncio.Task[None], SocketMessage]] = {}
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
                    await self._take(await read(frame.data))
                    errors = 0
                except JsonRpcError as fault:
                    await self._frames.send(encoded(failure(None, fault)))
                    errors += 1
            why = b"too many frames that are no messages"
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=why)
        except ConnectionError:
            pass  # it has left, or does not read

    async def _take(self, message: SocketMessage) -> None:
        id = message.id
        if id is not None and (fault := self._fault_of(message, id)) is not None:
            await self._frames.send(encoded(failure(id, JsonRpcError(INVALID_REQUEST, fault))))
            return
        if message.method == _CANCELLED and self._cancel(message.params.get("requestId")):
            return
        if not await self._has_room(len(message.data)):
            if id is not None:
                full = f"a socket may have {MOST_REQUESTS} requests under way; wait for an answer"
                await self._frames.send(encoded(failure(id, JsonRpcError(INVALID_REQUEST, full))))
            return
        first = self._first
        work = self._notify(message, first) if id is None else self._answer(message, id, first)
        task = asyncio.create_task(work, name="a message of a socket")
        self._tasks.add(task)
        self._bytes += len(message.data)
        if id is not None:
            self._under_way[id] = task, message
        if id is None or message.method == "initialize":
            self._first = task  # what follows may depend on it
        task.add_done_callback(lambda _: self._over(task, id, len(message.data)))

    def _fault_of(self, message: SocketMessage, id: Id) -> str | None:
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
        if not isinstance(id, str | int) or id not in self._under_way:
            return False
        task, message = self._under_way[id]
        if message.is_modern:  # whose clients say it by closing their connection
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

    async def _notify(self, message: SocketMessage, first: asyncio.Task[None] | None) -> None:
        """Posts what is not answered."""
        if first is not None:
            await asyncio.wait((first,))
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_NOTIFICATION_TIMEOUT):
                await self._post(message, SocketAnswer(self._frames, None))
        if message.method == "notifications/initialized" and self._session is not None:
            self._listening = asyncio.create_task(self._listen(), name="listen for a socket")

    async def _answer(
        self, message: SocketMessage, id: Id, first: asyncio.Task[None] | None
    ) -> None:
        """Has a request answered, whatever becomes of it."""
        if first is not None:
            await asyncio.wait((first,))
        answer = SocketAnswer(self._frames, id)
        try:
            await self._post(message, answer)
            while answer.is_unfinished:
                # The server ended its stream before the answer (2025-11-25, resumability).
                await asyncio.sleep(_AGAIN)
                answer = SocketAnswer(self._frames, id, answer.last_event)
                await self._ask("GET", _LISTENS, b"", answer)
            if message.method == "initialize" and answer.result is not None:
                version = answer.result.get("protocolVersion")
                self._version = version if isinstance(version, str) else ""
                self._session = answer.headers.get(SESSION)
            if not answer.answered and id not in self._cancelled:
                await self._frames.send(encoded(answer.in_place(id)))
        except ConnectionError:
            return  # the client has left
        if answer.is_of_no_session and self._session is not None:
            why = b"the session is over; connect again"
            await self._socket.close(code=WSCloseCode.SERVICE_RESTART, message=why)

    async def _post(self, message: SocketMessage, answer: SocketAnswer) -> None:
        headers = _POSTED | message.headers
        if message.is_modern and message.method == "tools/call":
            headers |= self._frames.params.of(message.params)
        await self._ask("POST", headers, message.data, answer)

    async def _ask(
        self, method: str, headers: Mapping[str, str], body: bytes, answer: SocketAnswer
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
            answer = SocketAnswer(self._frames, None, last)
            try:
                await self._ask("GET", _LISTENS, b"", answer)
            except ConnectionError:
                return
            if answer.status != 200:
                return  # 405: it says nothing by itself
            last = answer.last_event or last
            await asyncio.sleep(_AGAIN)

    # -- the end --------------------------------------------------------------------------------

    async def stop(self, grace: float) -> None:
        """Closes the socket once its requests are answered, after ``grace`` seconds at most."""
        self._stopping = True
        if self._under_way and grace > 0:
            await asyncio.wait([task for task, _ in self._under_way.values()], timeout=grace)
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
                    await self._ask("DELETE", {}, b"", SocketAnswer(self._frames, None))
