"""Cuts a stream of bytes into lines of bounded length."""

from __future__ import annotations

from mcp_discovery.errors import DiscoveryError


class LineTooLongError(DiscoveryError, ValueError):
    """A line is longer than the limit."""


class Lines:
    """Collects chunks and gives out whole lines, without going over long ones again and again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes; raises :class:`LineTooLongError` beyond the limit."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            lines.append(b"".join((*self._parts, end)))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._most:
            raise LineTooLongError(f"a line is over {self._most:,} bytes")
        return [line for line in lines if line.strip()]
