"""Decides what a sweep may remove: only what was unreferenced before, and still is."""

from __future__ import annotations

import time
from collections.abc import Iterable


class Unreferenced:
    """Remembers since when keys have been unreferenced.

    A registration writes its document before its record, so that a key may be unreferenced for a
    moment: it is given up only when it was seen so ``grace`` seconds before as well.
    """

    def __init__(self, grace: float = 60.0) -> None:
        self._grace = grace
        self._since: dict[str, float] = {}

    def confirmed(self, keys: Iterable[str]) -> list[str]:
        """Of ``keys``, all that are unreferenced now: those that have been so for the grace."""
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in keys}
        return [key for key, since in self._since.items() if now - since >= self._grace]
