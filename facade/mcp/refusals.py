"""What MCP clients get where a request is refused before it reaches MCP: a JSON-RPC error."""

from __future__ import annotations

import orjson
from aiohttp import web

from mcp_discovery.facade.access.challenge import resource_path
from mcp_discovery.facade.mcp.messages import INVALID_REQUEST

_REFUSED = 429


def reshape_refusal(request: web.Request, response: web.StreamResponse) -> None:
    """Makes the problem document of a request that is one too many the ``data`` of a JSON-RPC
    error. Whose id is not known: the body was not read."""
    if (
        response.status == _REFUSED
        and request.method == "POST"
        and resource_path(request)
        and isinstance(response, web.Response)
        and isinstance(response.body, bytes)
        and response.content_type == "application/problem+json"
    ):
        problem = orjson.loads(response.body)
        error = {"code": INVALID_REQUEST, "message": problem["detail"], "data": problem}
        response.body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error})
        response.content_type = "application/json"
