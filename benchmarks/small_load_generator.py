"""``python -m benchmarks.small_load_generator URL CONNECTIONS SECONDS``: like wrk, but slower.

Every request brings an id and an ``Authorization`` of its own.

:class:`Bursts` sends some hundred at once, for what is compared in turns of some 50 ms: a machine
whose pace changes from one second to the next has the same one in both.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit


class _Client(asyncio.Protocol):
    """One connection that sends the next request as soon as it has the response.

    It ends with ``requests``, and goes on with those that :meth:`go_on` is given.
    """

    def __init__(self, requests: Iterator[bytes], latencies: list[float], bad: list[int]) -> None:
        self._requests = requests
        self._latencies = latencies
        self._bad = bad
        self._left = 0
        self._head = b""
        self._done: asyncio.Future[None] | None = None

    def go_on(self, requests: Iterator[bytes]) -> asyncio.Future[None]:
        """Sends ``requests``, too; done with the response to the last one."""
        self._requests = requests
        self._done = asyncio.get_running_loop().create_future()
        self._send()
        return self._done

    def close(self) -> None:
        """Ends the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._left == 0:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            if not head.startswith(b"HTTP/1.1 2"):
                self._bad.append(1)
            _, _, length = head.lower().partition(b"content-length:")
            self._left = int(length.partition(b"\r\n")[0])
        self._left -= len(data)
        if self._left == 0:
            self._latencies.append(time.perf_counter() - self._sent)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bad.append(1)
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        if (request := next(self._requests, None)) is not None:
            self._sent = time.perf_counter()
            self._transport.write(request)
        elif self._done is not None and not self._done.done():
            self._done.set_result(None)


class Bursts:
    """Connections to ``url`` that stay open; the file ``tokens`` has a bearer token a line."""

    def __init__(self, url: str, tokens: Path | None = None, connections: int = 32) -> None:
        self._url = url
        self._requests = _requests(url, tokens)
        self._count = connections
        self._clients: list[_Client] = []
        self._bad: list[int] = []

    async def __aenter__(self) -> Self:
        parts, loop = urlsplit(self._url), asyncio.get_running_loop()
        for _ in range(self._count):
            _, client = await loop.create_connection(
                lambda: _Client(iter(()), [], self._bad), parts.hostname or "", parts.port or 80
            )
            self._clients.append(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    async def rate(self, requests: int = 320) -> float:
        """Sends so many, over each connection as soon as the last is answered; how many a second.

        Raises :class:`RuntimeError` where one answer is anything but 2xx, or a connection breaks.
        """
        burst, began = itertools.islice(self._requests, requests), time.perf_counter()
        await asyncio.gather(*[client.go_on(burst) for client in self._clients])
        if self._bad:
            raise RuntimeError(f"{self._url} was answered otherwise than with 2xx, or not at all")
        return requests / (time.perf_counter() - began)


def _requests(url: str, tokens_file: Path | None) -> Iterator[bytes]:
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    start = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
    tokens = itertools.cycle(tokens_file.read_bytes().split()) if tokens_file else None
    for number in itertools.count():
        token = b"%d" % number if tokens is None else next(tokens)
        yield start + b"X-Request-Id: %d\r\nAuthorization: Bearer %b\r\n\r\n" % (number, token)


async def _main(url: str, connections: int, seconds: float) -> None:
    file = os.environ.get("LOAD_TOKENS")
    parts, requests = urlsplit(url), _requests(url, Path(file) if file else None)
    latencies: list[float] = []
    bad: list[int] = []
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: _Client(requests, latencies, bad), parts.hostname or "", parts.port or 80
        )
    await asyncio.sleep(seconds)
    shares = statistics.quantiles(latencies, n=100)
    said = [
        *(f"{each}% {shares[each - 1] * 1000:.3f}ms" for each in (50, 99)),
        *(["Non-2xx or broken connections"] if bad else []),
        f"Requests/sec: {len(latencies) / seconds:.2f}",
    ]
    sys.stdout.write("\n".join(said) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
