"""What a registration last told its store, and when: the heartbeat logic all stores share."""

from __future__ import annotations

import time
from dataclasses import replace

from mcp_discovery.errors import RegistrationLost
from mcp_discovery.health import Health, Load, Status

#: Load is written when a figure moved by more than this part of itself …
LOAD_MOVED = 0.1
#: … and at most once in this many seconds.
LOAD_EVERY = 5.0

#: Heartbeats look so often, in seconds, whether the store still has all that was written: keys can
#: vanish from under a lease or a check that lives on. With the pause between two heartbeats, their
#: registrant knows within 5 s.
LOOK_EVERY = 2.0

#: The reason of a draining instance.
DRAINING = "draining: leaves soon"


class Pulse:
    """The heartbeats of one registration.

    Usage in ``heartbeat``: :meth:`require_alive`; renew the lease; if :meth:`to_write` gives a
    health or load that differs from what the store has, write both; then :meth:`beat`.
    """

    def __init__(self, id: str, ttl: float, health: Health) -> None:
        self._id = id
        self._ttl = ttl
        self._written: tuple[Health, Load | None] = (health, None)
        self._load_written = time.monotonic()
        self._draining = False
        #: Seconds from one look at what the store still has to the next.
        self.look_every = min(LOOK_EVERY, 0.9 * ttl)
        self._last = time.monotonic()

    @property
    def health(self) -> Health:
        """The health that the store has."""
        return self._written[0]

    @property
    def load(self) -> Load | None:
        """The load that the store has."""
        return self._written[1]

    def require_alive(self) -> None:
        """Raises :class:`RegistrationLost` when the last beat is longer ago than TTL.

        The monotonic clock goes on while a process is stopped: one that wakes up after its TTL
        must not renew what another may have taken over.
        """
        silent = time.monotonic() - self._last
        if silent > self._ttl:
            raise RegistrationLost(
                self._id,
                f"no heartbeat arrived for {silent:.1f} s, over its TTL of {self._ttl:g} s",
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

    def beat(self, sent: float) -> None:
        """A heartbeat that was sent at ``sent`` (``time.monotonic()``) has arrived."""
        self._last = sent

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
