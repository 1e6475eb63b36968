"""Knows at each moment what is true and what every reader has been shown, for who waits for it."""

from __future__ import annotations

from collections.abc import Collection

from tests.faults.history import History, ObservedEvent
from tests.faults.observations import OFFERED, Reader, Truth


class Observer:
    """Follows a history from its beginning."""

    def __init__(self, history: History) -> None:
        self.truth: dict[str, Truth] = {}
        self.readers: dict[str, Reader] = {}
        history.listeners.append(self._take)

    def _take(self, one: ObservedEvent) -> None:
        match one.kind:
            case "note" | "store-away" | "store-shaky" | "store-back":
                return
            case "facade-down" | "facade-up" | "facade-parted" | "facade-joined":
                return
            case "unread" | "read" | "stale" | "fresh":
                self.readers.setdefault(one.target, Reader()).seen(one)
            case "list" | "change":
                reader = self.readers.setdefault(one.target, Reader())
                reader.shown = reader.listed(one)
            case _:
                self.truth.setdefault(one.target, Truth()).become(one)

    def of(self, facades: Collection[str]) -> list[Reader]:
        """The readers of these facades."""
        return [each for name, each in self.readers.items() if name.partition("/")[0] in facades]

    def settled(self, facades: Collection[str]) -> bool:
        """Whether all readers of ``facades`` see just what is true, and see it fresh."""
        lives = {id for id, truth in self.truth.items() if truth.lives}
        return all(
            not (each.away or each.stale)
            and {id for id, status in each.shown.items() if status in OFFERED} == lives
            for each in self.of(facades)
        )
