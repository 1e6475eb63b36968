"""``/gateway/{name}/mcp``, and its errors in the shape that MCP clients understand."""

from __future__ import annotations

import logging
from typing import Final

import orjson
from aiohttp import web

from mcp_discovery.facade.gateway.gateway import GATEWAY
from mcp_discovery.facade.gateway.upstream import ForwardedRequest
from mcp_discovery.facade.http.body import require_json
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError, problem
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.facade.servers.filters import parse
from mcp_discovery.mcp_messages import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR
from mcp_discovery.websocket_front import asks_for_websocket

log = logging.getLogger(__name__)

#: Where the gateway is for the server of that name.
PATH: Final = "/gateway/{name}/mcp"


async def mcp(request: web.Request) -> web.StreamResponse:
    """MCP (Streamable HTTP) with one living replica of the server, wherever it runs now.

    A `GET` that asks for it becomes a WebSocket (subprotocol `mcp`): each frame is a message, and
    goes the way of a `POST`.

    Bodies and answers are MCP's own and pass through as they come. Errors of the gateway itself are
    JSON-RPC errors, with the problem document as their ``data``, where the request is a POST. Off
    unless the facade was started with ``--gateway``.
    """
    gateway = request.app.get(GATEWAY)
    if gateway is None:
        detail = "the gateway is off; start the facade with --gateway to have it"
        raise ProblemError(404, "gateway-off", detail)
    name = request.match_info["name"]
    forwarded = ForwardedRequest(request, request.app[OPTIONS].body_timeout)
    versions = parse(request)["version"]
    if asks_for_websocket(request):
        return await gateway.serve_socket(request, name, versions)
    try:
        if request.body_exists:
            require_json(request)
        return await gateway.forward(forwarded, name, versions)
    except ProblemError as error:
        if request.method != "POST":
            raise
        level = logging.INFO if error.status >= 500 else logging.DEBUG
        log.log(level, "gateway to %s: %s", name, error.detail)
        return _json_rpc_error(request, error, forwarded.id)


def _json_rpc_error(
    request: web.Request, error: ProblemError, id: str | int | None
) -> web.Response:
    """The JSON-RPC error for ``error``, with its HTTP status and its problem document as ``data``.

    ``id`` is that of the JSON-RPC request, ``None`` where it could not be read.
    """
    document = problem(request, error.status, error.detail, kind=error.kind, facts=error.facts)
    assert isinstance(document.body, bytes)
    code = INVALID_REQUEST if error.status < 500 else INTERNAL_ERROR
    code = PARSE_ERROR if error.kind == "not-json" else code
    data = orjson.Fragment(document.body)
    message = {"code": code, "message": error.detail, "data": data}
    headers = dict(error.headers)
    if (retry := document.headers.get("Retry-After")) is not None:
        headers["Retry-After"] = retry
    return web.Response(
        status=error.status,
        body=orjson.dumps({"jsonrpc": "2.0", "id": id, "error": message}),
        content_type="application/json",
        headers=headers,
    )


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
        PATH,
        mcp,
        "gateway",
        parameters=_PARAMETERS,
        errors=(403, 404, 408, 413, 415, 501, 504, 508),
        json_rpc=method == "POST",
        needs="call",
    )
    for method in ("POST", "GET", "DELETE")
)
