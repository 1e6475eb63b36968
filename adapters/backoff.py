"""Delays between attempts: exponential with full jitter, so that clients do not retry in step."""

from __future__ import annotations

import random


class Backoff:
    """Delays drawn uniformly from 0 to a bound, which grows from ``first`` to ``most`` seconds.

    Full jitter as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    def __init__(self, first: float = 0.2, most: float = 3.0) -> None:
        self._first = first
        self._most = most
        self._bound = first

    def next(self) -> float:
        """Seconds to wait before the next attempt; each call doubles the bound."""
        delay = random.uniform(0, self._bound)
        self._bound = min(self._most, self._bound * 2)
        return delay

    def reset(self) -> None:
        """Starts over after a success."""
        self._bound = self._first
