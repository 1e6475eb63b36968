"""The handshakes and the sockets of one endpoint."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from mcp_discovery.websocket_front.conversation import Conversation
from mcp_discovery.websocket_front.message import LARGEST

SUBPROTOCOL: Final = "mcp"
#: How many seconds a client may take to confirm that the socket is closed.
_GOODBYE: Final = 1.0


def asks_for_websocket(request: web.Request) -> bool:
    """Whether ``request`` wants to become a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def handshake_fault(request: web.Request) -> str | None:
    """Why ``request`` cannot become a WebSocket of MCP, a sentence; ``None``: it can."""
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
    if SUBPROTOCOL not in (each.strip() for each in offered.split(",")):
        return f"offer the subprotocol {SUBPROTOCOL!r}: new WebSocket(url, {SUBPROTOCOL!r})"
    try:
        fit = request.method == "GET" and _socket(None).can_prepare(request)
    except web.HTTPException:
        fit = False
    return None if fit else "this is no handshake of WebSocket 13 as RFC 6455 has it"


def _socket(ping: float | None) -> web.WebSocketResponse:
    return web.WebSocketResponse(
        protocols=(SUBPROTOCOL,),
        heartbeat=ping,
        timeout=_GOODBYE,
        max_msg_size=LARGEST,
        compress=False,
        decode_text=False,
    )


class WebSocketFront:
    """The sockets of one endpoint.

    ``ping`` and ``write_timeout`` in seconds: the pause before an idle socket is pinged, and how
    long a client may leave it full.
    """

    def __init__(self, *, ping: float, write_timeout: float) -> None:
        self._ping = ping
        self._write_timeout = write_timeout
        self._open: set[Conversation] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Speaks MCP with the client of ``request`` until it leaves, or :meth:`close` is called.

        :func:`handshake_fault` was asked before.
        """
        socket = _socket(self._ping)
        await socket.prepare(request)
        conversation = Conversation(request, socket, self._write_timeout)
        self._open.add(conversation)
        try:
            if self._closed:
                await conversation.stop(0)
            await conversation.run()
        finally:
            # A client that leaves may end this task, too.
            ending = asyncio.create_task(conversation.end(), name="the end of a socket")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._open.discard(conversation)
            await asyncio.shield(ending)
        return socket

    async def close(self, grace: float) -> None:
        """Closes every socket, and those to come: once what its client waits for is answered, after
        ``grace`` seconds at the latest."""
        self._closed = True
        await asyncio.gather(*(each.stop(grace) for each in self._open))
        if self._ending:
            await asyncio.wait(list(self._ending))
