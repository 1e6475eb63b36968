"""Over which connection each server was asked last: its end tells of the server's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from cachetools import LRUCache
from yarl import URL

#: A socket's address: host, port, and for IPv6 two numbers more.
Peer = tuple[Any, ...]
#: Origins of which the last connection is remembered.
_MOST_LINES = 65_536


@dataclass(frozen=True, slots=True)
class Line:
    """A connection: whom it leads to, and what is done when it is closed, from whichever side."""

    peer: Peer
    closed: asyncio.Future[None]


class LineKeeper(aiohttp.TCPConnector):
    """A connector that remembers of each origin over which connection it was asked last."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lines: LRUCache[URL, Line] = LRUCache(_MOST_LINES)

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        protocol, transport = connection.protocol, connection.transport
        if protocol is not None and transport is not None:
            closed, peer = protocol.closed, transport.get_extra_info("peername")
            if closed is not None and peer:
                closed.add_done_callback(_take_exception)
                self.lines[req.url.origin()] = Line(peer, closed)
        return connection


def _take_exception(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()  # or asyncio logs that nobody has
