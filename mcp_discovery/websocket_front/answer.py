"""What comes back for one message, and the frames that it becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import orjson
from aiohttp import WSMsgType, web

from mcp_discovery.glance import glance
from mcp_discovery.inner_request import ResponseSink
from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Id,
    JsonRpcError,
    failure,
)
from mcp_discovery.param_headers import ParamHeaders
from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.event_stream import Event, EventReader
from mcp_discovery.websocket_front.message import LARGE, LARGEST

#: Of answers over so many bytes one at a time is in memory.
_LARGE_ANSWER: Final = 256 * 2**10


class FrameWriter:
    """Where the frames of one socket go; ``write_timeout`` in seconds is how long the client may
    leave it full."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, write_timeout: float
    ) -> None:
        self._request = request
        self._socket = socket
        self._write_timeout = write_timeout
        #: Held by the one large answer that is in memory.
        self.large = asyncio.Lock()
        #: What has to stand in headers of calls, too.
        self.params = ParamHeaders()

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


class SocketAnswer(ResponseSink):
    """What comes back for one message: JSON, or a stream of events, each of them a frame.

    ``id`` is that of the request that it answers, ``None`` for what answers none; ``after`` is the
    event that a stream resumes behind.
    """

    def __init__(self, frames: FrameWriter, id: Id | None, after: str = "") -> None:
        super().__init__()
        self._frames = frames
        self._id = id
        self.after = after
        self.answered = False
        self.last_event = after
        #: The result, where it tells a version, as that of ``initialize``.
        self.result: dict[str, Any] | None = None
        self._fault = ""
        self._code: object = None
        self._events: EventReader | None = None
        self._parts: list[bytes] = []
        self._size = self._held = 0
        self._holds = False

    @property
    def _is_stream(self) -> bool:
        return self.headers.get("Content-Type", "").lower().startswith("text/event-stream")

    @property
    def is_unfinished(self) -> bool:
        """Whether the server may have the answer for who asks for the stream again."""
        done = self.answered or self.broken or self.status >= 300
        return self._is_stream and not done and self.last_event != ""

    @property
    def is_of_no_session(self) -> bool:
        """Whether its server does not know the session (2025-11-25, session management)."""
        return self.status == 404 and self._code != METHOD_NOT_FOUND

    async def take(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > _LARGE_ANSWER and not self._holds:
            await self._frames.large.acquire()
            self._holds = True
        if not self._is_stream:
            self._parts.append(data)
            self._size += len(data)
            if self._size > LARGEST:
                self._fault = f"its answer is over the limit of {LARGEST:,} bytes"
                raise ConnectionResetError(self._fault)
            return
        if self._events is None:
            self._events = EventReader(LARGEST)
        try:
            events = self._events.feed(data)
        except BadAnswerError as error:
            self._fault = str(error)
            raise ConnectionResetError(self._fault) from error
        await self._pass_events(events)
        if events:
            self.let_go()

    async def _pass_events(self, events: Iterable[Event]) -> None:
        for event in events:
            self.last_event = event.id or self.last_event
            if event.name == "message" and event.data.strip():
                await self._pass_on(event.data)

    async def finish(self) -> None:
        """Its end has come, whole or not."""
        if self.broken:
            return
        if self._events is not None:  # some servers leave out the blank line behind the last one
            await self._pass_events(self._events.finish())
        elif self._parts and self.status < 300:
            await self._pass_on(b"".join(self._parts))

    def let_go(self) -> None:
        """Nothing large of it is in memory any more."""
        self._held = 0
        if self._holds:
            self._holds = False
            self._frames.large.release()

    async def _pass_on(self, message: bytes) -> None:
        if message[:LARGE].lstrip()[:1] == b"[":  # what a server of 2025-03-26 may send
            if len(message) <= LARGE:
                for each in orjson.loads(message):
                    await self._pass_on(orjson.dumps(each))
            return
        found = glance(message)
        if found.kind is None:
            self._fault = "its answer is no message of MCP"
            return
        if self._id is not None and found.kind != "method" and found.names(self._id):
            self.answered = True
            if found.kind == "result" and b'"protocolVersion"' in message[:LARGE]:
                self.result = orjson.loads(message).get("result")
        await self._frames.params.learn(message)
        await self._frames.send(message)

    def in_place(self, id: Id) -> dict[str, Any]:
        """The error in the place of an answer that did not come."""
        said: Any = None
        if self.status >= 300 and not self._is_stream:
            with suppress(orjson.JSONDecodeError):
                said = orjson.loads(b"".join(self._parts))
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            self._code = said["error"].get("code")
            return {"jsonrpc": "2.0", "id": id, "error": said["error"]}
        code = INVALID_REQUEST if 300 <= self.status < 500 else INTERNAL_ERROR
        detail = said.get("detail") if isinstance(said, dict) else None
        if self.status >= 300:
            why = detail if isinstance(detail, str) else f"HTTP {self.status}"
        else:
            why = self._fault or "the answer broke off; whether it was done is not known"
        return failure(id, JsonRpcError(code, why, said))
