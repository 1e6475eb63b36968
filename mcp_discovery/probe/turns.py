"""Questions that a probe asks in turn, so that each is asked in time and few at once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence


class Turns:
    """Remembers when each question was asked."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        self._last = math.inf

    def due(self, questions: Sequence[str], within: float) -> list[str]:
        """Which of ``questions`` to ask now: the one that was asked longest ago, and those that
        would not be asked again ``within`` seconds, if the next time were as far as the last.

        One that is new counts as asked just now.
        """
        now = time.monotonic()
        next_time = now + max(0.0, now - self._last)
        self._last = now
        asked = {each: at for each, at in self._asked.items() if each in questions}
        asked |= {each: now for each in questions if each not in asked}
        first, *rest = asked  # the dictionary is in the order in which they were asked
        found = [first, *(each for each in rest if next_time - asked[each] > within)]
        for each in found:
            del asked[each]
        self._asked = asked | dict.fromkeys(found, now)
        return found
