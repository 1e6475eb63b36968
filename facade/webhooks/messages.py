"""What receivers are told: a change of the list, or an alarm, as a message with an id.

The id of a change of a server is made from the change, so that facades over one store that see the
same change give it the same id, and whoever receives it twice can tell.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from mcp_discovery.adapters.live_list import CatalogEvent
from mcp_discovery.adapters.view import Entry
from mcp_discovery.health import rfc3339
from mcp_discovery.record import Record

#: The types of messages, and what each tells. ``webhook.…`` ones are sent to every receiver.
EVENTS: Final[Mapping[str, str]] = {
    "server.registered": "an instance came into the list",
    "server.gone": "an instance left the list",
    "server.status": "an instance has another status",
    "server.document": "what an instance offers is another document",
    "server.changed": "something else of an instance's record is different",
    "list.stale": "the store cannot be reached, and the list stays as it was",
    "list.fresh": "the store can be reached again",
    "list.held": "many instances vanished at once and are held back",
    "list.reset": "more changed at once than could be told one by one; read the list",
    "alarm.raised": "something has been wrong for a while",
    "alarm.cleared": "what there was an alarm about is over",
}
TEST, DROPPED = "webhook.test", "webhook.dropped"
#: How many names of tools, or else, a message has at most.
_MOST_NAMES = 50
#: Seconds within which the same change again, counted, is told from the first by its number.
_PERIOD = 60
#: Fields of a record that say nothing by themselves, or that other messages are for.
_ELSEWHERE = frozenset(("registered_at", "started_at", "capabilities", "protocol"))


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``about`` are the instances that filters are compared with, of which one has to
    match; nothing for what every receiver is told."""

    id: str
    type: str
    at: datetime
    data: Mapping[str, Any]
    about: tuple[Entry, ...] = ()

    def body(self) -> bytes:
        """The payload, as Standard Webhooks recommends it."""
        content = {"type": self.type, "timestamp": rfc3339(self.at), "data": self.data}
        return orjson.dumps(content)


class ChangeMessages:
    """Makes messages of the changes of one list."""

    def __init__(self) -> None:
        self._period = 0
        self._seen: Counter[tuple[str, ...]] = Counter()

    def of(self, event: CatalogEvent) -> Iterator[Message]:
        """The messages of one change; there may be none."""
        before, entry = event.before, event.entry
        if entry is None:
            if before is not None:
                yield self._message("server.gone", event, before, {}, "")
            return
        if before is None:
            yield self._message("server.registered", event, entry, {}, "")
            return
        was, now = before.health.status, entry.health.status
        if was is not now:
            more = {"before": was.value}
            yield self._message("server.status", event, entry, more, was.value, now.value)
        old, new = before.record, entry.record
        if old.capabilities != new.capabilities:
            digests = old.capabilities.digest or "", new.capabilities.digest or ""
            yield self._message("server.document", event, entry, _offers(old, new), *digests)
        if old is not new and (fields := _differing(old, new)):
            yield self._message("server.changed", event, entry, {"fields": fields}, *fields)

    def _message(
        self, type: str, event: CatalogEvent, entry: Entry, more: Mapping[str, Any], *key: str
    ) -> Message:
        about = tuple(each for each in (event.entry, event.before) if each is not None)
        return Message(
            self._id(event.at, type, event.id, *key),
            type,
            event.at,
            {**_told(entry), **more},
            about,
        )

    def _id(self, at: datetime, *key: str) -> str:
        period = int(at.timestamp()) // _PERIOD
        if period != self._period:
            self._period = period
            self._seen.clear()
        self._seen[key] += 1
        parts = orjson.dumps((period, self._seen[key], key))
        return f"msg_{hashlib.sha256(parts).hexdigest()[:32]}"


def new_id() -> str:
    """The id of a message that no other facade has."""
    return f"msg_{secrets.token_hex(16)}"


def _told(entry: Entry) -> dict[str, Any]:
    record, health = entry.record, entry.health
    found: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "kind": record.kind,
        "version": record.version,
        "tags": list(record.tags),
        "status": health.status.value,
        "reason": health.reason[:1000],
        "since": rfc3339(health.since),
    }
    optional = {
        "url": record.endpoint.url,
        "zone": record.zone,
        "owner": entry.instance.lease.holder.owner,
        "digest": record.capabilities.digest,
    }
    return found | {name: value for name, value in optional.items() if value}


def _offers(old: Record, new: Record) -> dict[str, Any]:
    """The names that a server has begun and ceased to offer, of tools, resources and all else."""
    had = {name for names in old.capabilities.lists() for name in names}
    has = {name for names in new.capabilities.lists() for name in names}
    added, removed = sorted(has - had), sorted(had - has)
    return {
        "digestBefore": old.capabilities.digest,
        "added": added[:_MOST_NAMES],
        "removed": removed[:_MOST_NAMES],
        "totalAdded": len(added),
        "totalRemoved": len(removed),
    }


def _differing(old: Record, new: Record) -> list[str]:
    """The fields, as JSON has them, in which the records differ."""
    fields = Record.model_fields
    return [
        field.alias or name
        for name, field in fields.items()
        if name not in _ELSEWHERE and getattr(old, name) != getattr(new, name)
    ]
