"""``GET /registry/stream``: where WebSockets come in."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.websocket.sockets import SOCKETS


async def stream(request: web.Request) -> web.StreamResponse:
    """What happens to connections, as WebSocket messages.

    Send `{"action": "subscribe", "events": ["connection-status", "health-check",
    "capability-request"]}`.
    """
    view_of(request)  # raises until there is a first list
    return await request.app[SOCKETS].serve(request)


OPERATIONS = (
    Operation("GET", "/registry/stream", stream, "streams", answers={101: None}, errors=(426,)),
)
