"""A TCP proxy that does to a store's connections what networks do to them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class FaultyProxy:
    """``async with FaultyProxy(port) as proxy`` listens on ``proxy.port`` for ``port``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._pairs: dict[asyncio.Task[None], asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Closes every connection."""
        for task in self._pairs:
            task.cancel()

    def hold(self) -> None:
        """From now on new connections are accepted and nothing is forwarded."""
        self._open.clear()

    def release(self) -> None:
        """Ends :meth:`hold`."""
        self._open.set()

    def swallow(self) -> None:
        """From now on what the store sends over connections that are open now gets lost."""
        for swallowing in self._pairs.values():
            swallowing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        swallowing = asyncio.Event()
        task = asyncio.create_task(self._forward(reader, writer, swallowing))
        self._pairs[task] = swallowing
        task.add_done_callback(self._pairs.pop)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        swallowing: asyncio.Event,
    ) -> None:
        try:
            await self._open.wait()
            there, out = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                ways = {
                    asyncio.create_task(_copy(reader, out, asyncio.Event())),
                    asyncio.create_task(_copy(there, writer, swallowing)),
                }
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.wait(ways)
            finally:
                out.close()
        except OSError:
            pass  # The store is away, and so is this connection.
        finally:
            writer.close()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowing: asyncio.Event
) -> None:
    try:
        while data := await reader.read(65536):
            if not swallowing.is_set():
                writer.write(data)
                await writer.drain()
    except OSError:
        pass
