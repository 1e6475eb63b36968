"""Clients of the legacy era: they begin with ``initialize``, and have sessions.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#streamable-http
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import ClientGoneError, has_left
from mcp_discovery.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    SESSION,
    Id,
    JsonRpcError,
    RpcRequest,
    check_event_stream,
    failure,
    framed,
    message_of,
    negotiated_version,
    notification,
    result,
)
from mcp_discovery.mcp_responses import PING, EventStream, json_response
from mcp_discovery.sidecar.bridge.bridge import Bridge, Spoken
from mcp_discovery.sidecar.bridge.connection import Params
from mcp_discovery.sidecar.bridge.eras import ask_as_legacy
from mcp_discovery.sidecar.bridge.exchange import PING_INTERVAL, WRITE_TIMEOUT, HttpExchange

_MOST_WAITING: Final = 1000
#: What clients say that they can be asked.
_ASKABLE: Final = ("sampling", "elicitation", "roots")


class BridgedSession:
    """One client from ``initialize`` on; ``own`` is the process that it has for itself."""

    def __init__(self, bridge: Bridge, version: str, own: Spoken | None) -> None:
        self.id = secrets.token_hex(16)
        self.version = version
        self.resources = AsyncExitStack()
        self._bridge = bridge
        self._own = own
        self._ids = count(1)
        self._asked: dict[Id, asyncio.Future[dict[str, Any]]] = {}
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._exchanges: dict[Id, HttpExchange] = {}
        self.running: dict[Id, asyncio.Future[Mapping[str, Any]]] = {}
        self.stream: web.Request | None = None
        if own is not None:
            own.connection.audience = self
        else:
            bridge.listeners.add(self.notify)

    @property
    def spoken(self) -> Spoken:
        """The process that answers it now; raises :class:`JsonRpcError`."""
        return self._own or self._bridge.spoken()

    def notify(self, method: str, params: Params) -> None:
        """Takes what the server says without being asked."""
        self._send(notification(method, params))

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """Asks the client; raises :class:`JsonRpcError`."""
        id = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[id] = answer
        try:
            self._send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            return await answer
        finally:
            del self._asked[id]

    def answered(self, message: Mapping[str, Any]) -> None:
        """Takes the client's answer."""
        answer = self._asked.get(message.get("id", ""))
        if answer is None or answer.done():
            return
        if (error := message.get("error")) is not None:
            error = error if isinstance(error, dict) else {}
            fault = JsonRpcError(
                error.get("code", INTERNAL_ERROR), str(error.get("message")), error.get("data")
            )
            answer.set_exception(fault)
        else:
            answer.set_result(dict(message.get("result") or {}))

    async def respond(
        self, request: web.Request, rpc: RpcRequest, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """The response to a request."""
        assert rpc.id is not None
        if rpc.id in self.running:
            raise JsonRpcError(INVALID_REQUEST, f"the request id {rpc.id!r} is in use", status=400)
        exchange = HttpExchange(request)
        spoken = self.spoken
        asked = ask_as_legacy(spoken.connection, spoken.greeting, rpc.method, rpc.params, exchange)
        counted = self._bridge.figures.counted(rpc.method, rpc.params, request.headers, asked)
        work = asyncio.ensure_future(counted)
        self.running[rpc.id], self._exchanges[rpc.id] = work, exchange
        try:
            return await exchange.respond(rpc.id, work, headers, modern=False)
        finally:
            del self.running[rpc.id], self._exchanges[rpc.id]

    async def listen(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """The stream of what belongs to no request."""
        stream = EventStream(request, WRITE_TIMEOUT)
        try:
            await stream.start(dict(headers))
            while True:
                try:
                    async with asyncio.timeout(PING_INTERVAL):
                        frame = await self._waiting.get()
                except TimeoutError:
                    frame = PING
                await stream.write(frame)
        except (ClientGoneError, ConnectionResetError):
            return stream.result

    async def end(self) -> None:
        """Ends its requests and its process."""
        self._bridge.listeners.discard(self.notify)
        for each in self.running.values():
            each.cancel()
        await self.resources.aclose()

    def _send(self, message: Mapping[str, Any]) -> None:
        """By the stream of a request, if there is one, which the client reads for certain."""
        if self._exchanges:
            next(reversed(self._exchanges.values())).send(message)
        elif self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put_nowait(framed(message))


class LegacyClients:
    """The sessions of one bridge; ``each`` says that each has a process for itself, ``None`` that
    those have one whose clients can be asked."""

    def __init__(self, bridge: Bridge, each: bool | None) -> None:
        self._bridge = bridge
        self._each = each
        self._sessions: dict[str, BridgedSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message; raises :class:`JsonRpcError`."""
        rpc = message_of(body)
        if rpc is not None and rpc.method == "initialize" and rpc.id is not None:
            return await self._initialize(rpc)
        session = self._session(request)
        headers = {SESSION: session.id}
        if rpc is None:
            session.answered(body)
        elif rpc.id is None:
            await self._notified(session, rpc)
        else:
            try:
                return await session.respond(request, rpc, headers)
            except JsonRpcError as fault:
                return json_response(failure(rpc.id, fault), headers, fault.status or 200)
        return web.Response(status=202, headers=headers)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The session's own stream."""
        check_event_stream(request)
        session = self._session(request)
        if session.stream is not None and not has_left(session.stream):
            detail = "Conflict: this session has a stream already; close it first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=409)
        session.stream = request
        return await session.listen(request, {SESSION: session.id})

    async def delete(self, request: web.Request) -> web.Response:
        """Ends the session."""
        session = self._session(request)
        del self._sessions[session.id]
        await session.end()
        return web.Response(status=200)

    async def close(self) -> None:
        """Ends all sessions."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(each.end() for each in sessions))

    async def _initialize(self, rpc: RpcRequest) -> web.Response:
        assert rpc.id is not None
        try:
            version = negotiated_version(rpc)
            capabilities, info = rpc.object("capabilities"), rpc.object("clientInfo")
            shared = self._bridge.spoken()
            own: Spoken | None = None
            async with AsyncExitStack() as stack:
                if self._has_own(shared, capabilities):
                    process = self._bridge.own_process(capabilities, info, version)
                    own = await stack.enter_async_context(process)
                session = BridgedSession(self._bridge, version, own)
                session.resources = stack.pop_all()
        except JsonRpcError as fault:
            return json_response(failure(rpc.id, fault), status=fault.status or 200)
        self._sessions[session.id] = session
        greeting = session.spoken.greeting
        content: dict[str, Any] = {
            "protocolVersion": version if own is None else greeting.protocol,
            "capabilities": greeting.capabilities,
            "serverInfo": greeting.info,
        }
        if greeting.instructions is not None:
            content["instructions"] = greeting.instructions
        return json_response(result(rpc.id, content), {SESSION: session.id})

    def _has_own(self, shared: Spoken, capabilities: Mapping[str, Any]) -> bool:
        if shared.greeting.is_modern:
            return False
        if self._each is None:
            return any(name in capabilities for name in _ASKABLE)
        return self._each

    async def _notified(self, session: BridgedSession, rpc: RpcRequest) -> None:
        if rpc.method == "notifications/cancelled":
            work = session.running.get(rpc.params.get("requestId", ""))
            if work is not None:
                work.cancel()
        elif rpc.method != "notifications/initialized" and session._own is not None:
            await session.spoken.connection.notify(rpc.method, rpc.params)

    def _session(self, request: web.Request) -> BridgedSession:
        id = request.headers.get(SESSION)
        if id is None:
            detail = "Bad request: Mcp-Session-Id is missing; send initialize first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        if (session := self._sessions.get(id)) is None:
            detail = "Session not found: it is over; send initialize again"
            raise JsonRpcError(INVALID_REQUEST, detail, status=404)
        return session
