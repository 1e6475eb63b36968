"""The MCP server of one facade, at ``/mcp``: streamable HTTP for legacy and modern clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.facade.documents.cache import Documents
from mcp_discovery.facade.http.body import read
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.mcp import request_checks as gate
from mcp_discovery.facade.mcp.call_tool import CallTool, ToolCaller
from mcp_discovery.facade.mcp.changes import Changes
from mcp_discovery.facade.mcp.describe_tool import DescribeTool
from mcp_discovery.facade.mcp.find_servers import FindServers
from mcp_discovery.facade.mcp.find_tools import FindTools
from mcp_discovery.facade.mcp.legacy import Legacy
from mcp_discovery.facade.mcp.messages import INVALID_REQUEST, JsonRpcError, decoded
from mcp_discovery.facade.mcp.methods import Methods
from mcp_discovery.facade.mcp.modern import Modern
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.responses import Answering, as_error
from mcp_discovery.facade.mcp.sessions import Sessions
from mcp_discovery.facade.mcp.tool import Tool
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.servers.search_index import Searching
from mcp_discovery.facade.tools.definitions import Spellings

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
        self.disconnects = answering.disconnects
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


class McpServer:
    """The MCP server over one catalog, served at ``/mcp`` of ``app`` and alive while that is.

    ``call_tool`` is offered where there is a ``caller``, whose life is its maker's.
    """

    def __init__(
        self,
        catalog: Catalog,
        documents: Documents,
        searching: Searching,
        spellings: Spellings,
        options: FacadeOptions,
        caller: ToolCaller | None,
    ) -> None:
        tools: list[Tool] = [
            FindServers(catalog, searching),
            FindTools(catalog, spellings),
            DescribeTool(catalog, spellings),
        ]
        if caller is not None:
            tools.append(CallTool(caller))
        resources = Resources(catalog, documents)
        self._changes = Changes(catalog)
        self._endpoint = Endpoint(Methods(tools, resources), resources, self._changes, options)

    @property
    def sessions(self) -> int:
        """How many legacy clients have a session."""
        return len(self._endpoint.sessions)

    @property
    def streams(self) -> int:
        """How many clients listen, or wait for a call."""
        return len(self._endpoint.disconnects)

    def serve_in(self, app: web.Application) -> None:
        """Puts it into ``app``, behind everything that is there."""
        app.router.add_route("*", PATH, self._endpoint.serve)
        app.cleanup_ctx.append(self._alive)
        app.on_shutdown.append(self._end_streams)

    async def _alive(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._changes.run(), name="mcp: follow the list"),
            asyncio.create_task(self._endpoint.disconnects.run(), name="mcp: clients that left"),
            asyncio.create_task(self._endpoint.sessions.expire(), name="mcp: idle sessions"),
        ]
        try:
            yield
        finally:
            await self._endpoint.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_streams(self, _: web.Application) -> None:
        self._changes.close()
