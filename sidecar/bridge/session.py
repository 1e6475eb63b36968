"""A session of a legacy client: its requests, what it is asked, and what it is told meanwhile."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any, Final

from mcp_discovery.http_listener import Connection
from mcp_discovery.mcp_messages import (
    CANCELLED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Id,
    JsonRpcError,
    RpcRequest,
    error_of,
    notification,
)
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.connection import ASKABLE, Params
from mcp_discovery.sidecar.bridge.eras import LegacyClient, Spoken, ask_as_legacy
from mcp_discovery.sidecar.bridge.streams import ALL, MOST_BYTES, MessageStream, StreamMemory

#: From which version on a client may be given the id of an event without a message.
_PRIMED_FROM: Final = "2025-11-25"
#: The name of the stream of what belongs to no request.
STANDALONE: Final = "0"
#: How many streams that are finished may be resumed.
_MOST_FINISHED: Final = 16
#: How many requests of one session may be under way.
_MOST_RUNNING: Final = 1000
#: How many seconds a process has to forget what a session wanted.
_PATIENCE: Final = 5.0
_CANCELLED: Final = "notifications/cancelled"
#: What belongs to no request, whatever is under way.
_UNRELATED: Final = frozenset(
    (
        "notifications/tools/list_changed",
        "notifications/resources/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/updated",
    )
)


class SessionCall:
    """A request of a session that is under way; ``send`` tells its client something before the
    answer, and says whether it can be told."""

    __slots__ = ("asking", "client", "send")

    def __init__(self, session: BridgedSession, send: Callable[[Mapping[str, Any]], bool]) -> None:
        self.client = session
        self.send = send
        #: What the client is asked on its behalf.
        self.asking: set[asyncio.Future[dict[str, Any]]] = set()

    @property
    def log_level(self) -> str | None:
        """The least level of the server's messages that the client wants."""
        return self.client.log_level

    def notify(self, method: str, params: Params) -> None:
        """Sends the client a notification that belongs to the request."""
        self.send(notification(method, params))

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """What the client answers to the server's request; raises :class:`JsonRpcError`."""
        if ASKABLE.get(method) not in self.client.client.capabilities:
            detail = f"{method}: this client has not said that it answers that"
            raise JsonRpcError(METHOD_NOT_FOUND, detail)
        return await self.client.ask(method, params, self)


class BridgedSession:
    """One client from ``initialize`` on, which speaks ``version``; ``own`` is the process that it
    has for itself, without which it shares that of ``bridge`` with others. It knows of no
    transport: a message goes to a :class:`SessionCall`, or to the stream that is its own."""

    def __init__(
        self,
        bridge: Bridge,
        client: LegacyClient,
        version: str,
        own: Spoken | None,
        resources: AsyncExitStack | None,
    ) -> None:
        self.id = secrets.token_hex(16)
        self.client = client
        self.version = version
        #: What came from the client: whether it has finished its greeting, and opened its stream.
        self.greeted = self.listened = False
        #: By when it was last heard of, on the loop's clock, and what may be there of it.
        self.heard = asyncio.get_running_loop().time()
        self.connections: dict[object, Callable[[], None] | None] = {}
        self.missed: asyncio.TimerHandle | None = None
        self._bridge = bridge
        self._own = own
        self._audience = bridge.audience if own is None else own.audience
        self._ended = False
        self._resources = resources
        self._ids = count(1)
        self._names = count(1)
        self._asked: dict[Id, asyncio.Future[dict[str, Any]]] = {}
        self._running: dict[Id, SessionCall] = {}
        self._memory = StreamMemory(MOST_BYTES, ALL)
        self._streams: OrderedDict[str, MessageStream] = OrderedDict()
        self._audience.listeners[self] = self.notify
        if own is not None:
            own.connection.audience = self

    @property
    def has_own(self) -> bool:
        """Whether it has a process for itself."""
        return self._own is not None

    @property
    def log_level(self) -> str | None:
        """The least level of the server's messages that it wants."""
        return self._audience.wishes.level_of(self)

    @property
    def is_busy(self) -> bool:
        """Whether it has a request under way, or somebody who listens."""
        return bool(self._running) or any(each.is_read for each in self._streams.values())

    # -- from the client ------------------------------------------------------------------------

    async def call(
        self, rpc: RpcRequest, send: Callable[[Mapping[str, Any]], bool]
    ) -> Mapping[str, Any]:
        """The result of a request, before which ``send`` is given what belongs to it.

        Raises :class:`JsonRpcError`.
        """
        assert rpc.id is not None
        if rpc.id in self._running:
            raise JsonRpcError(INVALID_REQUEST, f"the request id {rpc.id!r} is in use", status=400)
        if len(self._running) >= _MOST_RUNNING:
            detail = f"{_MOST_RUNNING} requests of this session are under way, which is the limit"
            raise JsonRpcError(INTERNAL_ERROR, detail, status=503)
        call = self._running[rpc.id] = SessionCall(self, send)
        try:
            spoken = self._own or self._bridge.spoken()
            return await ask_as_legacy(spoken, self.client, rpc.method, rpc.params, call)
        finally:
            del self._running[rpc.id]

    async def notified(self, rpc: RpcRequest) -> None:
        """Takes the client's notification; raises :class:`JsonRpcError`."""
        match rpc.method:
            case "notifications/cancelled":
                id = rpc.params.get("requestId")
                if isinstance(id, str | int) and (call := self._running.get(id)) is not None:
                    reason = str(rpc.params.get("reason") or "by the client")
                    await self._cancel(call, reason)
            case "notifications/initialized":
                self.greeted = True
            case _ if self._own is not None and not self._own.greeting.is_modern:
                await self._own.connection.notify(rpc.method, rpc.params)

    def answered(self, message: Mapping[str, Any]) -> None:
        """Takes the client's answer to what it was asked."""
        id, found = message.get("id"), message.get("result")
        answer = self._asked.get(id) if isinstance(id, str | int) else None
        if answer is None or answer.done():
            return
        if (error := message.get("error")) is not None or not isinstance(found, dict):
            answer.set_exception(error_of(error or "the client answered with no object"))
        else:
            answer.set_result(found)

    # -- to the client --------------------------------------------------------------------------

    def notify(self, method: str, params: Params) -> None:
        """Takes what the server says without being asked."""
        self._send(notification(method, params), None if method in _UNRELATED else self._latest)

    async def ask(
        self, method: str, params: Params, call: SessionCall | None = None
    ) -> dict[str, Any]:
        """Asks the client, on behalf of ``call`` if that is known; raises :class:`JsonRpcError`."""
        id = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[id] = answer
        if (call := call or self._latest) is not None:
            call.asking.add(answer)
        try:
            message = {"jsonrpc": "2.0", "id": id, "method": method}
            self._send(message | {"params": params} if params else message, call)
            return await answer
        except asyncio.CancelledError:
            self._send(notification(_CANCELLED, {"requestId": id}), call)
            raise
        finally:
            del self._asked[id]
            if call is not None:
                call.asking.discard(answer)

    def stream(self, name: str | None = None) -> MessageStream:
        """A stream that the client may resume: that of ``name``, or a new one.

        Raises :class:`JsonRpcError` where there is none of that name any more.
        """
        if name is not None and (found := self._streams.get(name)) is not None:
            return found
        if name is not None and name != STANDALONE:
            detail = "nothing is kept behind that event; open a stream without Last-Event-ID"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        finished = [
            key for key, each in self._streams.items() if each.finished and not each.is_read
        ]
        for key in finished[:-_MOST_FINISHED]:
            self._streams.pop(key).close()
        if self._ended:
            return MessageStream(self._memory)
        made = MessageStream(
            self._memory, name or str(next(self._names)), primed=self.version >= _PRIMED_FROM
        )
        self._streams[made.name] = made
        return made

    @property
    def standalone(self) -> MessageStream:
        """The stream of what belongs to no request."""
        return self.stream(STANDALONE)

    async def end(self) -> None:
        """Ends its requests, its streams and its process."""
        for connection, callback in self.connections.items():
            if callback is not None and isinstance(connection, Connection):
                connection.lost.pop(callback, None)
        self.connections.clear()
        for call in list(self._running.values()):
            await self._cancel(call, "the session has ended")
        self._ended = True
        for name, each in self._streams.items():
            if name == STANDALONE:
                each.close()
            else:  # its reader gets the error that ends its request
                each.retire()
        self._audience.listeners.pop(self, None)
        if self._own is None:
            with suppress(TimeoutError):  # the process may not answer
                async with asyncio.timeout(_PATIENCE):
                    await self._audience.wishes.leave(self)
        if self._resources is not None:
            await self._resources.aclose()

    @property
    def _latest(self) -> SessionCall | None:
        return next(reversed(self._running.values()), None)

    def _send(self, message: Mapping[str, Any], call: SessionCall | None) -> None:
        """By the response to a request, if it has one that takes it: the client reads that."""
        if call is None or not call.send(message):
            self.standalone.append(message)

    async def _cancel(self, call: SessionCall, reason: str) -> None:
        for answer in call.asking:
            if not answer.done():
                answer.set_exception(JsonRpcError(CANCELLED, f"Request cancelled: {reason}"))
        with suppress(JsonRpcError):
            spoken = self._own or self._bridge.spoken()
            await spoken.connection.cancel(call, reason)
