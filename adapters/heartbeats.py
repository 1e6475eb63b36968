"""The heartbeat schedule of one registration: when to renew, when to verify, what to write.

All stores share it. A heartbeat with unchanged health and load costs one request: either it renews
the lease, or it verifies that the store still has what was written. Both are needed: keys can be
deleted while their lease or check lives on. The contract is in
:meth:`mcp_discovery.adapters.store.Registration.heartbeat`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import fields, replace

from mcp_discovery.adapters.store import prepared
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import Health, Load, Status
from mcp_discovery.instance import Instance
from mcp_discovery.record import Record

#: A load is written when one of its figures moved by more than this part of its value and it was
#: last written this many seconds ago …
LOAD_MOVED, LOAD_SELDOM = 0.1, 30.0
#: … or one moved by more than that part, appeared or vanished, and the last write of health or load
#: is that many seconds old, …
LOAD_LEAPT, LOAD_EVERY = 0.5, 5.0
#: … which may happen so often in a row, and then once in :data:`LOAD_SELDOM`: a load that never
#: rests must not wake every watcher all the time.
LOAD_LEAPS = 6.0
#: By how much a figure moves without being worth a word, whatever part of it that is.
_NOISE: Mapping[str, float] = {
    "rate": 0.5,
    "latency": 0.001,
    "p95": 0.001,
    "error_rate": 0.005,
    "memory": 4 << 20,
    "cpu": 0.03,
}
#: What clients are sent by: to it a move is a leap.
_EAGER = frozenset(("active",))
#: The figures that are compared; the tools' go with the others.
_COMPARED = tuple(each.name for each in fields(Load) if each.name != "tools")

#: A lease is renewed before this part of its TTL has passed, so that one late renewal does not
#: lose it.
RENEW_WITHIN = 0.4
#: What was written is verified before this many seconds, or this part of the TTL, have passed, so
#: that a registrant learns within 5 s, whatever its TTL, that the store has lost something.
VERIFY_WITHIN = 4.0
_VERIFY_WITHIN_TTL = 0.9

#: The reason of a draining instance.
DRAINING = "draining: leaves soon"


class HeartbeatSchedule:
    """What a registration last wrote to its store, and when it last renewed and verified.

    A store's ``heartbeat`` first calls :meth:`require_alive`. If :meth:`to_write` returns values,
    it writes them and renews the lease; otherwise it does what :meth:`due` says. It reports what
    it has done with :meth:`written`, :meth:`renewed` and :meth:`verified`.
    """

    def __init__(self, id: str, ttl: float, health: Health) -> None:
        self._id = id
        self._ttl = ttl
        #: The health and the load that were last written.
        self.health = health
        self.load: Load | None = None
        self._unconfirmed = False  # whether the last write was begun and has not been confirmed
        self._draining = False
        self._verify_within = min(VERIFY_WITHIN, _VERIFY_WITHIN_TTL * ttl)
        now = time.monotonic()
        self._any_written = self._renewed = self._verified = self._last = now
        self._load_written, self._leaps = now, LOAD_LEAPS

    def require_alive(self) -> None:
        """Raises :class:`RegistrationLostError` when more than TTL has passed since the last
        renewal.

        The monotonic clock goes on while a process is suspended: one that resumes after its TTL
        must not renew what another may have registered since.
        """
        silent = time.monotonic() - self._renewed
        if silent > self._ttl:
            raise RegistrationLostError(
                self._id,
                f"it was not renewed for {silent:.1f} s, over its TTL of {self._ttl:g} s",
            )

    def drain(self) -> Health:
        """Makes the instance ``draining`` for good and returns the health to write.

        If that write fails, the next heartbeat repeats it.
        """
        self._draining = True
        return self.health.then(Status.DRAINING, DRAINING)

    def to_write(self, health: Health, load: Load | None) -> tuple[Health, Load | None] | None:
        """The health and load to write for this heartbeat; ``None`` if the store has them already.

        While the status stays, ``since`` keeps its first value, whatever ``health.since`` is.
        After a write that :meth:`written` has not confirmed, it is unknown what the store has, so
        it is written again.
        """
        if self._draining:
            health = self.drain()
        if health.status is self.health.status:
            health = replace(health, since=self.health.since)
        if (
            health == self.health
            and not self._unconfirmed
            and (load is None or not self._is_news(load))
        ):
            return None
        self._unconfirmed = True
        return health, load if load is not None else self.load

    def flatters(self, health: Health) -> bool:
        """Whether what was written last is better than ``health``, which could not be written."""
        statuses = list(Status)
        return statuses.index(self.health.status) < statuses.index(health.status)

    def written(self, health: Health, load: Load | None) -> None:
        """The store has taken this health and load."""
        now = time.monotonic()
        if load != self.load:
            self._leaps, self._load_written = max(0.0, self._leaps_at(now) - 1.0), now
        self.health, self.load = health, load
        self._unconfirmed = False
        self._any_written = now

    def due(self, now: float, *, renew: bool = False, other: bool = False) -> tuple[bool, bool]:
        """Whether a heartbeat at ``now`` (``time.monotonic()``) that writes nothing has to renew,
        and whether it has to verify.

        The next heartbeat is expected after the same interval as this one. What cannot wait for it
        is due now, and so is a renewal if ``renew`` is true; if neither is due, it is the one that
        was done longer ago, unless this heartbeat has some ``other`` request to make.
        """
        next_heartbeat = now + (now - self._last)
        self._last = now
        renew = renew or next_heartbeat - self._renewed > RENEW_WITHIN * self._ttl
        verify = next_heartbeat - self._verified > self._verify_within
        if not (renew or verify or other):
            renew = self._renewed <= self._verified
            verify = not renew
        return renew, verify

    def renewed(self, sent: float) -> None:
        """The store has confirmed a renewal that was sent at ``sent`` (``time.monotonic()``)."""
        self._renewed = sent

    def verified(self, sent: float) -> None:
        """A verification that began at ``sent`` has found everything as it was written."""
        self._verified = sent

    def distrust(self) -> None:
        """The store has refused something: each heartbeat verifies until one finds all well."""
        self._verified = -math.inf

    def _is_news(self, load: Load) -> bool:
        now = time.monotonic()
        if now - self._any_written < LOAD_EVERY:
            return False
        moved = 1.0 if self.load is None else _moved(self.load, load)
        if moved > LOAD_LEAPT and self._leaps_at(now) >= 1.0:
            return True
        return moved > LOAD_MOVED and now - self._load_written >= LOAD_SELDOM

    def _leaps_at(self, now: float) -> float:
        return min(LOAD_LEAPS, self._leaps + (now - self._load_written) / LOAD_SELDOM)


class ScheduledRegistration:
    """Base of registrations; see :class:`mcp_discovery.adapters.store.Registration`."""

    def __init__(self, instance: Instance) -> None:
        self.id = instance.id
        self._lease = instance.lease
        self._heartbeats = HeartbeatSchedule(self.id, self._lease.ttl, instance.health)

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        """See :meth:`mcp_discovery.adapters.store.Registration.update`."""
        self._heartbeats.require_alive()
        terms = {"ttl": self._lease.ttl, "reap_after": self._lease.reap_after}
        await self._update(prepared(record, document, **terms, id=self.id), document)

    async def drain(self) -> None:
        """See :meth:`mcp_discovery.adapters.store.Registration.drain`."""
        self._heartbeats.require_alive()
        await self._write(self._heartbeats.drain(), self._heartbeats.load)

    async def _update(self, record: Record, document: CapabilityDocument) -> None:
        raise NotImplementedError

    async def _write(self, health: Health, load: Load | None) -> None:
        raise NotImplementedError


def _moved(old: Load, new: Load) -> float:
    """By which part of its value the figure moved that moved most; 1 for one that came or went."""
    most = 0.0
    for name in _COMPARED:
        before, after = getattr(old, name), getattr(new, name)
        if before is None or after is None:
            most = max(most, float(before is not after))
        elif (by := abs(after - before)) > _NOISE.get(name, 0.0):
            part = by / max(abs(before), abs(after))
            most = max(most, 1.0 if name in _EAGER and part > LOAD_MOVED else part)
    return most
