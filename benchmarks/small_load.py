"""``python -m benchmarks.small_load URL CONNECTIONS SECONDS``: the words of wrk, but slower."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from urllib.parse import urlsplit


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, latencies: list[float], bad: list[int]) -> None:
        self._request = request
        self._latencies = latencies
        self._bad = bad
        self._left = 0
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

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
            self._latencies.append(time.perf_counter() - self._asked)
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bad.append(1)

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)


async def _main(url: str, connections: int, seconds: float, headers: list[str]) -> None:
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    request = "\r\n".join(lines).encode()
    latencies: list[float] = []
    bad: list[int] = []
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(
            lambda: _Client(request, latencies, bad), parts.hostname or "", parts.port or 80
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
    headers = [each.removeprefix("-H") for each in sys.argv[4:]]
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), headers))
