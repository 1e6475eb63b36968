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
    "desk-down",  # its process is dead, or frozen
    "desk-up",
    "desk-parted",  # it cannot use the store, others can
    "desk-joined",
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
class Happening:
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
        self._happenings: list[Happening] = []
        #: Told of each happening that is noted.
        self.listeners: list[Callable[[Happening], None]] = []

    def note(self, kind: Kind, target: str, **data: Any) -> None:
        """Records that something happened just now."""
        happening = Happening(self.now, kind, target, data)
        self._happenings.append(happening)
        for listener in self.listeners:
            listener(happening)

    def put(self, happenings: Iterable[Happening]) -> None:
        """Adds what happened elsewhere or is made up, for tests of the checker."""
        self._happenings.extend(happenings)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def __iter__(self) -> Iterator[Happening]:
        return iter(sorted(self._happenings, key=lambda each: each.at))

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
        history.put(Happening(**line) for line in lines)
        return history
