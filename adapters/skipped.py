"""The note that a watch keeps of keys it could not read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)


class Skipped(Mapping[str, str]):
    """Key → why it was skipped, at most ``most`` of them; each is logged once for each reason."""

    def __init__(self, store: str, most: int = 100) -> None:
        self._store = store
        self._most = most
        self._reasons: dict[str, str] = {}
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
        log.warning("%s: skipped %r: %s", self._store, key, reason)

    def discard(self, key: str) -> None:
        """Forgets ``key``: it is gone, or readable by now."""
        self._reasons.pop(key[:300], None)

    def __getitem__(self, key: str) -> str:
        return self._reasons[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reasons)

    def __len__(self) -> int:
        return len(self._reasons)
