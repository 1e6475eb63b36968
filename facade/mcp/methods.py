"""The MCP methods and their results, independent of HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiohttp import web
from prometheus_client import Histogram

from mcp_discovery.disconnects import ClientGoneError
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.audit.calls import refuse_call
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.quotas import Quotas
from mcp_discovery.facade.http.outbound import MARK
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.mcp.resources import TEMPLATES, Resources
from mcp_discovery.facade.mcp.subscriptions import LegacySession
from mcp_discovery.facade.mcp.tool import McpTool, OnProgress, tool_error
from mcp_discovery.mcp_messages import (
    CLIENT_INFO_KEY,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MODERN,
    SERVER_INFO_KEY,
    JsonRpcError,
    RpcRequest,
)
from mcp_discovery.nearest import nearest
from mcp_discovery.telemetry.conventions import mcp_failure, mcp_request, mcp_result
from mcp_discovery.version import installed_version

#: The name of this server, and of mcp-discovery's own clients.
NAME: Final = "mcp-discovery"

#: How many milliseconds a client may cache a result, and whether it may share it with others.
_FIXED: Final = {"ttlMs": 60_000, "cacheScope": "public"}  # the same until the facade restarts
_OF_CALLER: Final = _FIXED | {"cacheScope": "private"}  # call_tool is not everybody's
_MOVING: Final = {"ttlMs": 0, "cacheScope": "private"}
_FOREVER: Final = {"ttlMs": 86_400_000, "cacheScope": "private"}

#: Seconds, as the conventions for ``mcp.server.operation.duration`` have them.
_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)

INSTRUCTIONS: Final = (
    "This server knows which MCP servers are alive now and what they offer. "
    "To get something done, find_tools with words for it; describe_tool tells a tool's arguments "
    "and whether all servers mean the same by it. find_servers tells where to connect. "
)
_WITH_CALLS: Final = "call_tool calls what was found."
_WITHOUT_CALLS: Final = (
    "Tools are found here and not called here: connect to the server that offers the tool, at its "
    "url."
)


class McpClient(NamedTuple):
    """The client of a request. ``session`` is a legacy client's; a modern client has none.
    ``caller`` is who it works for, ``quotas`` count what it calls.

    ``internal`` says that it is mcp-discovery itself, which introspects this server. It is given
    only the resources that do not depend on the list: otherwise each introspection of a facade in
    its own list would find other resources, and so change the list.
    """

    session: LegacySession | None
    internal: bool
    caller: Caller
    quotas: Quotas | None

    @property
    def modern(self) -> bool:
        """Whether the client speaks the modern protocol."""
        return self.session is None


class MethodCall(NamedTuple):
    """A request, its client, and what receives the progress where the client wants it."""

    rpc: RpcRequest
    client: McpClient
    on_progress: OnProgress | None


def operation_durations() -> Histogram:
    """How long the requests took that were answered, by method, own tool, and how they failed."""
    return Histogram(
        "mcp_discovery_mcp_operation_duration_seconds",
        "Time to answer a request of MCP to the facade itself; error is empty where it succeeded.",
        ("method", "tool", "error"),
        buckets=_BUCKETS,
        registry=None,
    )


class Methods:
    """The methods of one facade; ``durations`` are :func:`operation_durations`."""

    def __init__(
        self, tools: Iterable[McpTool], resources: Resources, durations: Histogram
    ) -> None:
        self._durations = durations
        self._tools = {tool.name: tool for tool in tools}
        self._resources = resources
        self._modern: Mapping[str, _Handler] = {
            "server/discover": self._discover,
            "tools/list": self._list_tools,
            "tools/call": self._call_tool,
            "resources/list": self._list_resources,
            "resources/templates/list": self._list_templates,
            "resources/read": self._read_resource,
        }
        legacy: Mapping[str, _Handler] = {
            "ping": self._ping,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
        }
        self._legacy = {**self._modern, **legacy}
        del self._legacy["server/discover"]

    def is_long_running(self, rpc: RpcRequest) -> bool:
        """Whether the request can run long, report progress and be cancelled."""
        name = rpc.params.get("name")
        tool = self._tools.get(name) if isinstance(name, str) else None
        return rpc.method == "tools/call" and tool is not None and tool.long_running

    async def answer(
        self, rpc: RpcRequest, client: McpClient, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """The result of a request, which is timed and has a span; raises :class:`JsonRpcError`."""
        began = time.monotonic()
        error = "-32603"
        with mcp_request("server", rpc.method, rpc.params, id=rpc.id) as span:
            try:
                result = await self._answer(rpc, client, on_progress)
                error = "tool_error" if result.get("isError") is True else ""
                mcp_result(span, result)
                return result
            except JsonRpcError as fault:
                error = str(fault.code)
                mcp_failure(span, fault.code, fault.message)
                raise
            finally:
                known = rpc.method in self._legacy or rpc.method in self._modern
                tool = rpc.params.get("name") if rpc.method == "tools/call" else ""
                tool = tool if isinstance(tool, str) and tool in self._tools else ""
                labels = rpc.method if known else "other", tool, error
                self._durations.labels(*labels).observe(time.monotonic() - began)

    async def _answer(
        self, rpc: RpcRequest, client: McpClient, on_progress: OnProgress | None
    ) -> dict[str, Any]:
        handler = (self._modern if client.modern else self._legacy).get(rpc.method)
        if handler is None:
            raise JsonRpcError(METHOD_NOT_FOUND, f"Method not found: {rpc.method[:100]!r}")
        try:
            result = dict(await handler(MethodCall(rpc, client, on_progress)))
        except (JsonRpcError, ClientGoneError):
            raise
        except DiscoveryError as error:
            raise JsonRpcError(INTERNAL_ERROR, str(error)) from error
        if client.modern:
            return modern_result(result)
        result.pop("ttlMs", None)
        result.pop("cacheScope", None)
        return result

    def initialized(self, protocol: str, caller: Caller) -> dict[str, Any]:
        """The result of ``initialize`` by ``caller``, for the version that was agreed on."""
        return {
            "protocolVersion": protocol,
            "capabilities": _capabilities(),
            "serverInfo": server_info(),
            "instructions": self._instructions(caller),
        }

    def _tools_for(self, caller: Caller) -> Mapping[str, McpTool]:
        """The tools that exist for ``caller``."""
        verbs = caller.rights.verbs
        return {name: tool for name, tool in self._tools.items() if tool.needs in verbs}

    def _instructions(self, caller: Caller) -> str:
        calls = "call_tool" in self._tools_for(caller)
        return INSTRUCTIONS + (_WITH_CALLS if calls else _WITHOUT_CALLS)

    async def _discover(self, call: MethodCall) -> Mapping[str, Any]:
        return {
            "supportedVersions": [MODERN],
            "capabilities": _capabilities(),
            "instructions": self._instructions(call.client.caller),
            **_OF_CALLER,
        }

    async def _ping(self, _: MethodCall) -> Mapping[str, Any]:
        return {}

    async def _list_tools(self, call: MethodCall) -> Mapping[str, Any]:
        if call.rpc.params.get("cursor") is not None:
            raise JsonRpcError(INVALID_PARAMS, "there is one page of tools; leave out cursor")
        tools = self._tools_for(call.client.caller).values()
        return {"tools": [tool.definition for tool in tools], **_OF_CALLER}

    async def _call_tool(self, call: MethodCall) -> Mapping[str, Any]:
        name = call.rpc.text("name")
        caller = call.client.caller
        tools = self._tools_for(caller)
        tool = tools.get(name)
        if tool is None:
            if (known := self._tools.get(name)) is not None and known.needs == "call":
                _refuse(call, "the caller has no right to call")
            near = nearest(name, tools)
            hint = f"did you mean {near!r}? " if near else ""
            listed = ", ".join(tools)
            raise JsonRpcError(
                INVALID_PARAMS, f"Unknown tool: {name[:100]!r}; {hint}there are {listed}"
            )
        client = call.client
        if tool.long_running and client.quotas is not None:
            try:
                await client.quotas.take(client.caller, "calls")
            except ProblemError as error:
                _refuse(call, error.detail)
                return tool_error(error.detail)
        return await tool.call(call.rpc.object("arguments"), call.on_progress, caller)

    async def _list_resources(self, call: MethodCall) -> Mapping[str, Any]:
        cursor = call.rpc.params.get("cursor")
        if not isinstance(cursor, str | None):
            raise JsonRpcError(
                INVALID_PARAMS, "params.cursor must be the nextCursor of the page before"
            )
        return self._resources.page(cursor, internal=call.client.internal) | _MOVING

    async def _list_templates(self, call: MethodCall) -> Mapping[str, Any]:
        if call.rpc.params.get("cursor") is not None:
            raise JsonRpcError(INVALID_PARAMS, "there is one page of templates; leave out cursor")
        return {"resourceTemplates": list(TEMPLATES), **_FIXED}

    async def _read_resource(self, call: MethodCall) -> Mapping[str, Any]:
        uri = call.rpc.text("uri")
        content, fixed = await self._resources.read(uri)
        item = {"uri": uri, "mimeType": "application/json", "text": content.decode()}
        return {"contents": [item], **(_FOREVER if fixed else _MOVING)}

    async def _subscribe(self, call: MethodCall) -> Mapping[str, Any]:
        uri = call.rpc.text("uri")
        self._resources.check(uri)
        assert call.client.session is not None
        call.client.session.subscribe(uri)
        return {}

    async def _unsubscribe(self, call: MethodCall) -> Mapping[str, Any]:
        assert call.client.session is not None
        call.client.session.subscription.unsubscribe(call.rpc.text("uri"))
        return {}


def _refuse(call: MethodCall, why: str) -> None:
    """Records that what ``call_tool`` was to call is not called."""
    arguments = call.rpc.params.get("arguments")
    given = arguments if isinstance(arguments, Mapping) else {}
    named = (given.get(each) for each in ("server", "name"))
    server, tool = (each if isinstance(each, str) else "" for each in named)
    refuse_call(server, tool, why)


_Handler = Callable[[MethodCall], Awaitable[Mapping[str, Any]]]


def modern_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """``result`` with the members that every modern result has."""
    meta = result.get("_meta")
    known = meta if isinstance(meta, Mapping) else {}
    return {"resultType": "complete", **result, "_meta": {**known, SERVER_INFO_KEY: server_info()}}


def server_info() -> dict[str, str]:
    """Who this server is."""
    return {"name": NAME, "title": "MCP discovery", "version": installed_version()}


def is_internal(request: web.Request, rpc: RpcRequest) -> bool:
    """Whether the client of a request is mcp-discovery itself; see :class:`McpClient`."""
    info = rpc.params.get("clientInfo") or rpc.meta.get(CLIENT_INFO_KEY)
    name = info.get("name") if isinstance(info, dict) else None
    return name == NAME or MARK in request.headers


def _capabilities() -> dict[str, Any]:
    # The facade's own tools do not change while it runs.
    return {"tools": {"listChanged": False}, "resources": {"subscribe": True, "listChanged": True}}
