"""What the gateway itself answers to a POST: errors that MCP clients understand."""

from __future__ import annotations

import orjson
from aiohttp import web

from mcp_discovery.facade.gateway.body import Body
from mcp_discovery.facade.http.problems import ProblemError, problem

#: JSON-RPC 2.0, 5.1: the request is at fault, or the server is.
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603


def error(request: web.Request, refused: ProblemError, body: Body) -> web.Response:
    """A JSON-RPC error with the HTTP status of ``refused``; its problem document is the ``data``.

    It has the id of the request in ``body`` where that could be read, otherwise ``null``.
    """
    as_problem = problem(
        request, refused.status, refused.detail, kind=refused.kind, facts=refused.facts
    )
    assert isinstance(as_problem.body, bytes)
    code = _INVALID_REQUEST if refused.status < 500 else _INTERNAL_ERROR
    data = orjson.Fragment(as_problem.body)
    message = {"code": code, "message": refused.detail, "data": data}
    retry = as_problem.headers.get("Retry-After")
    return web.Response(
        status=refused.status,
        body=orjson.dumps({"jsonrpc": "2.0", "id": body.id, "error": message}),
        content_type="application/json",
        headers={} if retry is None else {"Retry-After": retry},
    )
