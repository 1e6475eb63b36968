"""Health and load of an instance: what changes often."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The states of an instance. Only ``healthy`` is offered unless more is asked for.

    ``quarantined`` is shown by a facade whose rules it breaks; no store has it, and it is offered
    to nobody.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DRAINING = "draining"
    DOWN = "down"
    QUARANTINED = "quarantined"


#: The states, those first in which an instance is the most useful.
PREFERENCE: Final = tuple(Status)
#: How many bad answers in a row may be asked for until a server is ``down``.
FAIL_AFTER = range(1, 101)
#: The reason of a healthy instance. It is constant, so that heartbeats write nothing to the store.
ANSWERS = "answers MCP"
#: The same of an A2A agent.
ANSWERS_A2A = "answers A2A"


def utcnow() -> datetime:
    """The current time in UTC, in whole milliseconds, the precision of :func:`rfc3339`."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """``moment`` in UTC as RFC 3339 with milliseconds and a ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_SILENT = "no heartbeat for "
_UNREACHABLE = " is unreachable"


def silent_for(seconds: float) -> str:
    """The reason of an instance without heartbeats for its TTL, the same in every store."""
    return f"{_SILENT}{seconds:g} s"


def unreachable(node: str) -> str:
    """The reason of an instance on a node that its store cannot reach."""
    return f"node {node}{_UNREACHABLE}"


@dataclass(frozen=True, slots=True)
class Health:
    """The health of an instance.

    ``since`` is when this status began; ``last_seen`` is when the instance last sent a heartbeat or
    answered a probe. Values that differ only in ``last_seen`` are equal: that is no visible change.
    """

    status: Status
    reason: str
    since: datetime = field(default_factory=utcnow)
    last_seen: datetime = field(default_factory=utcnow, compare=False)

    @property
    def silent(self) -> bool:
        """Whether it is ``down`` for lack of heartbeats; see :func:`silent_for`."""
        return self.status is Status.DOWN and self.reason.startswith(_SILENT)

    @property
    def unheard(self) -> bool:
        """Whether it is ``down`` because nobody hears of it: silent, or on a node that is cut off;
        not because its registrant says so."""
        return self.silent or (self.status is Status.DOWN and self.reason.endswith(_UNREACHABLE))

    def then(self, status: Status, reason: str, *, heard: bool = True) -> Health:
        """The next health, from now on; ``since`` stays the same while the status does.

        ``heard`` tells whether the instance itself caused it, which sets ``last_seen``.
        """
        now = utcnow()
        return replace(
            self,
            status=status,
            reason=reason,
            since=self.since if status is self.status else now,
            last_seen=now if heard else self.last_seen,
        )


def healthy() -> Health:
    """Healthy from now on."""
    return Health(Status.HEALTHY, ANSWERS)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How much one tool was used since its server began to count, and how long that took.

    ``latency`` is the mean of the last minutes in seconds.
    """

    name: str
    requests: int
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Optional figures that an instance reports; unknown ones are ``None``.

    ``active`` is the number of requests in flight, ``capacity`` the largest number that it accepts,
    ``rate`` requests per minute, ``latency`` and ``p95`` seconds, ``error_rate`` from 0 to 1.
    ``requests`` counts all since the instance began to count; ``tools`` are those that were called
    most, :func:`most_used` of them. ``memory`` is the resident memory of its processes in bytes,
    ``cpu`` the processor time that they take, as a share of one core (1.5 is one core and a half),
    ``running`` whether its process runs.
    """

    active: int | None = None
    capacity: int | None = None
    rate: float | None = None
    latency: float | None = None
    p95: float | None = None
    error_rate: float | None = None
    requests: int | None = None
    memory: int | None = None
    cpu: float | None = None
    running: bool | None = None
    tools: tuple[ToolUse, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How much of its capacity is in use, from 0 to 1, where that is known."""
        if self.active is None or not self.capacity:
            return None
        return min(1.0, self.active / self.capacity)


#: How many tools a load names, and how many characters their names may have together: a store that
#: keeps the load beside the health has little room.
MOST_TOOLS, _MOST_NAMES = 16, 512


def most_used(tools: Iterable[ToolUse]) -> tuple[ToolUse, ...]:
    """Those of ``tools`` that a load can name, the most used first."""
    named, room = [], _MOST_NAMES
    plain = (each for each in tools if each.name.isprintable())
    for each in sorted(plain, key=lambda each: (-each.requests, each.name))[:MOST_TOOLS]:
        room -= len(each.name.encode())
        if room >= 0:
            named.append(each)
    return tuple(named)
