"""Legacy clients: they shake hands, keep a session, and hear of changes on a stream of its own.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.facade.http.disconnects import ClientGoneError, has_left
from mcp_discovery.facade.mcp import request_checks as gate
from mcp_discovery.facade.mcp.changes import SubscriptionEndedError
from mcp_discovery.facade.mcp.messages import (
    BATCHING,
    INVALID_REQUEST,
    JsonRpcError,
    Reply,
    Request,
    failure,
    message_of,
    result,
)
from mcp_discovery.facade.mcp.methods import Caller, agreed, is_own
from mcp_discovery.facade.mcp.responses import Answering, as_json, gone
from mcp_discovery.facade.mcp.sessions import Session, Sessions

#: Messages in one body, of the version that knows such bodies.
_MOST_MESSAGES: Final = 100


class Legacy:
    """Answers what legacy clients send; raises :class:`JsonRpcError` for what cannot be
    answered."""

    def __init__(self, answering: Answering, sessions: Sessions) -> None:
        self._answering = answering
        self._sessions = sessions

    def delete(self, request: web.Request) -> web.Response:
        """Ends the session."""
        self._sessions.end(self._session(request))
        return web.Response(status=200)

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The answer to one message, or to several."""
        if isinstance(body, list):
            return await self._batch(request, body)
        asked = message_of(body)
        if isinstance(asked, Request) and asked.method == "initialize" and asked.id is not None:
            return self._initialize(request, asked)
        session = self._session(request)
        with session.in_use():
            if isinstance(asked, Reply) or asked.id is None:
                _note(session, asked)
                return web.Response(status=202, headers=_of(session))
            caller = Caller(session, session.own)
            if self._answering.methods.is_slow(asked):
                return await self._answering.slowly(request, asked, caller, _of(session))
            return as_json(await self._answering.message(asked, caller), _of(session))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """What the client has subscribed to, on the one stream of its session."""
        gate.check_event_stream(request)
        session = self._session(request)
        if session.stream is not None and not has_left(session.stream):
            detail = "Conflict: this session has a stream already; close it first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=409)
        session.stream = request
        stream = self._answering.stream(request)
        try:
            with session.in_use():
                await stream.start(_of(session))
                async with self._answering.disconnects.guard(request):
                    await self._answering.tell(stream, session.listener, None)
        except (ClientGoneError, SubscriptionEndedError, ConnectionResetError):
            pass
        finally:
            if session.stream is request:
                session.stream = None
        return stream.response or gone()

    def _session(self, request: web.Request) -> Session:
        return self._sessions.get(request.headers.get(gate.SESSION))

    def _initialize(self, request: web.Request, asked: Request) -> web.Response:
        assert asked.id is not None
        try:
            version = agreed(asked)
            if request.headers.get(gate.SESSION) is not None:
                session = self._session(request)
                session.version = version
            else:
                session = self._sessions.open(version, own=is_own(request, asked))
        except JsonRpcError as fault:
            return as_json(failure(asked.id, fault), status=fault.status)
        content = self._answering.methods.initialized(version)
        return as_json(result(asked.id, content), _of(session))

    async def _batch(self, request: web.Request, body: list[Any]) -> web.Response:
        """Several messages at once, which one version of MCP had: the answers, in their order."""
        session = self._session(request)
        if session.version != BATCHING:
            detail = f"Invalid request: MCP {session.version} knows no batches; send one message"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        if not 0 < len(body) <= _MOST_MESSAGES:
            detail = f"Invalid request: a batch has 1 to {_MOST_MESSAGES} messages"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        messages = list(map(message_of, body))
        caller = Caller(session, session.own)
        answers = []
        with session.in_use():
            for each in messages:
                if isinstance(each, Reply) or each.id is None:
                    _note(session, each)
                elif each.method == "initialize":
                    fault = JsonRpcError(INVALID_REQUEST, "initialize must not be part of a batch")
                    answers.append(failure(each.id, fault))
                else:
                    answers.append(await self._answering.message(each, caller))
        if not answers:
            return web.Response(status=202, headers=_of(session))
        return as_json(answers, _of(session))


def _note(session: Session, told: Request | Reply) -> None:
    """Takes in a notification: of a request that is not wanted any more, or of nothing."""
    if isinstance(told, Request) and told.method == "notifications/cancelled":
        id = told.params.get("requestId")
        if isinstance(id, str | int) and not isinstance(id, bool):
            session.cancel(id)


def _of(session: Session) -> dict[str, str]:
    return {gate.SESSION: session.id}
