"""``python -m benchmarks.waiting_clients URL READERS POLLS TAG``: many wait for the next change.

Writes ``ready`` when all of them wait. For each line on stdin it writes, when the next change has
reached everyone or 10 s are over, a line of JSON: when it reached each (seconds of the monotonic
clock, the same in all processes of a machine) and how much processor time that took here.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from urllib.parse import urlsplit

import orjson

from mcp_discovery.facade.run import allow_many_connections

#: How many connect at the same time, and for how long, in seconds, a change is waited for.
_AT_ONCE = 200
_PATIENCE = 10.0


class _Connection(asyncio.Protocol):
    """One who waits; ``reached`` has, for each, the moment at which the last change reached it."""

    def __init__(self, host: str, target: str, reached: dict[_Connection, float]) -> None:
        self._head = f"Host: {host}\r\n\r\n"
        self._target = target
        self._reached = reached
        self.waits = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask(self._target)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.waits.done():
            self.waits.set_exception(exc or ConnectionResetError("the facade hung up"))

    def _ask(self, target: str) -> None:
        self._transport.write(f"GET {target} HTTP/1.1\r\n{self._head}".encode())


class _Reader(_Connection):
    """A reader of server-sent events: waits once it has its snapshot."""

    def data_received(self, data: bytes) -> None:
        if not self.waits.done():
            if data.endswith(b"\n\n\r\n"):
                self.waits.set_result(None)
        elif b"event: change" in data:
            self._reached.setdefault(self, time.monotonic())


class _Poll(_Connection):
    """A long poll, and after each answer the next one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._got, self._whole = b"", 0
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._whole:
            head, end, _ = self._got.partition(b"\r\n\r\n")
            if not end:
                return
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            position = re.search(rb"(?i)\r\nx-discovery-revision: (\S+)", head)
            assert length and position, head
            self._whole = len(head) + 4 + int(length[1])
            self._position = position[1].decode()
        if len(self._got) < self._whole:
            return
        self._got, self._whole = b"", 0
        if self.waits.done():
            self._reached.setdefault(self, time.monotonic())
        else:
            self.waits.set_result(None)
        # Asked again a little later, so that asking does not count as the change's way.
        again = f"{self._target}&wait=300&index={self._position}"
        asyncio.get_running_loop().call_later(1.0, self._ask, again)


async def _main(url: str, readers: int, polls: int, tag: str) -> None:
    allow_many_connections()
    parts = urlsplit(url)
    where = parts.hostname or "127.0.0.1", parts.port or 80
    reached: dict[str, dict[_Connection, float]] = {"readers": {}, "polls": {}}
    few = asyncio.Semaphore(_AT_ONCE)
    loop = asyncio.get_running_loop()

    async def connect(kind: type[_Connection], target: str, name: str) -> None:
        async with few:
            _, made = await loop.create_connection(
                lambda: kind(parts.netloc, target, reached[name]), *where
            )
            await made.waits

    async with asyncio.TaskGroup() as group:
        for _ in range(readers):
            group.create_task(connect(_Reader, f"/events?tags={tag}", "readers"))
        for _ in range(polls):
            group.create_task(connect(_Poll, f"/servers?tags={tag}&status=all", "polls"))
    _say("ready")
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        for times in reached.values():
            times.clear()
        used, until = time.process_time(), time.monotonic() + _PATIENCE
        _say("waiting")
        while len(reached["readers"]) < readers or len(reached["polls"]) < polls:
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.02)
        told = {name: list(times.values()) for name, times in reached.items()}
        _say(orjson.dumps({**told, "cpu": time.process_time() - used}).decode())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, url, readers, polls, tag = sys.argv
    asyncio.run(_main(url, int(readers), int(polls), tag))
