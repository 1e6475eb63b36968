"""Keys in a store that a watch could not read as instances."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

#: How many keys are logged one by one in each interval of :data:`_QUIET` seconds; the others are
#: counted and logged in one line.
_EACH = 20
_QUIET = 60.0


class SkippedKeys(Mapping[str, str]):
    """Key → why it was skipped; at most ``most`` keys, the oldest are dropped first.

    Each key is logged once per reason, at a limited rate, so that a program that writes to the
    store cannot fill the log.
    """

    def __init__(self, store: str, most: int = 100) -> None:
        self._store = store
        self._most = most
        self._reasons: dict[str, str] = {}
        self._left = _EACH
        self._counted = 0  # since the last line
        self._began = time.monotonic()
        #: How many keys were ever skipped, those included that are no longer listed.
        self.total = 0

    def add(self, key: str, reason: str) -> None:
        """Records that ``key`` was skipped, and logs it."""
        key, reason = key[:300], reason[:500]
        if self._reasons.get(key) == reason:
            return
        self.total += 1
        self._reasons[key] = reason
        if len(self._reasons) > self._most:
            del self._reasons[next(iter(self._reasons))]
        now = time.monotonic()
        if now - self._began >= _QUIET:
            if self._counted:
                log.warning(
                    "%s: skipped %d more in %.0f s", self._store, self._counted, now - self._began
                )
            self._left, self._counted, self._began = _EACH, 0, now
        if not self._left:
            self._counted += 1
            return
        self._left -= 1
        rest = "" if self._left else f"; more are counted only, for {_QUIET:g} s"
        log.warning("%s: skipped %r: %s%s", self._store, key, reason, rest)

    def discard(self, key: str) -> None:
        """Removes ``key``: it was deleted, or has become readable."""
        self._reasons.pop(key[:300], None)

    def __getitem__(self, key: str) -> str:
        return self._reasons[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reasons)

    def __len__(self) -> int:
        return len(self._reasons)
