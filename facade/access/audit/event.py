"""Events, and the entries of the log that tell of them.

An event is told by one entry (``whole``), or by two: ``begun``, which is durable before the change
is made or the call is passed on, and ``ended`` with its outcome. Of an event that never ended,
because the process did before, the outcome is not known, and it is listed so.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from mcp_discovery.secrets import without_tokens

Phase: TypeAlias = Literal["begun", "ended", "whole"]
#: What an event tells of: a change of the list, a health that changed by a heartbeat, a call of a
#: tool, something refused, the recording itself, a session of a browser that began or ended, or a
#: question to a model and how it ended.
EventType: TypeAlias = Literal[
    "change",
    "status",
    "call",
    "refusal",
    "session",
    "system",
    "api_request",
    "api_response",
    "api_error",
]
#: How it went: ``failed`` is a fault on the way, ``refused`` a decision.
Result: TypeAlias = Literal["done", "refused", "failed", "unknown"]

#: The longest texts that an event keeps, in characters.
_LONGEST = 500
#: How many characters of one are searched for tokens: a token that is cut off here is not shown.
_LOOKED_AT = 8 * 2**10


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What is written at once. ``facts`` are JSON, without what the chain adds."""

    event_id: str
    phase: Phase
    at: float  # POSIX time
    facts: Mapping[str, Any]

    @classmethod
    def new(cls, phase: Phase, facts: Mapping[str, Any], event_id: str | None = None) -> LogEntry:
        """An entry of now, of a new event unless ``event_id`` says of which."""
        now = time.time()
        return cls(event_id or new_event_id(now), phase, now, facts)

    def json(self) -> dict[str, Any]:
        """What goes into the chain."""
        own: dict[str, Any] = {
            "eventId": self.event_id,
            "phase": self.phase,
            "time": timestamp(self.at),
        }
        facts = {name: each for name, each in self.facts.items() if name != "arguments"}
        if (arguments := self.facts.get("arguments")) is not None:
            own["arguments"] = arguments  # as large as they are, within their own bound
        return {**plain(facts), **own}


def new_event_id(now: float) -> str:
    """An id that sorts by time, and from which nothing can be counted."""
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"


def timestamp(at: float) -> str:
    """A POSIX time as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def microseconds(text: str) -> int:
    """A time of :func:`timestamp` as whole microseconds since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def merged(begun: Mapping[str, Any], ended: Mapping[str, Any] | None) -> dict[str, Any]:
    """The event that an entry, and the one that ended it, tell of."""
    event = {name: value for name, value in begun.items() if name != "phase"}
    if begun["phase"] == "begun" and ended is None:
        event["outcome"] = {"success": None, "result": "unknown"}
    if ended is not None:
        for name, value in ended.items():
            if name in ("eventId", "phase", "time", "chain", "sequence", "previous", "hash"):
                continue
            known = event.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                value = {**known, **value}
            event[name] = value
    return event


def plain(value: Any) -> Any:
    """``value`` with texts that fit into JSON, are not endless, and have ``***`` for tokens.

    Every text of an event passes here: a name, an id and a tool are whatever a caller wrote, as
    what a tool says is whatever the tool did.
    """
    match value:
        case str():
            text = value[:_LOOKED_AT].encode(errors="replace").decode()
            text = without_tokens(text)
            return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
        case Mapping():
            return {str(name): plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
    return value
