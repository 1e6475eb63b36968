"""Puts the MCP server of one facade together, and into its application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.facade.documents.cache import Documents
from mcp_discovery.facade.mcp.call_tool import CallTool
from mcp_discovery.facade.mcp.changes import Changes
from mcp_discovery.facade.mcp.describe_tool import DescribeTool
from mcp_discovery.facade.mcp.endpoint import PATH, Endpoint
from mcp_discovery.facade.mcp.find_servers import FindServers
from mcp_discovery.facade.mcp.find_tools import FindTools
from mcp_discovery.facade.mcp.methods import Methods
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.tool import Tool
from mcp_discovery.facade.mcp.tool_caller import ToolCaller
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.servers.search_index import Searching
from mcp_discovery.facade.tools.definitions import Spellings


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
        return len(self._endpoint.lives)

    def serve_in(self, app: web.Application) -> None:
        """Puts it into ``app``, behind everything that is there."""
        app.router.add_route("*", PATH, self._endpoint.serve)
        app.cleanup_ctx.append(self._alive)
        app.on_shutdown.append(self._end_streams)

    async def _alive(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._changes.run(), name="mcp: follow the list"),
            asyncio.create_task(self._endpoint.lives.end(), name="mcp: clients that left"),
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
