"""Keeps the registration in the store: registers, renews, registers anew, and leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.store import Registration, Store, new_holder
from mcp_discovery.errors import (
    DuplicateInstanceError,
    InvalidInputError,
    RegistrationLostError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from mcp_discovery.health import Status
from mcp_discovery.sidecar.describe import Description
from mcp_discovery.sidecar.leaving import deregistered, drained
from mcp_discovery.sidecar.settings import Settings
from mcp_discovery.sidecar.tasks import happens
from mcp_discovery.sidecar.watchdog import Finding

log = logging.getLogger(__name__)

#: The part of the time between two heartbeats after which a finding is worth one: the watchdog
#: makes findings when they are due, and is a moment early now and then.
_DUE = 0.9
#: The longest wait while the store is away: it is back within 5 s of the store's return.
_LONGEST_WAIT = 2.5
#: The longest wait while the store refuses: it is back as soon after the credentials are mended.
_LONGEST_REFUSAL = 2.5
#: Seconds between attempts to take an id over, and how long after TTL its holder is surely alive.
_TAKE_OVER = 0.5
_SURELY = 3.0
#: Seconds until the old record is tried where the store cannot take a changed one.
_REFLECTION = 1.0
#: How long a call that is under way may go on once we leave.
_LAST_CALL = 0.3


class Registrar:
    """One instance in one store.

    It is fed with the latest description and the latest finding, whichever came last of each, and
    talks to the store in one task, so that a slow store never holds up a probe.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._holder = new_holder("sidecar")
        self._beat_every = settings.beat_every
        self._news = asyncio.Event()
        self._leaving = asyncio.Event()
        self._description: Description | None = None
        self._finding: Finding | None = None
        self._registration: Registration | None = None
        self._registered: Description | None = None
        self._told: Finding | None = None  # the last that the store took
        self._beaten: float | None = None
        self._accepted: Description | None = None
        self._held_since: float | None = None
        self._why_not = "waiting for the MCP server"
        self._store_trouble: str | None = None

    def found(self, finding: Finding) -> None:
        """Takes what a probe found; it replaces what was found before."""
        self._finding = finding
        self._news.set()

    def describe(self, description: Description) -> None:
        """Takes a new description of the server; it replaces the one before."""
        self._description = description
        self._news.set()

    def why_not_ready(self) -> str | None:
        """Why the instance cannot be counted on to be listed; ``None`` when it can."""
        if self._registration is None or self._beaten is None:
            return self._store_trouble or self._why_not
        silent = time.monotonic() - self._beaten
        if silent > self._settings.ttl:
            return self._store_trouble or f"no heartbeat has arrived for {silent:.0f} s"
        return None

    async def run(self) -> None:
        """Keeps the instance registered until :meth:`leave` is called.

        Raises :class:`~mcp_discovery.errors.DuplicateInstanceError` when another holder keeps the
        id, and :class:`~mcp_discovery.errors.InvalidInputError` when the store cannot take the
        first record.
        """
        away, refused = Backoff(0.2, _LONGEST_WAIT), Backoff(1.0, _LONGEST_REFUSAL)
        while not self._leaving.is_set():
            self._news.clear()
            if (step := self._due()) is None:
                await happens(self._news, self._beat_every)
                continue
            try:
                await step
            except RegistrationLostError as lost:
                log.warning("%s; registering anew", lost)
                self._forget(str(lost))
            except DuplicateInstanceError as error:
                self._held(error)
                await happens(self._leaving, _TAKE_OVER)
            except StoreUnavailableError as error:
                # A dead holder's time stands still with its store, and may start over.
                self._held_since = None
                self._failed(error)
                await happens(self._leaving, away.next())
            except StoreDeniedError as error:
                self._failed(error)
                await happens(self._leaving, refused.next())
            except InvalidInputError as error:
                self._unfit(error)
                await happens(self._leaving, _REFLECTION)
            else:
                away.reset()
                refused.reset()
                self._succeeded()

    def _due(self) -> Awaitable[None] | None:
        """What to tell the store now."""
        description, finding = self._description, self._finding
        if description is None or finding is None:
            return None
        now = time.monotonic()
        if finding.health.status is Status.HEALTHY and now - finding.at > self._settings.interval:
            return None  # Too long ago to vouch for: the next probe will say.
        registration = self._registration
        if registration is None:
            if self._accepted is None and finding.health.status is Status.DOWN:
                return None
            return self._register(description, finding)
        changed = self._told is None or finding.health != self._told.health
        again = self._beaten is None or now - self._beaten >= _DUE * self._beat_every
        # Only that it is down needs no new finding to be said again: the sidecar lives, the server
        # may take its time to return.
        news = finding is not self._told or finding.health.status is Status.DOWN
        if changed or (again and news):
            return self._beat(registration, finding)
        if description is self._registered:
            return None
        if self._registered is not None and not _same_place(self._registered, description):
            return self._move(registration)
        return self._update(registration, description)

    async def _register(self, description: Description, finding: Finding) -> None:
        sent = time.monotonic()
        registration = await self._store.register(
            description.record,
            description.document,
            ttl=self._settings.ttl,
            reap_after=self._settings.reap_after,
            health=finding.health,
            holder=self._holder,
        )
        self._registration = registration
        self._registered = self._accepted = description
        self._told, self._beaten = finding, sent
        self._held_since = None
        endpoint = description.record.endpoint
        log.info("registered %s as %s in %s", registration.id, endpoint.url, self._store.url)

    async def _update(self, registration: Registration, description: Description) -> None:
        await registration.update(description.record, description.document)
        self._registered = self._accepted = description
        digest = description.document.digest
        log.info("updated %s: its document is %s", registration.id, digest[:12])

    async def _move(self, registration: Registration) -> None:
        """Another server has taken the place of the one that is registered; its turn is next."""
        await registration.deregister()
        log.info("deregistered %s: the MCP server has another name now", registration.id)
        self._forget("the MCP server has another name now")

    async def _beat(self, registration: Registration, finding: Finding) -> None:
        sent = time.monotonic()
        await registration.heartbeat(finding.health)
        self._told, self._beaten = finding, sent

    def _forget(self, why: str) -> None:
        self._registration = self._registered = self._told = None
        self._why_not = why

    def _held(self, error: DuplicateInstanceError) -> None:
        """Waits for the holder's end, for as long as a dead one can still look alive."""
        now = time.monotonic()
        patience = self._settings.ttl + _SURELY
        self._why_not = str(error)
        if self._held_since is None:
            self._held_since = now
            log.warning("%s; waiting %g s for it to fall silent", error, patience)
        elif now - self._held_since > patience:
            raise error

    def _failed(self, error: StoreError) -> None:
        if self._store_trouble != str(error):
            self._store_trouble = str(error)
            what = "refuses" if isinstance(error, StoreDeniedError) else "is away"
            log.warning("the store %s, trying on: %s", what, error)

    def _succeeded(self) -> None:
        if self._store_trouble is not None:
            self._store_trouble = None
            log.info("the store %s answers again", self._store.url)

    def _unfit(self, error: InvalidInputError) -> None:
        if self._accepted is None:
            raise error
        log.error("the store cannot take the changed record, the old one stays: %s", error)
        self._description = self._accepted

    async def leave(self, running: asyncio.Task[None], drain: float, hurry: asyncio.Event) -> None:
        """Drains for ``drain`` seconds, or until ``hurry``, and deregisters.

        ``running`` is the task of :meth:`run`, which ends first. Takes at most a second more than
        ``drain``, even when the store is away: then TTL does the rest.
        """
        end = time.monotonic() + drain
        self._leaving.set()
        self._news.set()
        _, pending = await asyncio.wait({running}, timeout=_LAST_CALL)
        if pending:
            running.cancel()
            await asyncio.wait({running})
        registration, finding = self._registration, self._finding
        if registration is None or finding is None:
            return
        self._forget("draining")
        try:
            answers = await drained(registration, finding.health, end, hurry)
        except RegistrationLostError as lost:
            log.warning("%s; nothing is left to deregister", lost)
        else:
            await deregistered(registration, answers=answers)


def _same_place(one: Description, other: Description) -> bool:
    """Whether one registration can go over to the other: its id and name stay what they are."""
    return (one.record.id, one.record.name) == (other.record.id, other.record.name)
