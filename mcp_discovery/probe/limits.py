"""How much a probe accepts from a server, and the count of what is left of it."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_discovery.probe.errors import BadAnswerError


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for one introspection (and for any single answer).

    Attributes:
        body_bytes: bytes of all answers together, after decompression.
        pages: pages of one list.
        items: items of all lists together.
    """

    body_bytes: int = 32 * 2**20
    pages: int = 1000
    items: int = 50_000


class Budget:
    """What is left of a ``Limits`` during one operation."""

    __slots__ = ("_bytes", "_items", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = limits.body_bytes
        self._items = limits.items

    @property
    def bytes_left(self) -> int:
        """Bytes that may still be read."""
        return self._bytes

    def take_bytes(self, count: int) -> None:
        """Count ``count`` bytes read; raises BadAnswerError once they exceed the limit."""
        self._bytes -= count
        if self._bytes < 0:
            raise BadAnswerError(
                f"answered with more than {self._limits.body_bytes} bytes", over_limit=True
            )

    def take_items(self, count: int, method: str) -> None:
        """Count ``count`` items listed; raises BadAnswerError once they exceed the limit."""
        self._items -= count
        if self._items < 0:
            raise BadAnswerError(
                f"{method} brought the items over the limit of {self._limits.items}",
                over_limit=True,
            )

    def check_pages(self, page: int, method: str) -> None:
        """Raise BadAnswerError when ``page`` (counted from 1) is beyond the limit."""
        if page > self._limits.pages:
            raise BadAnswerError(
                f"{method} has more than {self._limits.pages} pages", over_limit=True
            )
