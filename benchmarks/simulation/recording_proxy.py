"""A TCP proxy that counts bytes and keeps the requests, to be asked again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RecordingProxy:
    """Where the proxy listens, where it leads, how many bytes went either way.

    ``requests`` are those that were asked since it was last emptied, as they went over the wire.
    """

    def __init__(self, host: str, port: int) -> None:
        self.beyond = host, port
        self.port = 0
        self.bytes = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        beyond_reader, beyond_writer = await asyncio.open_connection(*self.beyond)
        request = bytearray()

        async def there() -> None:
            while read := await reader.read(65536):
                request.extend(read)
                self.bytes += len(read)
                beyond_writer.write(read)
            beyond_writer.close()

        ask = asyncio.create_task(there())
        try:
            with contextlib.suppress(ConnectionError):
                while read := await beyond_reader.read(65536):
                    if request:  # an answer begins: the request is over
                        self.requests.append(bytes(request))
                        request.clear()
                    self.bytes += len(read)
                    writer.write(read)
        finally:
            ask.cancel()
            await asyncio.gather(ask, return_exceptions=True)
            beyond_writer.close()
            writer.close()


@asynccontextmanager
async def recording_proxy(host: str, port: int) -> AsyncIterator[RecordingProxy]:
    """Stands before ``host:port`` until the block ends."""
    counts = RecordingProxy(host, port)
    server = await asyncio.start_server(counts.serve, "127.0.0.1", 0)
    counts.port = server.sockets[0].getsockname()[1]
    async with server:
        yield counts


async def ask_again(place: tuple[str, int], requests: list[bytes], count: int, width: int) -> None:
    """Asks ``requests`` in turn, ``count`` in all, ``width`` at once, with as little work between
    them as can be: a store shows what a request costs when it has many of them."""
    numbers = iter(range(count))

    async def asker() -> None:
        reader, writer = await asyncio.open_connection(*place)
        for number in numbers:
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"asked again, a store answered {head!r}")
            length = head.lower().partition(b"content-length:")[2]
            if length:
                await reader.readexactly(int(length.split(b"\r\n", 1)[0]))
            else:
                await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(asker())
