"""All readers of ``/registry/stream`` with the same filter, which get the same messages."""

from __future__ import annotations

from typing import Any

import orjson
from cachetools import LRUCache

from mcp_discovery.adapters.catalog import CatalogEvent
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.connections.statuses import status_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.websocket.messages import CONNECTION_STATUS, EventFilter
from mcp_discovery.health import rfc3339

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
