"""The MCP endpoint of a server that was registered by a URL without a path."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

#: Transport → the usual path of its endpoint.
USUAL_PATHS = {"streamable-http": "/mcp", "sse": "/sse", "websocket": "/ws"}


def urls_of(url: str, transport: str) -> tuple[str, ...]:
    """The URLs to try, in order: a ``url`` without path and query is tried at the usual path first.

    People register ``http://10.0.0.5:8000`` and mean ``http://10.0.0.5:8000/mcp``.
    """
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query or transport not in USUAL_PATHS:
        return (url,)
    return urlunsplit(parts._replace(path=USUAL_PATHS[transport])), url
