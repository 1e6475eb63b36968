"""What happened, from every side, in one order: the only thing that the checker sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

Kind = Literal[
    # what the driver did, or made true; "target" is an instance's id
    "serves",  # the MCP server answers from now on
    "silent",  # it does not
    "slow",  # it answers too slowly, or as it pleases: healthy or not, both are true
    "watched",  # its sidecar lives
    "unwatched",  # its sidecar is dead, or frozen
    "parted",  # its sidecar cannot use the store, others can
    "joined",  # it can
    "withheld",  # somebody else keeps it from being offered
    "granted",  # nobody does any more
    "left",  # it was deregistered on purpose
    # "target" is the store
    "store-away",  # nobody can use it
    "store-shaky",  # some may use it, others not
    "store-back",  # everybody can
    # "target" is a facade
    "facade-down",  # its process is dead, or frozen
    "facade-up",
    "facade-parted",  # it cannot use the store, others can
    "facade-joined",
    # what was seen; "target" is a reader, "<facade>/<kind of reader>"
    "unread",  # the facade gives no list
    "read",
    "list",  # the whole list as it was read: data is id → status
    "change",  # one entry of it: data has id and status, None for gone
    "stale",  # the facade says since when
    "fresh",
    # anything else worth reading afterwards
    "note",
]


@dataclass(frozen=True, slots=True)
class ObservedEvent:
    """One line of the history; ``at`` in monotonic seconds since its beginning."""

    at: float
    kind: Kind
    target: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """The times in which promises are kept, in seconds."""

    ttl: float
    probe_interval: float
    #: Within which a facade says that its store is away.
    notice: float = 12.0


class History:
    """Everything that was recorded, oldest first. May be written to a file and read again."""

    def __init__(self, terms: Terms, seed: int | None = None) -> None:
        self.terms = terms
        self.seed = seed
        self._began = time.monotonic()
        self._events: list[ObservedEvent] = []
        #: Told of each event that is noted.
        self.listeners: list[Callable[[ObservedEvent], None]] = []

    def note(self, kind: Kind, target: str, **data: Any) -> None:
        """Records that something happened just now."""
        event = ObservedEvent(self.now, kind, target, data)
        self._events.append(event)
        for listener in self.listeners:
            listener(event)

    def put(self, events: Iterable[ObservedEvent]) -> None:
        """Adds what happened elsewhere or is made up, for tests of the checker."""
        self._events.extend(events)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def __iter__(self) -> Iterator[ObservedEvent]:
        return iter(sorted(self._events, key=lambda each: each.at))

    def write(self, path: Path) -> None:
        """One JSON object a line; the first says the terms and the seed."""
        head = {"terms": asdict(self.terms), "seed": self.seed}
        lines = [head, *(asdict(each) for each in self)]
        path.write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")

    @classmethod
    def read(cls, path: Path) -> History:
        """What :meth:`write` wrote."""
        head, *lines = map(orjson.loads, path.read_bytes().splitlines())
        history = cls(Terms(**head["terms"]), head["seed"])
        history.put(ObservedEvent(**line) for line in lines)
        return history
