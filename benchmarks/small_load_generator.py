"""``python -m benchmarks.small_load_generator URL CONNECTIONS SECONDS``: like wrk, but slower.

Every request brings an id and an ``Authorization`` of its own.
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
from urllib.parse import urlsplit


class _Client(asyncio.Protocol):
    """One connection that sends the next request as soon as it has the response."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], bad: list[int]) -> None:
        self._requests = requests
        self._latencies = latencies
        self._bad = bad
        self._left = 0
        self._head = b""

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

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def _requests(url: str) -> Iterator[bytes]:
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    start = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
    file = os.environ.get("LOAD_TOKENS")
    tokens = itertools.cycle(Path(file).read_bytes().split()) if file else None
    for number in itertools.count():
        token = b"%d" % number if tokens is None else next(tokens)
        yield start + b"X-Request-Id: %d\r\nAuthorization: Bearer %b\r\n\r\n" % (number, token)


async def _main(url: str, connections: int, seconds: float) -> None:
    parts, requests = urlsplit(url), _requests(url)
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
