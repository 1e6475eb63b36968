"""MCP over WebSocket before an endpoint of Streamable HTTP: a JSON-RPC message in each text frame.

It is no transport of the specification; the TypeScript SDK has a client for it (subprotocol
``mcp``), the Python SDK had one until 2.0, and a browser's ``WebSocket`` is one. Each message goes
the way of a ``POST`` to the same path, through every middleware
(:mod:`mcp_discovery.inner_request`), and what streams back comes as frames. A legacy session lives
as long as its socket.
"""

from mcp_discovery.websocket_front.front import (
    WebSocketFront,
    asks_for_websocket,
    handshake_fault,
)

__all__ = ["WebSocketFront", "asks_for_websocket", "handshake_fault"]
