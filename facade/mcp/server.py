"""The MCP server of one facade, at ``/mcp``: streamable HTTP for legacy and modern clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.facade.access.parts import Part, parts_of
from mcp_discovery.facade.documents.documents import Documents
from mcp_discovery.facade.http.body import decode, read, read_ends
from mcp_discovery.facade.http.operation import needing
from mcp_discovery.facade.http.problems import MAX_BODY_BYTES, ProblemError
from mcp_discovery.facade.mcp.call_tool import CallTool, ToolCaller
from mcp_discovery.facade.mcp.describe_tool import DescribeTool
from mcp_discovery.facade.mcp.methods import Methods, operation_durations
from mcp_discovery.facade.mcp.protocols import LegacyProtocol, ModernProtocol
from mcp_discovery.facade.mcp.resources import Resources
from mcp_discovery.facade.mcp.responses import Responder, Responses
from mcp_discovery.facade.mcp.search_tools import FindServers, FindTools
from mcp_discovery.facade.mcp.subscriptions import LegacySessions, Subscriptions
from mcp_discovery.facade.mcp.tool import McpTool
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.queries.answers import NamedAnswers
from mcp_discovery.facade.servers.search_index import ServerSearch
from mcp_discovery.facade.tools.index import ToolDefinitions
from mcp_discovery.glance import HEAD, TAIL, glance
from mcp_discovery.mcp_messages import (
    INVALID_REQUEST,
    JsonRpcError,
    check_posted,
    decoded,
    failure,
    is_modern,
)
from mcp_discovery.mcp_responses import error_response, json_response

PATH: Final = "/mcp"
_METHODS: Final = "GET, POST, DELETE"
_TOO_LARGE: Final = (
    f"the body is over the limit of {MAX_BODY_BYTES:,} bytes; send less, or send it to the server "
    "itself, at the url that find_servers tells"
)


def _is_too_large(request: web.Request) -> bool:
    return (request.content_length or 0) > MAX_BODY_BYTES


class McpServer:
    """The MCP server of one facade, served at ``/mcp`` of ``app`` and alive while that is.

    ``call_tool`` is offered where there is a ``caller``, which stays the owner's to close.
    """

    def __init__(self, options: FacadeOptions, caller: ToolCaller | None) -> None:
        self.options = options
        self.sessions = LegacySessions(most=options.mcp_sessions, idle=options.mcp_idle)
        self.responses = Responses(options)
        self.durations = operation_durations()
        self.call_tool = None if caller is None else CallTool(caller)

    def serve_in(self, app: web.Application) -> None:
        """Puts it into ``app``, behind everything that is there."""
        app.router.add_route("*", PATH, needing("read", self._serve))
        app.cleanup_ctx.append(self._alive)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._dispatch(request)
        except JsonRpcError as fault:
            return error_response(None, fault)
        except ProblemError as error:
            return error_response(
                None, JsonRpcError(INVALID_REQUEST, error.detail, status=error.status)
            )
        except web.HTTPRequestEntityTooLarge:
            return error_response(None, JsonRpcError(INVALID_REQUEST, _TOO_LARGE, status=413))

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": f"{_METHODS}, OPTIONS"})
        service = parts_of(request)[MCP_SERVICE]
        if is_modern(request):
            if request.method == "POST":
                return await service.modern.post(request, await self._body(request))
            return web.Response(status=405, headers={"Allow": "POST"})
        match request.method:
            case "POST" if _is_too_large(request):
                return await self._refuse_body(request)
            case "POST":
                return await service.legacy.post(request, await self._body(request))
            case "GET":
                return await service.legacy.get(request)
            case "DELETE":
                return service.legacy.delete(request)
        return web.Response(status=405, headers={"Allow": _METHODS})

    async def _refuse_body(self, request: web.Request) -> web.Response:
        """The error of the one request that is too large.

        It has the request's id, and no HTTP status of its own, with which the SDK 1.x would end the
        whole session.
        """
        check_posted(request)
        fault = JsonRpcError(INVALID_REQUEST, _TOO_LARGE, status=413)
        id = glance(await read_ends(request, HEAD, TAIL)).request_id
        if id is None:
            raise fault
        return json_response(failure(id, fault))

    async def _body(self, request: web.Request) -> Any:
        check_posted(request)
        return await decode(request, await read(request), decoded)

    async def _alive(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self.responses.disconnects.run(), name="mcp: clients that left"),
            asyncio.create_task(self.sessions.expire(), name="mcp: idle sessions"),
        ]
        try:
            yield
        finally:
            await self.responses.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class McpService:
    """What ``server`` answers over one list."""

    def __init__(
        self,
        server: McpServer,
        catalog: LiveList,
        documents: Documents,
        search: ServerSearch,
        definitions: ToolDefinitions,
        answers: NamedAnswers,
    ) -> None:
        tools: list[McpTool] = [
            FindServers(catalog, search, answers),
            FindTools(catalog, definitions, search),
            DescribeTool(catalog, definitions),
        ]
        if server.call_tool is not None:
            tools.append(server.call_tool)
        resources = Resources(catalog, documents)
        self.subscriptions = Subscriptions(catalog)
        responder = Responder(Methods(tools, resources, server.durations), server.responses)
        self.legacy = LegacyProtocol(responder, server.sessions, self.subscriptions)
        self.modern = ModernProtocol(
            responder, resources, self.subscriptions, most=server.options.mcp_sessions
        )


MCP_SERVICE: Part[McpService] = Part("MCP service")
