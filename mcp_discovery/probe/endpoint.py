"""Where an MCP server may be reached by a URL that a person gave, and by which wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from mcp_discovery.probe.duplex import HttpSse, WebSocket
from mcp_discovery.probe.streamable_http import StreamableHttp
from mcp_discovery.probe.tls import ServerTls
from mcp_discovery.probe.wire import PLAIN, HttpWire, Limits
from mcp_discovery.urls import urls_of, wire_url

#: Transport → the wire that speaks it (MCP only), and the schemes of its URLs.
TRANSPORTS: Mapping[str, tuple[type[HttpWire] | None, tuple[str, ...]]] = {
    "streamable-http": (StreamableHttp, ("http", "https")),
    "sse": (HttpSse, ("http", "https")),
    "websocket": (WebSocket, ("ws", "wss", "http", "https")),
    "a2a": (None, ("http", "https")),
}

_OWN_HEADERS = frozenset({"accept", "accept-encoding", "content-type", "mcp-session-id"})
_SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class ProbedEndpoint:
    """The URLs to try, in order, and what must stay out of every message about them."""

    urls: tuple[str, ...]
    transport: str
    headers: Mapping[str, str]
    secrets: frozenset[str]

    @classmethod
    def of(cls, url: str, transport: str, headers: Mapping[str, str] | None) -> ProbedEndpoint:
        """Check what was given; a URL without a path is tried at the usual path first.

        Raises ValueError for an unknown transport or a URL that does not fit it.
        """
        if transport not in TRANSPORTS:
            raise ValueError(f"transport {transport!r} is none of {', '.join(TRANSPORTS)}")
        _, schemes = TRANSPORTS[transport]
        if url.partition("://")[0].lower() not in schemes:
            raise ValueError(f"a URL for {transport} begins with {schemes[0]}:// and a host")
        parsed = wire_url(url)
        given = {k: v for k, v in (headers or {}).items() if k.lower() not in _OWN_HEADERS}
        secrets = {value for whole in given.values() for value in (whole, *whole.split())}
        secrets |= {parsed.password or ""}
        return cls(
            urls=urls_of(url, transport),
            transport=transport,
            headers=given,
            secrets=frozenset(s for s in secrets if len(s) >= _SHORTEST_SECRET) - {"Bearer"},
        )

    def wire(self, session: aiohttp.ClientSession, limits: Limits, tls: ServerTls) -> HttpWire:
        """Return the wire to the first of the URLs; nothing is sent yet.

        Raises ValueError where MCP is not spoken over the transport.
        """
        wire, _ = TRANSPORTS[self.transport]
        if wire is None:
            raise ValueError(f"MCP is not spoken over {self.transport!r}")
        return wire(
            url=self.urls[0],
            session=session,
            headers={**self.headers, **PLAIN},
            limits=limits,
            tls=tls,
        )
