"""Modern clients: every request stands for itself, and listening is a request.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.facade.http.disconnects import ClientGoneError
from mcp_discovery.facade.mcp import request_checks as gate
from mcp_discovery.facade.mcp.changes import Changes, Listener, SubscriptionEndedError
from mcp_discovery.facade.mcp.messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    RESOURCE_NOT_FOUND,
    JsonRpcError,
    Reply,
    Request,
    message_of,
    notification,
    result,
)
from mcp_discovery.facade.mcp.methods import Caller, is_own, modern
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.responses import Answering, as_error, as_json, gone
from mcp_discovery.facade.mcp.sessions import MOST_SUBSCRIBED

_SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"


class Modern:
    """Answers what modern clients post; ``most`` of them may listen."""

    def __init__(
        self, answering: Answering, resources: Resources, changes: Changes, *, most: int
    ) -> None:
        self._answering = answering
        self._resources = resources
        self._changes = changes
        self._most = most
        self._listening = 0

    async def post(self, request: web.Request, body: Any) -> web.StreamResponse:
        """The answer to one message; raises :class:`JsonRpcError` where it cannot name its
        request."""
        asked = message_of(body)
        if isinstance(asked, Reply):
            raise JsonRpcError(
                INVALID_REQUEST, "this server asks nothing; send requests", status=400
            )
        if asked.id is None:
            gate.check_version(request)
            return web.Response(status=202)
        try:
            gate.check_envelope(request, asked)
            caller = Caller(None, own=is_own(request, asked))
            if asked.method == "subscriptions/listen":
                return await self._listen(request, asked, caller)
            if self._answering.methods.is_slow(asked):
                return await self._answering.slowly(request, asked, caller, {})
            return as_json(result(asked.id, await self._answering.methods.answer(asked, caller)))
        except JsonRpcError as fault:
            if fault.code == RESOURCE_NOT_FOUND:  # which is no code of this era
                fault.code = INVALID_PARAMS
            return as_error(asked.id, fault)

    async def _listen(
        self, request: web.Request, asked: Request, caller: Caller
    ) -> web.StreamResponse:
        """A stream of what is asked for in ``params.notifications``, until one side ends it."""
        assert asked.id is not None
        gate.check_event_stream(request)
        if self._listening >= self._most:
            raise JsonRpcError(
                INTERNAL_ERROR, "too many clients listen; try again soon", status=503
            )
        granted = self._granted(asked, caller)
        listener = Listener(
            lists="resourcesListChanged" in granted,
            uris=frozenset(granted.get("resourceSubscriptions", ())),
        )
        meta = {_SUBSCRIPTION_KEY: asked.id}
        acknowledged = notification(
            "notifications/subscriptions/acknowledged", {"notifications": granted, "_meta": meta}
        )
        stream = self._answering.stream(request)
        self._changes.join(listener)  # before it is told so: nothing falls in between
        self._listening += 1
        try:
            await stream.start({})
            try:
                async with self._answering.disconnects.guard(request):
                    await stream.send(acknowledged)
                    await self._answering.tell(stream, listener, meta)
            except SubscriptionEndedError:
                await stream.send(result(asked.id, modern({"_meta": meta})))
        except (ClientGoneError, ConnectionResetError):
            pass
        finally:
            self._listening -= 1
            self._changes.leave(listener)
        return stream.response or gone()

    def _granted(self, asked: Request, caller: Caller) -> dict[str, Any]:
        """What of ``params.notifications`` will be told; raises :class:`JsonRpcError`."""
        if "notifications" not in asked.params:
            raise JsonRpcError(INVALID_PARAMS, "subscriptions/listen needs params.notifications")
        wanted = asked.object("notifications")
        granted: dict[str, Any] = {}
        if wanted.get("resourcesListChanged") is True and not caller.own:
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
