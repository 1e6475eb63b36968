"""Clients of the modern era: every request stands for itself.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from aiohttp import web

from mcp_discovery.mcp_messages import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LOG_LEVEL_KEY,
    SUBSCRIPTION_KEY,
    Id,
    JsonRpcError,
    RpcRequest,
    check_envelope,
    check_event_stream,
    check_version,
    encoded,
    message_of,
    notification,
)
from mcp_discovery.mcp_responses import error_response
from mcp_discovery.param_headers import ParamHeaders
from mcp_discovery.sidecar.bridge.asking_processes import AskedClient, AskingProcesses
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.connection import ASKABLE, LISTEN, Params
from mcp_discovery.sidecar.bridge.eras import Spoken, ask_as_modern
from mcp_discovery.sidecar.bridge.exchange import ModernExchange
from mcp_discovery.sidecar.bridge.questions import ASKING, ParkedCalls, QuestionedCall
from mcp_discovery.sidecar.bridge.session_table import SessionLimits
from mcp_discovery.sidecar.bridge.streams import ALL, MOST_BYTES, MessageStream, StreamMemory
from mcp_discovery.sidecar.bridge.wishes import ACKNOWLEDGED, LEVELS, LISTS, UPDATED

log = logging.getLogger(__name__)


class ModernClients:
    """Answers the requests of modern clients of one bridge."""

    def __init__(self, bridge: Bridge, limits: SessionLimits) -> None:
        self._bridge = bridge
        self._is_shared = limits.each is False
        self._processes = AskingProcesses(bridge, limits.most_own, limits.idle)
        self._parked = ParkedCalls()
        self._params = ParamHeaders()

    async def close(self) -> None:
        """Ends what waits for clients, and their processes."""
        self._parked.close()
        await self._processes.close()

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The response to one message; raises :class:`JsonRpcError` where it has no id."""
        rpc = message_of(body)
        if rpc is None:
            raise JsonRpcError(
                INVALID_REQUEST, "this server asks nothing; send requests", status=400
            )
        if rpc.id is None:
            check_version(request, self._bridge.spoken().greeting.modern_versions)
            return web.Response(status=202)
        try:
            greeting = self._bridge.spoken().greeting
            check_envelope(request, rpc, greeting.modern_versions)
            if rpc.method == "tools/call":
                self._params.check(request.headers, rpc.params)
            modern = greeting.is_modern
            client = None if modern else self._asked_client(request, rpc)
            if rpc.method == LISTEN:
                check_event_stream(request)
                if not modern:
                    async with self._process(client) as spoken:
                        return await _listen(request, rpc, rpc.id, spoken)
            level = rpc.meta.get(LOG_LEVEL_KEY)
            exchange = ModernExchange(request, rpc.id, level if level in LEVELS else None)
            asked = self._ask(client, rpc, exchange)
            work = self._bridge.figures.counted(rpc.method, rpc.params, request.headers, asked)
            return await exchange.respond(work)
        except JsonRpcError as fault:
            return error_response(rpc.id, fault)

    def _asked_client(self, request: web.Request, rpc: RpcRequest) -> AskedClient | None:
        """The client of a request, where a legacy server may ask it something."""
        capabilities, info = rpc.meta.get(CAPABILITIES_KEY), rpc.meta.get(CLIENT_INFO_KEY)
        if (
            rpc.method == "server/discover"
            or not isinstance(capabilities, dict)
            or capabilities.keys().isdisjoint(ASKABLE.values())
        ):
            return None
        shown = request.headers.get("Authorization")
        key = request.remote, shown, encoded([capabilities, info])
        return AskedClient(key, capabilities, info)

    def _process(
        self, client: AskedClient | None, call: QuestionedCall | None = None
    ) -> AbstractAsyncContextManager[Spoken]:
        """The process for a request; that which works for ``call`` alone, if there may be one."""
        if client is None or self._is_shared:
            return nullcontext(self._bridge.spoken())
        return (
            self._processes.some(client) if call is None else self._processes.one_for(call, client)
        )

    async def _ask(
        self, client: AskedClient | None, rpc: RpcRequest, exchange: ModernExchange
    ) -> Mapping[str, Any]:
        async def begin(params: Params, call: QuestionedCall) -> Mapping[str, Any]:
            async with self._process(client, call) as spoken:
                return await ask_as_modern(spoken, rpc.method, params, call)

        if client is not None and rpc.method in ASKING:
            asking = self._parked.ask
            return await asking(rpc.method, rpc.params, exchange, client.capabilities, begin)
        async with self._process(client) as spoken:
            found = await ask_as_modern(spoken, rpc.method, rpc.params, exchange)
        if rpc.method == "tools/list":
            await self._params.learn_tools(found.get("tools"))
        return found if rpc.method != LISTEN else _labelled(found, exchange.id)


async def _listen(
    request: web.Request, rpc: RpcRequest, id: Id, spoken: Spoken
) -> web.StreamResponse:
    """Streams what a legacy server says of its lists and resources."""
    wanted = rpc.object("notifications")
    uris = wanted.get("resourceSubscriptions") or []
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        detail = "notifications.resourceSubscriptions must be an array of URIs"
        raise JsonRpcError(INVALID_PARAMS, detail)
    granted: dict[str, Any] = {name: True for name in LISTS if wanted.get(name) is True}
    methods = {LISTS[name] for name in granted} | ({UPDATED} if uris else set())
    stream = MessageStream(StreamMemory(MOST_BYTES, ALL))
    audience, early = spoken.audience, list[dict[str, Any]]()

    def tell(method: str, params: Params) -> None:
        if method in methods:
            message = notification(method, _labelled(params, id))
            early.append(message) if not acknowledged else stream.append(message)

    acknowledged = False
    audience.listeners[stream] = tell
    audience.endings.add(stream.finish)
    try:
        watched = [uri for uri in dict.fromkeys(uris) if await _watches(spoken, stream, uri)]
        if watched:
            granted["resourceSubscriptions"] = watched
        stream.append(notification(ACKNOWLEDGED, _labelled({"notifications": granted}, id)))
        acknowledged = True
        for message in early:
            stream.append(message)
        return await stream.serve(request, {})
    finally:
        del audience.listeners[stream]
        audience.endings.discard(stream.finish)
        await audience.wishes.leave(stream)


async def _watches(spoken: Spoken, client: object, uri: str) -> bool:
    """Whether the server agrees to tell ``client`` of a resource."""
    try:
        await spoken.audience.wishes.watch(client, uri)
    except JsonRpcError as fault:
        log.debug("%s is not watched: %s", uri, fault)
        return False
    return True


def _labelled(content: Mapping[str, Any], id: Id) -> dict[str, Any]:
    """Parameters, or a result, that belong to the subscription ``id``."""
    meta = content.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    return {**content, "_meta": {**meta, SUBSCRIPTION_KEY: id}}
