"""The bridges of one process over HTTP: one listener, and a path for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mcp_discovery.connection_room import Room, default_most
from mcp_discovery.disconnects import ClientGoneError
from mcp_discovery.http_listener import http_listener, sign
from mcp_discovery.listening import WILDCARDS, listeners
from mcp_discovery.mcp_messages import (
    INVALID_REQUEST,
    JsonRpcError,
    check_posted,
    decoded,
    is_modern,
)
from mcp_discovery.mcp_responses import error_response
from mcp_discovery.sidecar.access import Access
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.entrance import BridgeCredentials, Entrance
from mcp_discovery.sidecar.bridge.legacy_clients import LegacyClients, check_session_version
from mcp_discovery.sidecar.bridge.modern_clients import ModernClients
from mcp_discovery.sidecar.bridge.session_table import SessionLimits
from mcp_discovery.sidecar.bridge.streams import PING_INTERVAL, WRITE_TIMEOUT
from mcp_discovery.sidecar.healthz import refusals
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.stdio_child import LARGEST

if TYPE_CHECKING:
    from mcp_discovery.websocket_front import WebSocketFront

#: Seconds that what the clients of WebSockets wait for may take when it stops.
_GRACE: Final = 1.0
_METHODS: Final = "GET, POST, DELETE"


class McpEndpoint:
    """One bridge as an endpoint of streamable HTTP, for clients of both eras."""

    def __init__(self, bridge: Bridge, limits: SessionLimits) -> None:
        self.bridge = bridge
        self.legacy = LegacyClients(bridge, limits)
        self._modern = ModernClients(bridge, limits)
        self._sockets: WebSocketFront | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The response to any request."""
        try:
            return await self._dispatch(request)
        except JsonRpcError as fault:
            return error_response(None, fault)
        except web.HTTPRequestEntityTooLarge:
            detail = f"the body is over the limit of {LARGEST} bytes"
            return error_response(None, JsonRpcError(INVALID_REQUEST, detail, status=413))
        except web.RequestPayloadError:
            detail = "the body is not what its headers say: check Content-Encoding"
            refusal = error_response(None, JsonRpcError(INVALID_REQUEST, detail, status=400))
            refusal.force_close()  # what follows cannot be read
            return refusal
        except (ClientGoneError, ConnectionError):
            return web.Response(status=499)  # for nobody

    async def close(self) -> None:
        """Ends all sessions and sockets."""
        if self._sockets is not None:
            await self._sockets.close(_GRACE)
        await self.legacy.sessions.close()
        await self._modern.close()

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and "Upgrade" in request.headers:
            return await self._serve_socket(request)
        check_session_version(request)
        if is_modern(request):
            if request.method == "POST":
                return await self._modern.post(request, await _body(request))
            return web.Response(status=405, headers={"Allow": "POST"})
        match request.method:
            case "POST":
                return await self.legacy.post(request, await _body(request))
            case "GET":
                return await self.legacy.get(request)
            case "DELETE":
                return self.legacy.delete(request)
        return web.Response(status=405, headers={"Allow": _METHODS})

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        """Speaks over a WebSocket, each message as a request of its own."""
        # Imported here: most bridges never see one.
        from mcp_discovery.websocket_front import WebSocketFront, handshake_fault

        if (fault := handshake_fault(request)) is not None:
            raise JsonRpcError(INVALID_REQUEST, fault, status=400)
        if self._sockets is None:
            self._sockets = WebSocketFront(ping=PING_INTERVAL, write_timeout=WRITE_TIMEOUT)
        return await self._sockets.serve(request)


async def _body(request: web.Request) -> Any:
    check_posted(request)
    return decoded(await request.read())


class BridgeListener:
    """Where the bridges of one process are reached; ``port`` is known inside of
    :meth:`listening`.

    ``settings`` say who may come in; raises :class:`~mcp_discovery.errors.InvalidInputError` where
    they say it to nobody and ``host`` is not of this machine alone.
    """

    def __init__(self, host: str, port: int, settings: SidecarSettings) -> None:
        self.host = host
        self.port = port
        #: Who may come in.
        self.credentials = BridgeCredentials.of(settings, host)
        self._entrance = Entrance(settings, self.credentials)
        #: Path → what answers there. May change while it listens.
        self.endpoints: dict[str, McpEndpoint] = {}

    def url(self, path: str) -> str:
        """The URL of ``path``, as this machine reaches it."""
        host = WILDCARDS.get(self.host, self.host)
        scheme = "http" if self.credentials.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def access_to(self, path: str, settings: SidecarSettings) -> tuple[SidecarSettings, Access]:
        """The settings of a sidecar beside what is at ``path``, and how it comes in there."""
        credentials = self.credentials
        token = credentials.own if credentials.are_wanted else None
        served = settings.served_at(self.url(path), token, credentials.auth)
        access = Access.of(served)
        if settings.bridge_cert is not None:
            tls = credentials.own_tls(settings.bridge_cert)
            access = replace(access, tls=tls)
        return served, access

    @asynccontextmanager
    async def serving(
        self, path: str, bridge: Bridge, settings: SidecarSettings
    ) -> AsyncIterator[None]:
        """``bridge`` is reached at ``path`` while the block runs; its sessions end with it."""
        endpoint = self.endpoints[path] = McpEndpoint(bridge, SessionLimits.of(settings))
        bridge.figures.sessions = lambda: len(endpoint.legacy.sessions)
        if settings.max_sessions is not None:
            bridge.figures.capacity = settings.max_sessions
        try:
            yield
        finally:
            del self.endpoints[path]
            await endpoint.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answers while the block runs.

        Raises :class:`~mcp_discovery.sidecar.healthz.PortInUseError`, and
        :class:`~mcp_discovery.errors.InvalidInputError` where it cannot listen for another reason.
        """
        app = web.Application(client_max_size=LARGEST)
        app.on_response_prepare.append(_sign)
        app.router.add_route("*", "/{path:.*}", self._answer)
        # Handlers are not cancelled when their clients leave: legacy requests go on.
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        try:
            with refusals(self.host, self.port, "MCP", "--listen"):
                sockets = listeners(self.host, self.port)
            self.port = int(sockets[0].getsockname()[1])
            most = default_most()
            tls = self.credentials.tls
            async with http_listener(runner, sockets, room=Room(most, most), tls=tls):
                yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._entrance.refusal(request)) is not None:
            return refusal
        endpoint = self.endpoints.get(request.path)
        if endpoint is None:
            known: Mapping[str, Any] = {
                "detail": f"nothing is here but {', '.join(self.endpoints)}"
            }
            return web.json_response(known, status=404)
        return await endpoint.answer(request)


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    sign(request, response)
