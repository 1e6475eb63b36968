"""The legacy protocol: ``initialize``, sessions, and one stream of notifications per session.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.facade.http.disconnects import ClientGoneError, has_left
from mcp_discovery.facade.mcp import request_checks as request_checks
from mcp_discovery.facade.mcp.messages import (
    BATCHING,
    INVALID_REQUEST,
    JsonRpcError,
    RpcRequest,
    RpcResponse,
    failure,
    message_of,
    result,
)
from mcp_discovery.facade.mcp.methods import Caller, is_internal, negotiated_version
from mcp_discovery.facade.mcp.responses import Responder, client_gone_response, json_response
from mcp_discovery.facade.mcp.sessions import LegacySession, LegacySessions
from mcp_discovery.facade.mcp.subscriptions import SubscriptionEndedError

#: How many messages a batch may have, in the one version that has batches.
_MOST_MESSAGES: Final = 100


class LegacyProtocol:
    """Handles the requests of legacy clients; raises :class:`JsonRpcError`."""

    def __init__(self, responder: Responder, sessions: LegacySessions) -> None:
        self._responder = responder
        self._sessions = sessions

    def delete(self, request: web.Request) -> web.Response:
        """Ends the session."""
        self._sessions.end(self._session(request))
        return web.Response(status=200)

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message, or to a batch."""
        if isinstance(body, list):
            return await self._batch(request, body)
        rpc = message_of(body)
        if isinstance(rpc, RpcRequest) and rpc.method == "initialize" and rpc.id is not None:
            return self._initialize(request, rpc)
        session = self._session(request)
        with session.in_use():
            if isinstance(rpc, RpcResponse) or rpc.id is None:
                _handle_notification(session, rpc)
                return web.Response(status=202, headers=_headers(session))
            caller = Caller(session, session.internal)
            if self._responder.methods.is_long_running(rpc):
                return await self._responder.respond_when_done(
                    request, rpc, caller, _headers(session)
                )
            return json_response(
                await self._responder.response_message(rpc, caller), _headers(session)
            )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The session's stream of notifications, one at a time."""
        request_checks.check_event_stream(request)
        session = self._session(request)
        if session.stream is not None and not has_left(session.stream):
            detail = "Conflict: this session has a stream already; close it first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=409)
        session.stream = request
        stream = self._responder.stream(request)
        try:
            with session.in_use():
                await stream.start(_headers(session))
                async with self._responder.disconnects.guard(request):
                    await self._responder.notify(stream, session.subscription, None)
        except (ClientGoneError, SubscriptionEndedError, ConnectionResetError):
            pass
        finally:
            if session.stream is request:
                session.stream = None
        return stream.response or client_gone_response()

    def _session(self, request: web.Request) -> LegacySession:
        return self._sessions.get(request.headers.get(request_checks.SESSION))

    def _initialize(self, request: web.Request, rpc: RpcRequest) -> web.Response:
        assert rpc.id is not None
        try:
            version = negotiated_version(rpc)
            if request.headers.get(request_checks.SESSION) is not None:
                session = self._session(request)
                session.version = version
            else:
                session = self._sessions.open(version, internal=is_internal(request, rpc))
        except JsonRpcError as fault:
            return json_response(failure(rpc.id, fault), status=fault.status)
        content = self._responder.methods.initialized(version)
        return json_response(result(rpc.id, content), _headers(session))

    async def _batch(self, request: web.Request, body: list[Any]) -> web.Response:
        """The responses to the messages of a batch, in their order."""
        session = self._session(request)
        if session.version != BATCHING:
            detail = f"Invalid request: MCP {session.version} knows no batches; send one message"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        if not 0 < len(body) <= _MOST_MESSAGES:
            detail = f"Invalid request: a batch has 1 to {_MOST_MESSAGES} messages"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        messages = list(map(message_of, body))
        caller = Caller(session, session.internal)
        responses = []
        with session.in_use():
            for each in messages:
                if isinstance(each, RpcResponse) or each.id is None:
                    _handle_notification(session, each)
                elif each.method == "initialize":
                    fault = JsonRpcError(INVALID_REQUEST, "initialize must not be part of a batch")
                    responses.append(failure(each.id, fault))
                else:
                    responses.append(await self._responder.response_message(each, caller))
        if not responses:
            return web.Response(status=202, headers=_headers(session))
        return json_response(responses, _headers(session))


def _handle_notification(session: LegacySession, message: RpcRequest | RpcResponse) -> None:
    """Cancels the request that a cancellation names; ignores all other notifications."""
    if isinstance(message, RpcRequest) and message.method == "notifications/cancelled":
        id = message.params.get("requestId")
        if isinstance(id, str | int) and not isinstance(id, bool):
            session.cancel(id)


def _headers(session: LegacySession) -> dict[str, str]:
    return {request_checks.SESSION: session.id}
