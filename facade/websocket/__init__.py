"""``/registry/stream``: what happens to connections, as WebSocket messages."""
