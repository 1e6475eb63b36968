"""The modern protocol: every request stands for itself, and listening is a request.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.facade.http.disconnects import ClientGoneError
from mcp_discovery.facade.mcp import request_checks as request_checks
from mcp_discovery.facade.mcp.messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    RESOURCE_NOT_FOUND,
    JsonRpcError,
    RpcRequest,
    RpcResponse,
    message_of,
    notification,
    result,
)
from mcp_discovery.facade.mcp.methods import Caller, is_internal, modern_result
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.responses import (
    Responder,
    client_gone_response,
    error_response,
    json_response,
)
from mcp_discovery.facade.mcp.sessions import MOST_SUBSCRIBED
from mcp_discovery.facade.mcp.subscriptions import (
    Subscription,
    SubscriptionEndedError,
    Subscriptions,
)

_SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"


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
        if isinstance(rpc, RpcResponse):
            raise JsonRpcError(
                INVALID_REQUEST, "this server asks nothing; send requests", status=400
            )
        if rpc.id is None:
            request_checks.check_version(request)
            return web.Response(status=202)
        try:
            request_checks.check_envelope(request, rpc)
            caller = Caller(None, internal=is_internal(request, rpc))
            if rpc.method == "subscriptions/listen":
                return await self._listen(request, rpc, caller)
            if self._responder.methods.is_long_running(rpc):
                return await self._responder.respond_when_done(request, rpc, caller, {})
            return json_response(result(rpc.id, await self._responder.methods.answer(rpc, caller)))
        except JsonRpcError as fault:
            if fault.code == RESOURCE_NOT_FOUND:  # the modern protocol has no such code
                fault.code = INVALID_PARAMS
            return error_response(rpc.id, fault)

    async def _listen(
        self, request: web.Request, rpc: RpcRequest, caller: Caller
    ) -> web.StreamResponse:
        """The stream of the notifications in ``params.notifications``, until one side ends it."""
        assert rpc.id is not None
        request_checks.check_event_stream(request)
        if self._listening >= self._most:
            raise JsonRpcError(
                INTERNAL_ERROR, "too many clients listen; try again soon", status=503
            )
        granted = self._granted(rpc, caller)
        subscription = Subscription(
            list_changes="resourcesListChanged" in granted,
            uris=frozenset(granted.get("resourceSubscriptions", ())),
        )
        meta = {_SUBSCRIPTION_KEY: rpc.id}
        acknowledged = notification(
            "notifications/subscriptions/acknowledged", {"notifications": granted, "_meta": meta}
        )
        stream = self._responder.stream(request)
        self._subscriptions.add(
            subscription
        )  # before the acknowledgement, so that no change is lost
        self._listening += 1
        try:
            await stream.start({})
            try:
                async with self._responder.disconnects.guard(request):
                    await stream.send(acknowledged)
                    await self._responder.notify(stream, subscription, meta)
            except SubscriptionEndedError:
                await stream.send(result(rpc.id, modern_result({"_meta": meta})))
        except (ClientGoneError, ConnectionResetError):
            pass
        finally:
            self._listening -= 1
            self._subscriptions.remove(subscription)
        return stream.response or client_gone_response()

    def _granted(self, rpc: RpcRequest, caller: Caller) -> dict[str, Any]:
        """The notifications that are granted; raises :class:`JsonRpcError`."""
        if "notifications" not in rpc.params:
            raise JsonRpcError(INVALID_PARAMS, "subscriptions/listen needs params.notifications")
        wanted = rpc.object("notifications")
        granted: dict[str, Any] = {}
        if wanted.get("resourcesListChanged") is True and not caller.internal:
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
