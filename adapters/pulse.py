"""What a registration last told its store, and when: the heartbeat logic all stores share.

A heartbeat that has nothing new to tell is one request. It renews the lease, or it looks whether
the store still has all that was written: keys can vanish from under a lease or a check that lives
on. Where heartbeats come every sixth of TTL, as a sidecar's do, the two alternate.
"""

from __future__ import annotations

import time
from dataclasses import replace

from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import Health, Load, Status

#: Load is written when a figure moved by more than this part of itself …
LOAD_MOVED = 0.1
#: … and at most once in this many seconds.
LOAD_EVERY = 5.0

#: A lease is renewed before this part of TTL has passed, lest one late renewal cost it.
RENEW_WITHIN = 0.4
#: The store is looked at before so many seconds have passed, or this part of TTL: whoever
#: registered knows within 5 s, whatever the TTL, that the store has lost something.
LOOK_WITHIN = 4.0
_LOOK_WITHIN_TTL = 0.9

#: The reason of a draining instance.
DRAINING = "draining: leaves soon"


class Pulse:
    """The heartbeats of one registration.

    Usage in ``heartbeat``: :meth:`require_alive`; if :meth:`to_write` gives a health or load that
    differs from what the store has, write both and renew the lease; otherwise renew it or look at
    what was written, as :meth:`due` says. :meth:`renewed` and :meth:`looked` follow what was done.
    """

    def __init__(self, id: str, ttl: float, health: Health) -> None:
        self._id = id
        self._ttl = ttl
        self._written: tuple[Health, Load | None] = (health, None)
        self._load_written = time.monotonic()
        self._draining = False
        self._look_within = min(LOOK_WITHIN, _LOOK_WITHIN_TTL * ttl)
        self._renewed = self._looked = self._beaten = time.monotonic()

    @property
    def health(self) -> Health:
        """The health that the store has."""
        return self._written[0]

    @property
    def load(self) -> Load | None:
        """The load that the store has."""
        return self._written[1]

    def require_alive(self) -> None:
        """Raises :class:`RegistrationLostError` when the lease was last renewed longer ago than
        TTL.

        The monotonic clock goes on while a process is stopped: one that wakes up after its TTL
        must not renew what another may have taken over.
        """
        silent = time.monotonic() - self._renewed
        if silent > self._ttl:
            raise RegistrationLostError(
                self._id,
                f"it was not renewed for {silent:.1f} s, over its TTL of {self._ttl:g} s",
            )

    def drain(self) -> Health:
        """From now on the instance is draining; returns the health to write.

        Should that write fail, the next heartbeat makes up for it.
        """
        self._draining = True
        return self._written[0].then(Status.DRAINING, DRAINING)

    def to_write(self, health: Health, load: Load | None) -> tuple[Health, Load | None] | None:
        """What to write for this heartbeat; ``None`` when the store has it already.

        A status that stays began when it first did, whatever ``health.since`` says.
        """
        if self._draining:
            health = self.drain()
        written_health, written_load = self._written
        if health.status is written_health.status:
            health = replace(health, since=written_health.since)
        if health != written_health:
            return health, load if load is not None else written_load
        if load is not None and self._load_moved(load):
            return health, load
        return None

    def wrote(self, health: Health, load: Load | None) -> None:
        """The store took this health and load."""
        self._written = (health, load)
        self._load_written = time.monotonic()

    def due(self, now: float, *, renew: bool = False) -> tuple[bool, bool]:
        """What a heartbeat at ``now`` (``time.monotonic()``) without news does: renew, look.

        One of them, the one that was done longer ago; both where neither can wait for the next
        heartbeat, which is taken to come as late as this one did. ``renew``: it does in any case.
        """
        next_one = now + (now - self._beaten)
        self._beaten = now
        renew = renew or next_one - self._renewed > RENEW_WITHIN * self._ttl
        look = next_one - self._looked > self._look_within
        if not (renew or look):
            renew = self._renewed <= self._looked
            look = not renew
        return renew, look

    def renewed(self, sent: float) -> None:
        """A renewal that was sent at ``sent`` (``time.monotonic()``) has arrived."""
        self._renewed = sent

    def looked(self, sent: float) -> None:
        """A look at what was written, begun at ``sent``, has found it in order."""
        self._looked = sent

    def _load_moved(self, load: Load) -> bool:
        if time.monotonic() - self._load_written < LOAD_EVERY:
            return False
        old = self._written[1]
        if old is None:
            return True
        return any(
            _moved(getattr(old, name), getattr(load, name)) for name in Load.__dataclass_fields__
        )


def _moved(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > LOAD_MOVED * max(abs(old), abs(new))
