"""What the readers of ``/registry/stream`` share: the activity log, and serialized changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache

from mcp_discovery.adapters.catalog import Catalog, CatalogEvent
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.connections.statuses import status_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.fanout import Fanout
from mcp_discovery.facade.websocket import messages
from mcp_discovery.facade.websocket.messages import CONNECTION_STATUS, EventFilter
from mcp_discovery.health import rfc3339

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


#: For how many changes of the list the message is cached.
_MESSAGES = 4096
#: How many connections one message of a snapshot has: clients limit messages to 1 MiB or so.
_PART = 1000


class Subscribers:
    """Serializes each change, and each snapshot of the list, once for all of them."""

    def __init__(self, filter: EventFilter) -> None:
        self.filter = filter
        self.readers = 0
        self._messages: LRUCache[int, bytes | None] = LRUCache(_MESSAGES)
        self._snapshot: tuple[View, list[bytes]] | None = None

    def message(self, epoch: str, event: CatalogEvent) -> bytes | None:
        """The message about a change; ``None`` where no status has changed."""
        if event.revision not in self._messages:
            self._messages[event.revision] = self._serialized(epoch, event)
        return self._messages[event.revision]

    def snapshot(self, view: View, started_over: str | None) -> list[bytes]:
        """The connections as they are, in as many messages as it takes."""
        if started_over is None and self._snapshot is not None and self._snapshot[0] is view:
            return self._snapshot[1]
        made = self._parts(view, started_over)
        if started_over is None:
            self._snapshot = view, made
        return made

    def _serialized(self, epoch: str, event: CatalogEvent) -> bytes | None:
        before, after = self._status(event.before), self._status(event.entry)
        if before == after:
            return None
        message: dict[str, Any] = {
            "type": CONNECTION_STATUS,
            "connectionId": event.id,
            "status": after or "disconnected",
            "timestamp": rfc3339(event.at),
            "position": f"{epoch}:{event.revision}",
        }
        if event.entry is None:
            message["reason"] = "removed"
        else:
            message["reason"] = event.entry.health.reason
            if after is None:
                message |= {"status": status_of(event.entry.health), "matches": False}
        return orjson.dumps(message)

    def _status(self, entry: Entry | None) -> str | None:
        if entry is None or not self.filter.passes(entry.id, entry):
            return None
        return status_of(entry.health)

    def _parts(self, view: View, started_over: str | None) -> list[bytes]:
        query, ids = self.filter.query, self.filter.ids
        connections = [
            {
                "connectionId": entry.id,
                "name": entry.record.name,
                "status": status_of(entry.health),
                "timestamp": rfc3339(entry.health.since),
            }
            for entry in view.select(query, among=ids or None)
        ]
        head: dict[str, Any] = {"type": "snapshot", "position": list_json.position(view)}
        if started_over is not None:
            head["startedOver"] = started_over
        head |= list_json.staleness(view)
        starts = range(0, max(1, len(connections)), _PART)
        return [
            orjson.dumps(
                head
                | {
                    "connections": connections[start : start + _PART],
                    "more": start + _PART < len(connections),
                }
            )
            for start in starts
        ]
