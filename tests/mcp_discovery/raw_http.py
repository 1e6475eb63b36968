"""Sends bytes to a listener as they are, and reads what it answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from yarl import URL

from tests.stores.waiting import bounded

#: How long, in seconds, a listener may take.
PATIENCE = 20.0


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Sends ``data``."""
        self._writer.write(data)

    async def head(self) -> bytes:
        """The head of the next response; raises :class:`EOFError` at the end."""
        return await bounded(self._reader.readuntil(b"\r\n\r\n"), PATIENCE)

    async def rest(self) -> bytes:
        """All until the other side ends the connection."""
        try:
            return await bounded(self._reader.read(-1), PATIENCE)
        except ConnectionResetError:
            return b""

    async def ask(self, request: str) -> bytes:
        """The response to ``request``, whose lines are separated by line feeds and which ends the
        connection."""
        self.send(request.strip().replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
        return await self.rest()


@asynccontextmanager
async def wire(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A connection to the listener at ``url``."""
    parts = URL(url)
    name = "localhost" if tls is not None else None
    reader, writer = await asyncio.open_connection(
        parts.host, parts.port, ssl=tls, server_hostname=name
    )
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answer(url: str, request: str) -> tuple[int, bytes]:
    """The status of the response to ``request``, and the whole of it."""
    async with wire(url) as connection:
        found = await connection.ask(request)
    return int(found.split(b" ", 2)[1]), found
