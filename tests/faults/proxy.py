"""A small TCP proxy that breaks what passes through it.

It is a real network path with real faults of TCP; neither end knows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from tests.stores import ports

Mode = Literal["pass", "cut", "refuse", "half-open", "delay", "drip"]
_CHUNK = 64 * 1024
_DRIP = 256


@dataclass
class Link:
    """One way from ``port`` on loopback to ``target``, and what happens to it.

    ``pass``; ``cut``: what is open is reset, and so is what is opened; ``refuse``: nobody listens;
    ``half-open``: connections stay, and nothing passes; ``delay``: each piece is late by
    ``seconds``; ``drip``: a few bytes each ``seconds``.
    """

    port: int
    target: tuple[str, int]
    mode: Mode = "pass"
    seconds: float = 0.2

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    @property
    def address(self) -> str:
        """``host:port`` to connect to."""
        return f"{ports.LOOPBACK}:{self.port}"

    async def listen(self) -> None:
        """Takes connections from now on."""
        self._server = await asyncio.start_server(
            self._serve, ports.LOOPBACK, self.port, start_serving=True
        )

    async def become(self, mode: Mode, seconds: float = 0.2) -> None:
        """Does ``mode`` to every connection, those that are open and those to come."""
        before, self.mode, self.seconds = self.mode, mode, seconds
        self._changed.set()
        self._changed = asyncio.Event()
        if mode in ("cut", "refuse"):
            for writer in list(self._writers):
                _reset(writer)
        if mode == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
        elif before == "refuse":
            await self.listen()

    async def close(self) -> None:
        """Ends it and everything that passes."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self.mode == "cut":
                _reset(writer)
                return
            back, there = await asyncio.open_connection(*self.target)
            self._writers.add(there)
            ways = [
                asyncio.create_task(self._pump(reader, there)),
                asyncio.create_task(self._pump(back, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        except OSError:
            _reset(writer)
        except asyncio.CancelledError:
            pass  # close() ends it
        finally:
            self._open.discard(task)
            for each in (writer, there):
                if each is not None:
                    self._writers.discard(each)
                    each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                while self.mode == "half-open":
                    await self._changed.wait()
                if self.mode == "delay":
                    await asyncio.sleep(self.seconds)
                pieces = [data]
                if self.mode == "drip":
                    pieces = [data[i : i + _DRIP] for i in range(0, len(data), _DRIP)]
                for piece in pieces:
                    if self.mode == "drip":
                        await asyncio.sleep(self.seconds)
                    writer.write(piece)
                    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST rather than FIN, as a broken path does."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@asynccontextmanager
async def link(host: str, port: int) -> AsyncGenerator[Link, None]:
    """A link to ``host:port`` that passes everything, until the block ends."""
    own = ports.draw()
    made = Link(own.number, (host, port))
    await made.listen()
    try:
        yield made
    finally:
        await made.close()
        own.release()
