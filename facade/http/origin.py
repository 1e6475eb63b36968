"""Which web pages may ask at an MCP endpoint."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

from mcp_discovery.facade.http.problems import ProblemError


def check_origin(request: web.Request, allowed: Iterable[str]) -> None:
    """Raises :class:`ProblemError` (403) for a page of another origin: prevents DNS rebinding.

    https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#security-warning

    Allowed are no origin at all (no browser), the origins in ``allowed`` (``*``: all), and this
    host itself where it is an address or ``localhost``. A name is not enough: an attacker's name
    that was just made to resolve to this host has the same origin and host, too.
    """
    origin = request.headers.get("Origin")
    if origin is None or origin in allowed or "*" in allowed:
        return
    parts = urlsplit(origin)
    if parts.netloc and parts.netloc == request.host and _cannot_be_rebound(parts.hostname or ""):
        return
    detail = (
        f"Forbidden: pages of {origin[:100]!r} may not ask here; start the facade with "
        "--cors-origin for those that may"
    )
    raise ProblemError(403, "foreign-origin", detail)


def _cannot_be_rebound(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
