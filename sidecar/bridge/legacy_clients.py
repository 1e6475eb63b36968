"""Clients of the legacy era over HTTP: they begin with ``initialize``, and have sessions.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#streamable-http
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import cancelled_when_lost
from mcp_discovery.mcp_messages import (
    BATCHING,
    INVALID_REQUEST,
    LEGACY,
    SESSION,
    VERSION,
    JsonRpcError,
    RpcRequest,
    check_event_stream,
    failure,
    message_of,
    negotiated_version,
    result,
)
from mcp_discovery.mcp_responses import json_response
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.eras import capabilities_for
from mcp_discovery.sidecar.bridge.exchange import PostedRequest
from mcp_discovery.sidecar.bridge.session import STANDALONE, BridgedSession
from mcp_discovery.sidecar.bridge.session_table import SessionLimits, SessionTable

#: After so many seconds without an answer a client is given a stream, which it can resume.
_PATIENCE: Final = 1.0
#: How many messages a batch may have, in the one version that has batches.
_MOST_MESSAGES: Final = 100
_LAST_EVENT: Final = "Last-Event-ID"
#: What a client is told that is refused for now.
_LATER: Final = {"Retry-After": "5"}


class LegacyClients:
    """Answers the requests of the legacy clients of one bridge."""

    def __init__(self, bridge: Bridge, limits: SessionLimits) -> None:
        self._bridge = bridge
        self.sessions = SessionTable(bridge, limits)

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message, or to a batch; raises :class:`JsonRpcError`."""
        batch = isinstance(body, list)
        rpc = None if batch else message_of(body)
        if rpc is not None and rpc.method == "initialize" and rpc.id is not None:
            return await self._initialize(request, rpc)
        session = self._session(request)
        with self.sessions.heard(session, request):
            headers = {SESSION: session.id}
            messages = _batch(session, body) if batch else [(rpc, body)]
            requests: list[RpcRequest] = []
            for message, content in messages:
                if message is None:
                    session.answered(content)
                elif message.id is None:
                    await session.notified(message)
                else:
                    requests.append(message)
            if not requests:
                return web.Response(status=202, headers=headers)
            post = PostedRequest(request, headers, session.stream, _PATIENCE)
            try:
                if not batch:
                    answer, status = await self._answer(request, session, requests[0], post)
                    return await post.respond([answer], status=status)
                answers = await asyncio.gather(
                    *(self._answer(request, session, each, post) for each in requests)
                )
                return await post.respond([answer for answer, _ in answers], batch=True)
            finally:
                await post.close()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The session's own stream, or what is left of one that broke off."""
        check_event_stream(request)
        session = self._session(request)
        with self.sessions.heard(session, request):
            session.listened = True
            headers = {SESSION: session.id}
            if (last := request.headers.get(_LAST_EVENT)) is not None:
                name, _, number = last.rpartition("-")
                if not name or not number.isdecimal() or len(number) > 18:
                    detail = f"{_LAST_EVENT} is none of this session's"
                    raise JsonRpcError(INVALID_REQUEST, detail, status=400)
                return await session.stream(name).serve(request, headers, int(number))
            stream = session.stream(STANDALONE)
            if stream.is_read:
                detail = "Conflict: this session has a stream already; close it first"
                raise JsonRpcError(INVALID_REQUEST, detail, status=409)
            return await stream.serve(request, headers)

    def delete(self, request: web.Request) -> web.Response:
        """Ends the session."""
        self.sessions.end(self._session(request))
        return web.Response(status=200)

    async def _answer(
        self, request: web.Request, session: BridgedSession, rpc: RpcRequest, post: PostedRequest
    ) -> tuple[dict[str, Any], int]:
        """The answer to a request, and the status for it alone."""
        assert rpc.id is not None
        try:
            if rpc.method == "initialize":
                raise JsonRpcError(INVALID_REQUEST, "initialize must not be part of a batch")
            work = session.call(rpc, post.send)
            counted = self._bridge.figures.counted(rpc.method, rpc.params, request.headers, work)
            return result(rpc.id, await counted), 200
        except JsonRpcError as fault:
            return failure(rpc.id, fault), fault.status or 200

    async def _initialize(self, request: web.Request, rpc: RpcRequest) -> web.Response:
        assert rpc.id is not None
        try:
            version = negotiated_version(rpc)
            capabilities, info = rpc.object("capabilities"), rpc.object("clientInfo")
            with cancelled_when_lost(request):
                session, spoken = await self.sessions.begin(capabilities, info, version)
        except JsonRpcError as fault:
            headers = _LATER if fault.status == 503 else None
            return json_response(failure(rpc.id, fault), headers, fault.status or 200)
        greeting = spoken.greeting
        content: dict[str, Any] = {
            "protocolVersion": greeting.protocol
            if session.has_own and not greeting.is_modern
            else version,
            "capabilities": capabilities_for("legacy", greeting),
            "serverInfo": greeting.info,
        }
        if greeting.instructions is not None:
            content["instructions"] = greeting.instructions
        with self.sessions.heard(session, request):
            return json_response(result(rpc.id, content), {SESSION: session.id})

    def _session(self, request: web.Request) -> BridgedSession:
        id = request.headers.get(SESSION)
        if id is None:
            detail = "Bad request: Mcp-Session-Id is missing; send initialize first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        if (session := self.sessions.get(id)) is None:
            detail = "Session not found: it is over; send initialize again"
            raise JsonRpcError(INVALID_REQUEST, detail, status=404)
        return session


def check_session_version(request: web.Request) -> None:
    """Raises :class:`JsonRpcError` (400) where a request of a session names a version that has
    none."""
    version = request.headers.get(VERSION)
    if version is not None and version not in LEGACY and SESSION in request.headers:
        detail = f"Bad request: {VERSION} is {version[:50]!r}; sessions are of {', '.join(LEGACY)}"
        raise JsonRpcError(INVALID_REQUEST, detail, status=400)


def _batch(
    session: BridgedSession, body: list[Any]
) -> list[tuple[RpcRequest | None, Mapping[str, Any]]]:
    if session.version != BATCHING:
        detail = f"Invalid request: MCP {session.version} knows no batches; send one message"
        raise JsonRpcError(INVALID_REQUEST, detail, status=400)
    if not 0 < len(body) <= _MOST_MESSAGES:
        detail = f"Invalid request: a batch has 1 to {_MOST_MESSAGES} messages"
        raise JsonRpcError(INVALID_REQUEST, detail, status=400)
    return [(message_of(each), each) for each in body]
