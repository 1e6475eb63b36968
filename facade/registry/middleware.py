"""How answers look to hosts: errors in the registry's shape, and open to pages of every origin."""

from __future__ import annotations

import orjson
from aiohttp import web

from mcp_discovery.facade.http.problems import Handler

#: What the registry's OpenAPI document puts its paths under.
PREFIX = "/v0.1/"
#: https://docs.github.com/en/copilot, "Configure an MCP registry": on every answer.
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
}


@web.middleware
async def plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Makes of a problem document the ``{"error"}`` that clients of a registry read."""
    response = await handler(request)
    if (
        request.path.startswith(PREFIX)
        and isinstance(response, web.Response)
        and isinstance(response.body, bytes)
        and response.content_type == "application/problem+json"
    ):
        response.body = orjson.dumps({"error": orjson.loads(response.body)["detail"]})
        response.content_type = "application/json"
    return response


async def open_to_all(request: web.Request, response: web.StreamResponse) -> None:
    """Lets pages of every origin read what is public by design, whatever the facade's options say.

    A signal for ``on_response_prepare``, behind the one that minds those options.
    """
    path = request.path
    if path.startswith((PREFIX, "/.well-known/")) or path.endswith("/server-card"):
        response.headers.update(_CORS)
