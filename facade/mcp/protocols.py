"""The two generations of the protocol over HTTP.

*Legacy* begins with ``initialize``, and has sessions with one stream of notifications each
(https://modelcontextprotocol.io/specification/2025-11-25/basic/transports). In the *modern* one
every request stands for itself, and listening is a request
(https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http).
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import has_left
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.quotas import quotas_in
from mcp_discovery.facade.mcp.methods import (
    McpClient,
    is_internal,
    modern_result,
)
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.responses import Responder
from mcp_discovery.facade.mcp.subscriptions import (
    MOST_SUBSCRIBED,
    LegacySession,
    LegacySessions,
    Subscription,
    Subscriptions,
)
from mcp_discovery.mcp_messages import (
    BATCHING,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    RESOURCE_NOT_FOUND,
    SESSION,
    SUBSCRIPTION_KEY,
    JsonRpcError,
    RpcRequest,
    check_envelope,
    check_event_stream,
    check_version,
    failure,
    message_of,
    negotiated_version,
    notification,
    result,
)
from mcp_discovery.mcp_responses import error_response, json_response

#: How many messages a batch may have, in the one version that has batches.
_MOST_MESSAGES: Final = 100


class LegacyProtocol:
    """Handles the requests of legacy clients; raises :class:`JsonRpcError`."""

    def __init__(
        self, responder: Responder, sessions: LegacySessions, subscriptions: Subscriptions
    ) -> None:
        self._responder = responder
        self._sessions = sessions
        self._subscriptions = subscriptions

    def delete(self, request: web.Request) -> web.Response:
        """Ends the session."""
        self._sessions.end(self._session(request))
        return web.Response(status=200)

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message, or to a batch."""
        if isinstance(body, list):
            return await self._batch(request, body)
        rpc = message_of(body)
        if rpc is not None and rpc.method == "initialize" and rpc.id is not None:
            return self._initialize(request, rpc)
        session = self._session(request)
        with session.in_use():
            if rpc is None or rpc.id is None:
                _handle_notification(session, rpc)
                return web.Response(status=202, headers=_headers(session))
            client = McpClient(session, session.internal, caller_of(request), quotas_in(request))
            if self._responder.methods.is_long_running(rpc):
                return await self._responder.respond_when_done(
                    request, rpc, client, _headers(session)
                )
            reply = await self._responder.reply(rpc, client)
            return json_response(reply.message, _headers(session))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The session's stream of notifications, one at a time."""
        check_event_stream(request)
        session = self._session(request)
        if session.stream is not None and not has_left(session.stream):
            detail = "Conflict: this session has a stream already; close it first"
            raise JsonRpcError(INVALID_REQUEST, detail, status=409)
        session.stream = request
        try:
            with session.in_use():
                return await self._responder.listen(
                    request, session.subscription, _headers(session)
                )
        finally:
            if session.stream is request:
                session.stream = None

    def _session(self, request: web.Request) -> LegacySession:
        owner = caller_of(request).subject
        return self._sessions.get(request.headers.get(SESSION), owner, self._subscriptions)

    def _initialize(self, request: web.Request, rpc: RpcRequest) -> web.Response:
        assert rpc.id is not None
        try:
            version = negotiated_version(rpc)
            if request.headers.get(SESSION) is not None:
                session = self._session(request)
                session.version = version
            else:
                session = self._sessions.open(
                    version,
                    caller_of(request).subject,
                    self._subscriptions,
                    internal=is_internal(request, rpc),
                )
        except JsonRpcError as fault:
            return json_response(failure(rpc.id, fault), status=fault.status or 200)
        content = self._responder.methods.initialized(version, caller_of(request))
        return json_response(result(rpc.id, content), _headers(session))

    async def _batch(self, request: web.Request, body: list[Any]) -> web.Response:
        session = self._session(request)
        if session.version != BATCHING:
            detail = f"Invalid request: MCP {session.version} knows no batches; send one message"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        if not 0 < len(body) <= _MOST_MESSAGES:
            detail = f"Invalid request: a batch has 1 to {_MOST_MESSAGES} messages"
            raise JsonRpcError(INVALID_REQUEST, detail, status=400)
        messages = list(map(message_of, body))
        client = McpClient(session, session.internal, caller_of(request), quotas_in(request))
        if client.quotas is not None:
            for _ in messages[1:]:
                await client.quotas.take(client.caller, "reads")
        responses = []
        with session.in_use():
            for each in messages:
                if each is None or each.id is None:
                    _handle_notification(session, each)
                elif each.method == "initialize":
                    fault = JsonRpcError(INVALID_REQUEST, "initialize must not be part of a batch")
                    responses.append(failure(each.id, fault))
                else:
                    responses.append((await self._responder.reply(each, client)).message)
        if not responses:
            return web.Response(status=202, headers=_headers(session))
        return json_response(responses, _headers(session))


def _handle_notification(session: LegacySession, message: RpcRequest | None) -> None:
    """Cancels the request that a cancellation names; ignores all other notifications."""
    if message is not None and message.method == "notifications/cancelled":
        id = message.params.get("requestId")
        if isinstance(id, str | int) and not isinstance(id, bool) and id in session.running:
            session.running[id].cancel()


def _headers(session: LegacySession) -> dict[str, str]:
    return {SESSION: session.id}


class ModernProtocol:
    """Handles the requests of modern clients; ``most`` of them may listen at the same time."""

    def __init__(
        self, responder: Responder, resources: Resources, subscriptions: Subscriptions, *, most: int
    ) -> None:
        self._responder = responder
        self._resources = resources
        self._subscriptions = subscriptions
        self._most = most
        self._listening = 0

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message; raises :class:`JsonRpcError` where it has no request id."""
        rpc = message_of(body)
        if rpc is None:
            raise JsonRpcError(
                INVALID_REQUEST, "this server asks nothing; send requests", status=400
            )
        if rpc.id is None:
            check_version(request)
            return web.Response(status=202)
        try:
            check_envelope(request, rpc)
            client = McpClient(
                None, is_internal(request, rpc), caller_of(request), quotas_in(request)
            )
            if rpc.method == "subscriptions/listen":
                return await self._listen(request, rpc, client)
            if self._responder.methods.is_long_running(rpc):
                return await self._responder.respond_when_done(request, rpc, client, {})
            return json_response(result(rpc.id, await self._responder.methods.answer(rpc, client)))
        except JsonRpcError as fault:
            if fault.code == RESOURCE_NOT_FOUND:  # the modern protocol has no such code
                fault.code = INVALID_PARAMS
            return error_response(rpc.id, fault)

    async def _listen(
        self, request: web.Request, rpc: RpcRequest, client: McpClient
    ) -> web.StreamResponse:
        assert rpc.id is not None
        check_event_stream(request)
        if self._listening >= self._most:
            raise JsonRpcError(
                INTERNAL_ERROR, "too many clients listen; try again soon", status=503
            )
        granted = self._granted(rpc, client)
        subscription = Subscription(
            list_changes="resourcesListChanged" in granted,
            uris=frozenset(granted.get("resourceSubscriptions", ())),
        )
        meta = {SUBSCRIPTION_KEY: rpc.id}
        acknowledged = notification(
            "notifications/subscriptions/acknowledged", {"notifications": granted, "_meta": meta}
        )
        # Before the acknowledgement, so that no change is lost.
        self._subscriptions.add(subscription)
        self._listening += 1
        try:
            last = result(rpc.id, modern_result({"_meta": meta}))
            return await self._responder.listen(
                request, subscription, {}, meta, first=(acknowledged,), last=(last,)
            )
        finally:
            self._listening -= 1
            self._subscriptions.remove(subscription)

    def _granted(self, rpc: RpcRequest, client: McpClient) -> dict[str, Any]:
        if "notifications" not in rpc.params:
            raise JsonRpcError(INVALID_PARAMS, "subscriptions/listen needs params.notifications")
        wanted = rpc.object("notifications")
        granted: dict[str, Any] = {}
        if wanted.get("resourcesListChanged") is True and not client.internal:
            granted["resourcesListChanged"] = True
        uris = wanted.get("resourceSubscriptions")
        if uris is None:
            return granted
        if not isinstance(uris, list) or not all(isinstance(each, str) for each in uris):
            raise JsonRpcError(INVALID_PARAMS, "resourceSubscriptions must be an array of URIs")
        if len(uris) > MOST_SUBSCRIBED:
            raise JsonRpcError(
                INVALID_PARAMS, f"resourceSubscriptions: {MOST_SUBSCRIBED} URIs at most"
            )
        for uri in uris:
            self._resources.check(uri)
        return granted | ({"resourceSubscriptions": uris} if uris else {})
