"""Judges a history by the four promises. Knows nothing of how it came about.

**No ghost.** An instance that stopped answering is not shown ``healthy`` beyond one probe interval
while its sidecar lives, beyond TTL + 2 s where it does not.

**No loss.** A living instance is offered within 5 s of its store being back.

**No panic.** A list that had instances is not emptied, and loses no instance that did not leave,
while the store is away; it says that it is stale.

**No going back.** A reader never sees a revision fall within an epoch, and at the end every reader
has what is true.

Time in which the store or the facade was away is no facade's fault: a promise's clock starts anew
with their return. ``MARGIN`` is what the recorder's own polling and a busy machine may add.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.history import Happening, History, Terms

#: Seconds.
MARGIN = 1.5
BACK = 5.0
SILENT = 2.0
#: Statuses under which an instance is offered.
OFFERED = frozenset({"healthy", "degraded"})


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: which, when (seconds from the beginning), and how."""

    promise: str
    at: float
    reader: str
    instance: str
    how: str

    def __str__(self) -> str:
        return f"{self.promise} at {self.at:.2f} s, {self.reader}: {self.instance} {self.how}"


@dataclass
class _Truth:
    """What is true of one instance, and since when."""

    serves: bool = False
    watched: bool = False
    left: bool = False
    #: When any of these changed last; when it began to serve; when its sidecar was started.
    since: float = 0.0
    serves_since: float = 0.0
    watched_since: float = 0.0

    @property
    def lives(self) -> bool:
        return self.serves and self.watched and not self.left


@dataclass
class _Reader:
    """What one reader sees, and since when it can see."""

    away: bool = False
    since: float = 0.0
    stale: bool = False
    fresh_since: float = 0.0
    shown: dict[str, str] = field(default_factory=dict)
    shown_since: dict[str, float] = field(default_factory=dict)
    epoch: str = ""
    revision: int = -1


def judge(history: History) -> list[Violation]:
    """Every violation, in order of time; one for each time that a promise came to be broken."""
    return sorted(_Judge(history.terms).run(history), key=lambda each: each.at)


class _Judge:
    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._truth: dict[str, _Truth] = {}
        self._readers: dict[str, _Reader] = {}
        self._store_away = False
        self._store_since = 0.0
        self._known: set[tuple[str, str, str]] = set()

    def run(self, history: History) -> Iterator[Violation]:
        last = 0.0
        for happening in history:
            # What was true up to this moment is judged before the moment changes it.
            yield from self._standing(happening.at)
            yield from self._take(happening)
            last = happening.at
        yield from self._standing(last)
        yield from self._settled(last)

    # -- what is taken in ----------------------------------------------------------------------

    def _take(self, one: Happening) -> Iterator[Violation]:
        match one.kind:
            case "serves" | "silent" | "watched" | "unwatched" | "left":
                truth = self._truth.setdefault(one.target, _Truth())
                truth.since = one.at
                match one.kind:
                    case "serves" | "silent":
                        truth.serves = one.kind == "serves"
                        truth.serves_since = one.at
                    case "watched" | "unwatched":
                        truth.watched = one.kind == "watched"
                        truth.watched_since = one.at
                    case "left":
                        truth.left = True
                if one.kind == "watched":
                    truth.left = False
                self._forgive(one.target)
            case "store-away" | "store-back":
                self._store_away = one.kind == "store-away"
                self._store_since = one.at
                self._known.clear()
            case "facade-away" | "facade-back":
                reader = self._reader(one.target)
                reader.away, reader.since = one.kind == "facade-away", one.at
            case "stale" | "fresh":
                reader = self._reader(one.target)
                reader.stale = one.kind == "stale"
                if not reader.stale:
                    reader.fresh_since = one.at
            case "list":
                yield from self._position(one)
                yield from self._listed(one, dict(one.data["servers"]))
            case "change":
                yield from self._position(one)
                shown = dict(self._reader(one.target).shown)
                if one.data["status"] is None:
                    shown.pop(one.data["id"], None)
                else:
                    shown[one.data["id"]] = one.data["status"]
                yield from self._listed(one, shown)

    def _reader(self, name: str) -> _Reader:
        return self._readers.setdefault(name, _Reader())

    def _position(self, one: Happening) -> Iterator[Violation]:
        reader = self._reader(one.target)
        epoch, revision = one.data["epoch"], one.data["revision"]
        if epoch == reader.epoch and revision < reader.revision:
            how = f"was told at revision {revision} after {reader.revision}"
            yield Violation("going back", one.at, one.target, str(one.data.get("id", "*")), how)
        reader.epoch, reader.revision = epoch, revision

    def _listed(self, one: Happening, shown: dict[str, str]) -> Iterator[Violation]:
        reader = self._reader(one.target)
        gone = [id for id in reader.shown if id not in shown]
        if self._store_away and reader.epoch == one.data["epoch"]:
            for id in gone:
                truth = self._truth.get(id)
                if truth is not None and truth.lives:
                    yield Violation("panic", one.at, one.target, id, "vanished: the store is away")
        for id in {*shown, *gone}:
            if shown.get(id) != reader.shown.get(id):
                reader.shown_since[id] = one.at
                self._known.discard(("ghost", one.target, id))
                self._known.discard(("loss", one.target, id))
        reader.shown = shown

    def _forgive(self, id: str) -> None:
        self._known = {each for each in self._known if each[2] != id}

    # -- what must hold at every moment --------------------------------------------------------

    def _standing(self, now: float) -> Iterator[Violation]:
        if self._store_away:
            return
        for name, reader in self._readers.items():
            if reader.away or reader.stale:
                continue
            since = max(self._store_since, reader.since, reader.fresh_since)
            for id, truth in self._truth.items():
                yield from self._ghost(now, name, reader, id, truth, since)
                yield from self._loss(now, name, reader, id, truth, since)

    def _ghost(
        self, now: float, name: str, reader: _Reader, id: str, truth: _Truth, since: float
    ) -> Iterator[Violation]:
        if truth.serves and truth.watched:
            return
        if reader.shown.get(id) != "healthy":
            return
        if truth.serves:
            # A server that answers is no ghost: nobody vouches for it, and TTL ends that.
            allowed = self._terms.ttl + SILENT
        elif truth.watched:
            allowed = self._terms.probe_interval
        else:
            allowed = self._terms.ttl + SILENT
        start = max(truth.since, since, reader.shown_since.get(id, 0.0) - allowed)
        if now - start > allowed + MARGIN and self._first("ghost", name, id):
            how = f"is shown healthy {now - start:.2f} s after it stopped"
            yield Violation("ghost", now, name, id, how)

    def _loss(
        self, now: float, name: str, reader: _Reader, id: str, truth: _Truth, since: float
    ) -> Iterator[Violation]:
        if not truth.lives or reader.shown.get(id) in OFFERED:
            return
        # A new sidecar may have to wait until its predecessor counts as dead.
        due = max(
            since + BACK,
            truth.serves_since + BACK,
            truth.watched_since + self._terms.ttl + BACK,
            reader.shown_since.get(id, 0.0) + BACK,
        )
        if now > due + MARGIN and self._first("loss", name, id):
            status = reader.shown.get(id, "not listed")
            how = f"is {status} {now - truth.since:.2f} s after it began to live"
            yield Violation("loss", now, name, id, how)

    def _first(self, promise: str, reader: str, id: str) -> bool:
        fresh = (promise, reader, id) not in self._known
        self._known.add((promise, reader, id))
        return fresh

    # -- what must hold at the end -------------------------------------------------------------

    def _settled(self, now: float) -> Iterator[Violation]:
        lives = {id for id, truth in self._truth.items() if truth.lives}
        for name, reader in self._readers.items():
            if reader.away:
                continue
            if reader.stale:
                yield Violation("going back", now, name, "*", "is stale at the end")
            offered = {id for id, status in reader.shown.items() if status in OFFERED}
            for id in sorted(offered ^ lives):
                how = "is offered at the end and does not live" if id in offered else "is missing"
                yield Violation("going back", now, name, id, f"{how} in the last state")
