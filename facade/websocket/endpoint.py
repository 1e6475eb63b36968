"""``GET /registry/stream``: where WebSockets come in."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.state import facade_of


async def stream(request: web.Request) -> web.StreamResponse:
    """What happens to connections, as WebSocket messages.

    Send `{"action": "subscribe", "events": ["connection-status", "health-check",
    "capability-request"]}`.
    """
    facade = facade_of(request)
    facade.view()  # nothing is told before there is a whole list
    return await facade.sockets.serve(request)


OPERATIONS = (
    Operation(
        "GET",
        "/registry/stream",
        stream,
        "streams",
        answers={101: None},
        errors=(426,),
    ),
)
