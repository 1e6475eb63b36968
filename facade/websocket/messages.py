"""The messages of ``/registry/stream``: those that a reader sends, and those that it gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.parameters import nearest
from mcp_discovery.health import rfc3339, utcnow
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
        if not self.query.checks:
            return True
        return entry is not None and self.query.matches(entry.instance)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription; without a ``filter`` the one before stays."""

    events: frozenset[str]
    filter: EventFilter | None
    resume: str | None
    snapshot: bool


@dataclass(frozen=True, slots=True)
class Unsubscribe:
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
