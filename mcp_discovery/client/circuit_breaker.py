"""A circuit breaker for one instance: after failures it gets no calls until a trial succeeds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

#: This many failures in a row open the breaker; a refused connection opens it at once.
FAILURES = 3
#: The breaker stays open for a random time between half a bound and the bound, which doubles with
#: each failed trial between these numbers of seconds.
_FIRST, _LONGEST = 0.5, 30.0


class CircuitBreaker:
    """Closed: calls pass. Open: they do not. Half open, once its time is over: one trial decides.

    ``clock`` gives monotonic seconds. Nygard, "Release It!" (2007), describes the pattern.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opened = 0
        self._until: float | None = None
        #: Why the last failure counts as one.
        self.reason = ""

    @property
    def closed(self) -> bool:
        """Whether calls may pass."""
        return self._until is None

    @property
    def wait(self) -> float:
        """Seconds until a trial is due; 0 when it is, or when the breaker is closed."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = self._opened = 0
        self._until = None

    def failed(self, reason: str, *, at_once: bool = False) -> None:
        """The server did not answer; ``at_once`` opens the breaker whatever came before."""
        self.reason = reason
        self._failures += 1
        if at_once or self._failures >= FAILURES or self._until is not None:
            bound = min(_FIRST * 2**self._opened, _LONGEST)
            self._opened += 1
            self._until = self._clock() + random.uniform(bound / 2, bound)
