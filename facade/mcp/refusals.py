"""What MCP clients get where a request is refused before it reaches MCP: a JSON-RPC error."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mcp_discovery.facade.access.challenge import resource_path
from mcp_discovery.facade.http.problems import reshape
from mcp_discovery.mcp_messages import INVALID_REQUEST

_REFUSED = 429


def reshape_refusal(request: web.Request, response: web.StreamResponse) -> None:
    """Makes the problem document of a request that is one too many the ``data`` of a JSON-RPC
    error. Whose id is not known: the body was not read."""
    if response.status == _REFUSED and request.method == "POST" and resource_path(request):
        reshape(response, _as_json_rpc)


def _as_json_rpc(problem: dict[str, Any]) -> object:
    error = {"code": INVALID_REQUEST, "message": problem["detail"], "data": problem}
    return {"jsonrpc": "2.0", "id": None, "error": error}
