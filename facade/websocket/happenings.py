"""Health checks and requests as they happen, the last ones of each kind."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.websocket import messages
from mcp_discovery.facade.websocket.fanout import Fanout

#: How many of each kind a slow reader may be behind.
KEPT = 1024
KINDS = (messages.HEALTH_CHECK, messages.CAPABILITY_REQUEST)


class Happening(NamedTuple):
    """One of them: its number, the connection as it was listed, and the message, encoded once."""

    number: int
    id: str
    entry: Entry | None
    message: bytes


class Happenings:
    """What readers have in common, so that a slow one costs no memory of its own."""

    def __init__(self, catalog: Catalog, fanout: Fanout) -> None:
        self._catalog = catalog
        self._fanout = fanout
        self._last: dict[str, deque[Happening]] = {kind: deque(maxlen=KEPT) for kind in KINDS}
        self._next = dict.fromkeys(KINDS, 0)
        self._wanted = dict.fromkeys(KINDS, 0)

    def note(self, kind: str, id: str, facts: Mapping[str, Any]) -> None:
        """Listens to :class:`mcp_discovery.facade.usage.usage.Usage`; while nobody reads it costs
        nothing."""
        if not self._wanted.get(kind):
            return
        number = self._next[kind]
        self._next[kind] = number + 1
        entry = self._catalog.view.entries.get(id)
        message = messages.happened(kind, id, facts)
        self._last[kind].append(Happening(number, id, entry, message))
        self._fanout.touch()

    def subscribe(self, kind: str) -> int:
        """One more reader of ``kind``; returns the number from which it reads."""
        self._wanted[kind] += 1
        return self._next[kind]

    def unsubscribe(self, kind: str) -> None:
        """One reader less."""
        self._wanted[kind] -= 1
        if not self._wanted[kind]:
            self._last[kind].clear()

    def since(self, kind: str, number: int) -> tuple[list[Happening], int]:
        """Those from ``number`` on that are still kept, and how many are not."""
        last = self._last[kind]
        missed = self._next[kind] - number
        kept = min(missed, len(last))
        return list(islice(last, len(last) - kept, None)), missed - kept
