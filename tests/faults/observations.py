"""What the checker holds to be true of an instance, and what a reader has been shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.history import ObservedEvent

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
class Truth:
    """What is true of one instance, and since when (seconds from the beginning)."""

    serves: bool = False
    slow: bool = False
    watched: bool = False
    parted: bool = False
    withheld: bool = False
    left: bool = False
    #: When any of these changed last, and when its serving and its watching did.
    since: float = 0.0
    serves_since: float = 0.0
    watched_since: float = 0.0
    #: When it was last there for its sidecar to connect to.
    connected_since: float = 0.0
    #: When its sidecar last ceased to be heard, and when it last was again.
    unvouched_since: float = 0.0
    vouched_since: float = 0.0

    @property
    def vouched(self) -> bool:
        """Whether its sidecar can say how it is."""
        return self.watched and not self.parted

    @property
    def lives(self) -> bool:
        """Whether it has to be offered."""
        says = self.serves and not self.slow and self.vouched
        return says and not self.left and not self.withheld

    def become(self, one: ObservedEvent) -> None:
        """Takes in what the driver made of it."""
        vouched = self.vouched
        match one.kind:
            case "serves" | "silent" | "slow":
                if not self.serves and one.kind != "silent":
                    self.connected_since = one.at
                self.serves, self.slow = one.kind != "silent", one.kind == "slow"
                self.serves_since = one.at
            case "watched":
                self.watched, self.left = True, False
                self.watched_since = self.connected_since = one.at
            case "unwatched":
                self.watched = False
            case "parted" | "joined":
                self.parted = one.kind == "parted"
            case "withheld" | "granted":
                self.withheld = one.kind == "withheld"
            case "left":
                self.left = True
            case _:
                raise ValueError(f"{one.kind} says nothing of an instance")
        self.since = one.at
        if vouched and not self.vouched:
            self.unvouched_since = one.at
        elif self.vouched and not vouched:
            self.vouched_since = one.at


@dataclass
class Reader:
    """What one reader of a facade sees, and since when it can see."""

    away: bool = False
    stale: bool = False
    down: bool = False
    parted: bool = False
    #: When its facade, or that one's way to the store, last changed.
    since: float = 0.0
    #: When it last gave a list again, and when it last became stale, fresh, away or back.
    read_since: float = 0.0
    turned: float = 0.0
    shown: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, float] = field(default_factory=dict)
    epoch: str = ""
    revision: int = -1
    _since: dict[str, float] = field(default_factory=dict)

    def facade(self, one: ObservedEvent) -> None:
        """Takes in what the driver did to its facade."""
        match one.kind:
            case "facade-down" | "facade-up":
                self.down = one.kind == "facade-down"
            case _:
                self.parted = one.kind == "facade-parted"
        self.since = one.at

    def seen(self, one: ObservedEvent) -> bool:
        """Takes in whether there is a list, and what the facade says of its age.

        Returns whether that is news.
        """
        before = self.away, self.stale
        match one.kind:
            case "unread" | "read":
                self.away = one.kind == "unread"
            case _:
                self.stale = one.kind == "stale"
        if one.kind == "read":
            self.read_since = one.at
        if (self.away, self.stale) == before:
            return False
        self.turned = one.at
        return True

    def listed(self, one: ObservedEvent) -> dict[str, str]:
        """What is shown after ``one``, a list or a change."""
        if one.kind == "list":
            return dict(one.data["servers"])
        shown = dict(self.shown)
        if one.data["status"] is None:
            shown.pop(one.data["id"], None)
        else:
            shown[one.data["id"]] = one.data["status"]
        return shown

    def changed(self, id: str, at: float) -> None:
        """Another status of ``id`` has been shown."""
        self._since[id] = at

    def shown_since(self, id: str) -> float:
        """When what is shown of ``id`` was first shown."""
        return self._since.get(id, 0.0)
