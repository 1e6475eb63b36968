"""The note that a watch keeps of keys it could not read."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

#: So many are logged one by one …
_EACH = 20
#: … and again only this many seconds later; what came in between is counted, in one line.
_QUIET = 60.0


class Skipped(Mapping[str, str]):
    """Key → why it was skipped, at most ``most`` of them.

    Each is logged once for each reason, as long as they are few: whoever can write to the store
    could fill the log.
    """

    def __init__(self, store: str, most: int = 100) -> None:
        self._store = store
        self._most = most
        self._reasons: dict[str, str] = {}
        self._left = _EACH
        self._counted = 0  # since the last line
        self._began = time.monotonic()
        #: How many were ever skipped, the forgotten ones included.
        self.total = 0

    def add(self, key: str, reason: str) -> None:
        """Notes that ``key`` was skipped."""
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
        """Forgets ``key``: it is gone, or readable by now."""
        self._reasons.pop(key[:300], None)

    def __getitem__(self, key: str) -> str:
        return self._reasons[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reasons)

    def __len__(self) -> int:
        return len(self._reasons)
