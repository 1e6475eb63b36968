"""Which unreferenced keys a sweep may remove: those that an earlier sweep already found."""

from __future__ import annotations

import time
from collections.abc import Iterable


class UnreferencedKeys:
    """For how long keys have been unreferenced.

    A registration writes its document before its record, so a key may be unreferenced for a
    moment: it may be removed only after ``grace`` seconds.
    """

    def __init__(self, grace: float = 60.0) -> None:
        self._grace = grace
        self._since: dict[str, float] = {}

    def ages(self, keys: Iterable[str]) -> dict[str, float]:
        """Given all ``keys`` that are unreferenced now: for how many seconds each has been."""
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in keys}
        return {key: now - since for key, since in self._since.items()}

    def confirmed(self, keys: Iterable[str]) -> list[str]:
        """Given all ``keys`` that are unreferenced now: those that have been for ``grace``."""
        return [key for key, age in self.ages(keys).items() if age >= self._grace]
