"""``/mcp``: MCP over streamable HTTP, for clients of both eras."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from mcp_discovery.facade.http.body import read
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.mcp import request_checks as gate
from mcp_discovery.facade.mcp.changes import Changes
from mcp_discovery.facade.mcp.legacy import Legacy
from mcp_discovery.facade.mcp.messages import INVALID_REQUEST, JsonRpcError, decoded
from mcp_discovery.facade.mcp.methods import Methods
from mcp_discovery.facade.mcp.modern import Modern
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.responses import Answering, as_error
from mcp_discovery.facade.mcp.sessions import Sessions
from mcp_discovery.facade.options import FacadeOptions

PATH: Final = "/mcp"
_METHODS: Final = "GET, POST, DELETE"


class Endpoint:
    """Answers every request to ``/mcp``."""

    def __init__(
        self, methods: Methods, resources: Resources, changes: Changes, options: FacadeOptions
    ) -> None:
        most = options.mcp_sessions
        self._options = options
        self.sessions = Sessions(changes, most=most, idle=options.mcp_idle)
        self._answering = answering = Answering(methods, options)
        self.lives = answering.lives
        self._legacy = Legacy(answering, self.sessions)
        self._modern = Modern(answering, resources, changes, most=most)

    async def close(self) -> None:
        """Ends what is still under way."""
        await self._answering.close()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The handler for all methods of HTTP."""
        try:
            return await self._serve(request)
        except JsonRpcError as fault:
            return as_error(None, fault)
        except ProblemError as error:
            return as_error(None, JsonRpcError(INVALID_REQUEST, error.detail, status=error.status))
        except web.HTTPRequestEntityTooLarge:
            return as_error(
                None, JsonRpcError(INVALID_REQUEST, "the body is too large", status=413)
            )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        gate.check_origin(request, self._options.cors_origins)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": f"{_METHODS}, OPTIONS"})
        if gate.is_modern(request):
            if request.method == "POST":
                return await self._modern.post(request, await self._body(request))
            return web.Response(status=405, headers={"Allow": "POST"})
        match request.method:
            case "POST":
                return await self._legacy.post(request, await self._body(request))
            case "GET":
                return await self._legacy.get(request)
            case "DELETE":
                return self._legacy.delete(request)
        return web.Response(status=405, headers={"Allow": _METHODS})

    async def _body(self, request: web.Request) -> Any:
        gate.check_posted(request)
        return decoded(await read(request, timeout=self._options.body_timeout))
