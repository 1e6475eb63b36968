"""``/gateway/{name}/mcp``: where MCP clients come in."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.facade.gateway.gateway import GATEWAY
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers.filters import parse
from mcp_discovery.facade.state import facade_of


async def mcp(request: web.Request) -> web.StreamResponse:
    """MCP (Streamable HTTP) with one living replica of the server, wherever it runs now.

    Bodies and answers are MCP's own and pass through as they come. Errors of the gateway itself are
    JSON-RPC errors, with the problem document as their ``data``, where the request is a POST. Off
    unless the facade was started with ``--gateway``.
    """
    gateway = request.app.get(GATEWAY)
    if gateway is None:
        detail = "the gateway is off; start the facade with --gateway to have it"
        raise ProblemError(404, "gateway-off", detail)
    look, name = facade_of(request).view, request.match_info["name"]
    return await gateway.pass_on(request, look, name, parse(request).versions)


_PARAMETERS = (
    Parameter("name", "The server's name.", where="path"),
    Parameter(
        "version",
        "Only replicas in this range of semantic versions, such as `^1.2`; sessions stay where "
        "they began.",
        {"type": "array", "items": {"type": "string"}},
    ),
    Parameter("Mcp-Session-Id", "The session, as it was given.", where="header"),
)
OPERATIONS = tuple(
    Operation(
        method,
        "/gateway/{name}/mcp",
        mcp,
        "gateway",
        parameters=_PARAMETERS,
        errors=(404, 408, 413, 501, 504, 508),
    )
    for method in ("POST", "GET", "DELETE")
)
