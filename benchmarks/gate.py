"""A port that opens when it is told to, before an MCP server that has long been ready.

So the moment at which a server becomes reachable is known, and is not that of its first request,
for which Python imports half of what the server is made of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.processes import free_port

_CHUNK = 2**16


class Gate:
    """A port of 127.0.0.1 that passes on to another one once it is open."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self._to = to
        self._server: asyncio.Server | None = None
        self.first: float | None = None
        """When the first bytes came, by ``time.perf_counter()``."""
        self.last: float | None = None
        """When the server answered last."""

    async def open(self) -> float:
        """Listens from now on; the moment, by ``time.perf_counter()``."""
        now = time.perf_counter()
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        return now

    def close(self) -> None:
        """Listens no more; connections end with those who opened them."""
        if self._server is not None:
            self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        answering = asyncio.create_task(self._answers(there, writer))
        try:
            while chunk := await reader.read(_CHUNK):
                self.first = self.first or time.perf_counter()
                back.write(chunk)
        except ConnectionError:
            pass  # ends it, as the end of the stream does
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            back.close()
            writer.close()

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await there.read(_CHUNK):
            self.last = time.perf_counter()
            writer.write(chunk)


@asynccontextmanager
async def gate(to: int) -> AsyncIterator[Gate]:
    """A gate before the port ``to``, still shut; shut again when the block ends."""
    made = Gate(to)
    try:
        yield made
    finally:
        made.close()
