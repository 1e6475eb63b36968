"""Health and load of an instance: the part of the vocabulary that changes often."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum


class Status(StrEnum):
    """The four states of an instance. Only ``healthy`` is offered unless more is asked for."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DRAINING = "draining"
    DOWN = "down"


#: The reason of an instance with nothing to complain of. Constant, so that it never churns a store.
ANSWERS = "answers MCP"


def utcnow() -> datetime:
    """The current time, aware, UTC, in whole milliseconds: what :func:`rfc3339` can carry."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """``moment`` in UTC as RFC 3339 with milliseconds and a ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_SILENT = "no heartbeat for "


def silent_for(seconds: float) -> str:
    """The reason of an instance whose heartbeats stopped, the same over every store."""
    return f"{_SILENT}{seconds:g} s"


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an instance's health.

    ``since`` is when this status began; ``last_seen`` is when the instance was last heard of. Two
    values that differ only in ``last_seen`` are equal: being heard of again is no visible change.
    """

    status: Status
    reason: str
    since: datetime = field(default_factory=utcnow)
    last_seen: datetime = field(default_factory=utcnow, compare=False)

    @property
    def silent(self) -> bool:
        """Whether it is ``down`` because nobody is heard any more; see :func:`silent_for`."""
        return self.status is Status.DOWN and self.reason.startswith(_SILENT)

    def then(self, status: Status, reason: str, *, heard: bool = True) -> Health:
        """The health after this one: ``since`` stays while the status does.

        ``heard`` says whether the instance itself was heard of just now.
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
class Load:
    """Optional figures that an instance reports; what is not known is ``None``, never invented.

    ``active`` requests in flight, ``capacity`` the number it wants at most, ``rate`` requests per
    minute, ``latency`` and ``p95`` seconds, ``error_rate`` from 0 to 1.
    """

    active: int | None = None
    capacity: int | None = None
    rate: float | None = None
    latency: float | None = None
    p95: float | None = None
    error_rate: float | None = None
