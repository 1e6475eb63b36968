"""The messages of ``/registry/stream``: those that a reader sends, and those that readers share."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.connections.statuses import status_of
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.fanout import Fanout
from mcp_discovery.health import rfc3339, utcnow
from mcp_discovery.nearest import nearest
from mcp_discovery.query.query import Query

CONNECTION_STATUS = "connection-status"
HEALTH_CHECK = "health-check"
CAPABILITY_REQUEST = "capability-request"
#: Every kind of event that a reader can subscribe to.
EVENTS = (CONNECTION_STATUS, HEALTH_CHECK, CAPABILITY_REQUEST)

#: The largest message from a reader, in bytes.
MAX_MESSAGE_BYTES = 64 * 2**10
#: The largest number of values of one filter.
_MOST = 1000
#: The longest value of a filter, in characters.
_LONGEST = 200

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "subscribe": (
        *("action", "events", "tags", "match", "ids", "capabilities", "resume", "snapshot"),
    ),
    "unsubscribe": ("action", "events"),
}


_ANY = Query(status=())


class InvalidMessageError(DiscoveryError):
    """An invalid message; ``str()`` is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The connections whose events a reader wants: those that match ``query`` and, where there are
    ``ids``, have one of them."""

    query: Query = _ANY
    ids: frozenset[str] = frozenset()

    def passes(self, id: str, entry: Entry | None) -> bool:
        """Whether the connection is wanted; ``entry`` is ``None`` for one that is not listed."""
        if self.ids and id not in self.ids:
            return False
        if entry is None:
            return self.query == _ANY
        return self.query.matches(entry.instance)


class Subscribe(NamedTuple):
    """A subscription; without a ``filter`` the one before stays."""

    events: frozenset[str]
    filter: EventFilter | None
    resume: str | None
    snapshot: bool


class Unsubscribe(NamedTuple):
    """The end of the subscription to ``events``."""

    events: frozenset[str]


def parse(data: bytes) -> Subscribe | Unsubscribe:
    """Reads one message; raises :class:`InvalidMessageError`."""
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidMessageError(f"the message is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidMessageError(
            'the message is not a JSON object such as {"action": "subscribe"}'
        )
    action = content.get("action")
    if not isinstance(action, str):
        raise InvalidMessageError("action is missing; it is subscribe or unsubscribe")
    _known("action", action, _FIELDS)
    for name in content:
        _known("field", name, _FIELDS[action])
    events = frozenset(EVENTS if content.get("events") is None else _strings(content, "events"))
    if not events:
        raise InvalidMessageError(
            f"events is empty; leave it out for all, or name {', '.join(EVENTS)}"
        )
    for event in events:
        _known("event", event, EVENTS)
    if action == "unsubscribe":
        return Unsubscribe(events)
    resume, snapshot = content.get("resume"), content.get("snapshot", True)
    if not isinstance(resume, str | None):
        raise InvalidMessageError("resume is not a position, a string such as epoch:revision")
    if not isinstance(snapshot, bool):
        raise InvalidMessageError("snapshot is neither true nor false")
    return Subscribe(events, _filter(content), resume, snapshot)


def _filter(content: Mapping[str, Any]) -> EventFilter | None:
    given = [content.get(name) for name in ("tags", "match", "ids", "capabilities")]
    if all(value is None for value in given):
        return None
    match = content.get("match", "any")
    if match not in ("any", "all"):
        raise InvalidMessageError("match is neither any nor all")
    query = Query(
        tags=map(str.lower, _strings(content, "tags")),
        match=match,
        capability=_strings(content, "capabilities"),
        status=(),
    )
    return EventFilter(query, frozenset(_strings(content, "ids")))


def _strings(content: Mapping[str, Any], name: str) -> list[str]:
    values = content.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise InvalidMessageError(f"{name} is not a list of strings")
    if len(values) > _MOST or any(len(each) > _LONGEST for each in values):
        raise InvalidMessageError(
            f"{name} names more than {_MOST} values, or one of more than {_LONGEST} characters"
        )
    return values


def _known(what: str, value: str, known: Collection[str]) -> None:
    if value in known:
        return
    near = nearest(value, known)
    hint = f"did you mean {near!r}? " if near else ""
    raise InvalidMessageError(f"unknown {what} {value[:100]!r}; {hint}known are {', '.join(known)}")


def acknowledged(type: str, events: Iterable[str], position: str) -> bytes:
    """The response to an action: the events now subscribed to, and the list's position."""
    listed = [event for event in EVENTS if event in set(events)]
    return orjson.dumps({"type": type, "events": listed, "position": position})


def activity(kind: str, id: str, facts: Mapping[str, Any]) -> bytes:
    """A health check or a request with its known facts; see
    :mod:`mcp_discovery.facade.usage.usage`."""
    message: dict[str, Any] = {"type": kind, "connectionId": id}
    latency = facts.get("latency")
    milliseconds = None if latency is None else round(latency * 1000, 1)
    if kind == HEALTH_CHECK:
        message |= {"health": facts["status"], "responseTime": milliseconds}
        message["reason"] = facts.get("reason")
    else:
        message |= {"capability": facts.get("capability"), "success": facts["success"]}
        message |= {"latency": milliseconds, "error": facts.get("error")}
    message["timestamp"] = rfc3339(utcnow())
    return orjson.dumps({key: value for key, value in message.items() if value is not None})


#: How many activities of each kind are kept; a reader that is further behind misses some.
LOG_LENGTH = 1024
KINDS = (HEALTH_CHECK, CAPABILITY_REQUEST)


class Activity(NamedTuple):
    """A health check or a request: its number, the connection's entry, and the message."""

    number: int
    id: str
    entry: Entry | None
    message: bytes


class ActivityLog:
    """The latest activities, shared by all readers: a slow one costs no memory of its own."""

    def __init__(self, catalog: LiveList, fanout: Fanout) -> None:
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
        message = activity(kind, id, facts)
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
        head |= list_json.caveats(view)
        starts = range(0, max(1, len(connections)), _PART)
        made = [
            orjson.dumps(
                head
                | {
                    "connections": connections[start : start + _PART],
                    "more": start + _PART < len(connections),
                }
            )
            for start in starts
        ]
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
