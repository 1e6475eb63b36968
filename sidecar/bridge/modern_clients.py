"""Clients of the modern era: every request stands for itself.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.mcp_messages import (
    INVALID_REQUEST,
    JsonRpcError,
    RpcRequest,
    check_envelope,
    check_event_stream,
    check_version,
    message_of,
    notification,
)
from mcp_discovery.mcp_responses import error_response
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.connection import Params
from mcp_discovery.sidecar.bridge.eras import ask_as_modern
from mcp_discovery.sidecar.bridge.exchange import ModernExchange
from mcp_discovery.sidecar.bridge.streams import ALL, MOST_BYTES, MessageStream, StreamMemory

_SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"
#: A wish of ``subscriptions/listen`` → the notification that it is for.
_LISTS: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
}


class ModernClients:
    """Answers the requests of modern clients of one bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message; raises :class:`JsonRpcError` where it has no id."""
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
            spoken = self._bridge.spoken()
            if rpc.method == "subscriptions/listen" and not spoken.greeting.is_modern:
                return await self._listen(request, rpc)
            exchange = ModernExchange(request)
            asked = ask_as_modern(
                spoken.connection, spoken.greeting, rpc.method, rpc.params, exchange
            )
            work = self._bridge.figures.counted(rpc.method, rpc.params, request.headers, asked)
            return await exchange.respond(rpc.id, work)
        except JsonRpcError as fault:
            return error_response(rpc.id, fault)

    async def _listen(self, request: web.Request, rpc: RpcRequest) -> web.StreamResponse:
        """Streams what a legacy server says of its lists."""
        check_event_stream(request)
        wanted = rpc.object("notifications")
        granted = {name: True for name in _LISTS if wanted.get(name) is True}
        methods = {_LISTS[name] for name in granted}
        meta = {_SUBSCRIPTION_KEY: rpc.id}
        stream = MessageStream(StreamMemory(MOST_BYTES, ALL))

        def listener(method: str, _: Params) -> None:
            if method in methods:
                stream.append(notification(method, {"_meta": meta}))

        acknowledged = {"notifications": granted, "_meta": meta}
        stream.append(notification("notifications/subscriptions/acknowledged", acknowledged))
        self._bridge.listeners.add(listener)
        try:
            return await stream.serve(request, {})
        finally:
            self._bridge.listeners.discard(listener)
