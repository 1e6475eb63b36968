"""The activity log: the latest health checks and requests, for the readers of the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.servers.fanout import Fanout
from mcp_discovery.facade.websocket import messages

#: How many activities of each kind are kept; a reader that is further behind misses some.
LOG_LENGTH = 1024
KINDS = (messages.HEALTH_CHECK, messages.CAPABILITY_REQUEST)


class Activity(NamedTuple):
    """A health check or a request: its number, the connection's entry, and the message."""

    number: int
    id: str
    entry: Entry | None
    message: bytes


class ActivityLog:
    """The latest activities, shared by all readers: a slow one costs no memory of its own."""

    def __init__(self, catalog: Catalog, fanout: Fanout) -> None:
        self._catalog = catalog
        self._fanout = fanout
        self._latest: dict[str, deque[Activity]] = {
            kind: deque(maxlen=LOG_LENGTH) for kind in KINDS
        }
        self._next = dict.fromkeys(KINDS, 0)
        self._readers = dict.fromkeys(KINDS, 0)

    def append(self, kind: str, id: str, facts: Mapping[str, Any]) -> None:
        """Logs an outcome or a probe, if there is a reader of its kind; listens to
        :class:`mcp_discovery.facade.usage.usage.Usage`."""
        if not self._readers.get(kind):
            return
        number = self._next[kind]
        self._next[kind] = number + 1
        entry = self._catalog.view.entries.get(id)
        message = messages.activity(kind, id, facts)
        self._latest[kind].append(Activity(number, id, entry, message))
        self._fanout.touch()

    def subscribe(self, kind: str) -> int:
        """One more reader of ``kind``; returns the number from which it reads."""
        self._readers[kind] += 1
        return self._next[kind]

    def unsubscribe(self, kind: str) -> None:
        """One reader less."""
        self._readers[kind] -= 1
        if not self._readers[kind]:
            self._latest[kind].clear()

    def since(self, kind: str, number: int) -> tuple[list[Activity], int]:
        """The activities from ``number`` on that are still kept, and how many are not."""
        latest = self._latest[kind]
        missed = self._next[kind] - number
        kept = min(missed, len(latest))
        return list(islice(latest, len(latest) - kept, None)), missed - kept
