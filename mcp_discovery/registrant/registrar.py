"""Keeps one registration in the store: registers, renews, registers anew, and leaves."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.heartbeats import DRAINING
from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.adapters.store_trouble import StoreTrouble
from mcp_discovery.errors import (
    DuplicateInstanceError,
    InvalidInputError,
    RegistrationLostError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load, Status, rfc3339
from mcp_discovery.instance import Holder
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.registrant.leaving import deregistered, drained
from mcp_discovery.registrant.tasks import is_set
from mcp_discovery.registrant.watcher import ProbeFinding

log = logging.getLogger(__name__)

#: The part of the time between two heartbeats after which a finding is worth one: the watcher
#: makes findings when they are due, and is a moment early now and then.
_DUE = 0.9
#: The part of that time after which the last finding is sent again where no new one has come.
_OVERDUE = 1.1
#: The longest wait while the store is away, in seconds: it is back within 5 s of its return.
_LONGEST_WAIT = 2.5
#: The longest wait while the store refuses, in seconds, lest mended credentials go unnoticed.
_LONGEST_REFUSAL = 2.5
#: Seconds between attempts to take an id over from a holder that may be dead.
_TAKE_OVER = 0.5
#: Seconds until the old record is tried where the store cannot take a changed one.
_REFLECTION = 1.0
#: Seconds that a call to the store may go on once the instance leaves.
_LAST_CALL = 0.3


class TakenOverError(RegistrationLostError):
    """Another holder has the instance now, or has removed it: it is not to be registered anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms an instance is registered. Times are in seconds.

    ``heartbeat`` lies between two heartbeats without news. That the server is healthy is sent for
    ``vouch`` seconds at most after a probe found it so. While another holder seems to keep the id,
    that one's end is awaited for ``duplicate_patience``. A registration that was lost is made anew
    after up to ``spread``, drawn at random: a store that lost one has lost them all. ``takeover``
    is the id of the holder whose place the first registration takes; ``draining`` says that the
    instance is registered as draining.
    """

    ttl: float
    reap_after: float
    heartbeat: float
    vouch: float = math.inf
    duplicate_patience: float = 0.0
    spread: float = 0.0
    takeover: str | None = None
    draining: bool = False


@dataclass(eq=False)
class Registrar:
    """One instance in one store.

    It is fed with the latest description and the latest finding, compares them with what the store
    has acknowledged, and sends what differs until that is acknowledged, too. A call that failed
    leaves open whether the store has taken it, so it is made again. All calls are made one after
    the other, by :meth:`run` and by the callers of the other methods, so that a slow store never
    holds up a probe.

    ``may_begin`` says whether the instance may be registered for the first time. ``load`` gives the
    load to report. ``may_renew`` is asked before a lost registration is made
    anew, and raises :class:`TakenOverError` where it must not be.
    """

    store: Store
    holder: Holder
    terms: Terms
    load: Callable[[], Load | None] = lambda: None
    may_renew: Callable[[], Awaitable[None]] | None = None
    may_begin: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self._takeover = self.terms.takeover
        self._lock = asyncio.Lock()  # a registration is not for concurrent use
        self._news = asyncio.Event()
        self._leaving = asyncio.Event()
        #: The latest description, and the latest finding.
        self.description: ServerDescription | None = None
        self.finding: ProbeFinding | None = None
        self._registration: Registration | None = None
        #: What the store has lost, or another has taken: of it something may be left there.
        self._lost: Registration | None = None
        #: What the store has acknowledged last; ``None`` where that is not known.
        self._acknowledged: ServerDescription | None = None
        self._acknowledged_finding: ProbeFinding | None = None
        #: The last description that the store has taken, whatever became of it.
        self._accepted: ServerDescription | None = None
        self._renewed: float | None = None  # monotonic seconds
        self._held_since: float | None = None
        self._why_not = "waiting for the MCP server"
        #: What is wrong with the store.
        self.trouble = StoreTrouble()
        #: Whether the instance is registered as draining, whatever the probes find.
        self.draining = self.terms.draining
        self._drained = False  # the store has acknowledged that
        self._rejected: InvalidInputError | None = None

    def found(self, finding: ProbeFinding) -> None:
        """Takes what a probe found; it replaces what was found before."""
        self.finding = finding
        self._news.set()

    def describe(self, description: ServerDescription) -> None:
        """Takes a new description of the server; it replaces the one before."""
        self.description = description
        self._news.set()

    def reject(self, error: InvalidInputError) -> None:
        """Takes why no description can be made of the server at all; :meth:`run` raises it."""
        self._rejected = error
        self._news.set()

    def why_not_ready(self) -> str | None:
        """Why the instance cannot be counted on to be listed; ``None`` when it can."""
        trouble = self.trouble.problem
        if self._registration is None or self._renewed is None:
            return trouble or self._why_not
        silent = time.monotonic() - self._renewed
        if silent > self.terms.ttl:
            return trouble or f"no heartbeat has arrived for {silent:.0f} s"
        return None

    # -- the loop ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the instance registered until it leaves.

        Raises :class:`~mcp_discovery.errors.DuplicateInstanceError` when another holder keeps the
        id, :class:`TakenOverError` as ``may_renew`` does, and
        :class:`~mcp_discovery.errors.InvalidInputError` when there is no first record, or none
        that the store can take.
        """
        away, refused = Backoff(0.2, _LONGEST_WAIT), Backoff(1.0, _LONGEST_REFUSAL)
        while not self.stopped:
            if self._rejected is not None:
                raise self._rejected
            self._news.clear()
            try:
                sent = await self._send_next()
            except TakenOverError:
                raise
            except RegistrationLostError as lost:
                log.warning("%s; registering anew", lost)
                if self.terms.spread:
                    await is_set(self._leaving, random.uniform(0, self.terms.spread))
            except DuplicateInstanceError as error:
                self._held(error)
                await is_set(self._leaving, _TAKE_OVER)
            except StoreUnavailableError as error:
                # A dead holder's time stands still with its store, and may start over.
                self._held_since = None
                self._failed(error)
                await self._pause_after(error, max(away.next(), error.retry_after))
            except StoreDeniedError as error:
                self._failed(error)
                await self._pause_after(error, refused.next())
            except InvalidInputError as error:
                self._unfit(error)
                await is_set(self._leaving, _REFLECTION)
            else:
                if sent:
                    away.reset()
                    refused.reset()
                    self._succeeded()
                else:
                    await is_set(self._news, self._until_overdue())

    async def _pause_after(self, error: StoreError, seconds: float) -> None:
        # What was renewed has to be again.
        at_most = self.terms.heartbeat if error.renewed else math.inf
        await is_set(self._leaving, min(seconds, at_most))

    async def _send_next(self, *, renew: bool = False) -> bool:
        """Makes the next call to the store; whether there was one to make."""
        async with self._lock:
            call = self._due(renew)
            if call is None:
                return False
            try:
                await call
            except RegistrationLostError as lost:
                self._lost, self._registration = self._registration or self._lost, None
                self._forget(str(lost))
                raise
            return True

    def _due(self, renew: bool) -> Awaitable[None] | None:
        """The next call to the store; with ``renew`` a heartbeat is due in any case."""
        description, finding = self.description, self.finding
        if self.stopped or description is None or finding is None:
            return None
        now = time.monotonic()
        status = finding.health.status
        fresh = now - finding.at <= self.terms.vouch
        if status is Status.HEALTHY and not fresh:
            return None  # too long ago to vouch for
        if self._registration is None:
            if self._accepted is None and (status is Status.DOWN or not self.may_begin()):
                return None
            return self._register()
        if self.draining and not self._drained:
            return self._drain(self._registration)
        last = self._acknowledged_finding
        changed = last is None or finding.health != last.health
        late = self._renewed is None or now - self._renewed >= _DUE * self.terms.heartbeat
        # That the server is not well is sent again without a fresh finding: the registrant lives,
        # and the server may take its time to return, or want to be left alone.
        repeatable = finding is not last or fresh or status is not Status.HEALTHY
        if changed or renew or (late and repeatable):
            return self._heartbeat(self._registration, finding)
        if description is self._acknowledged:
            return None
        if (accepted := self._accepted) is not None:
            new, old = description.record, accepted.record
            if (new.id, new.name) != (old.id, old.name):
                return self._move(self._registration)
        return self._update(self._registration, description)

    def _until_overdue(self) -> float:
        """Seconds until the next heartbeat is overdue, if no finding comes before."""
        heartbeat = self.terms.heartbeat
        if self._renewed is None:
            return heartbeat
        left = self._renewed + _OVERDUE * heartbeat - time.monotonic()
        return left if left > 0 else heartbeat

    # -- calls to the store, each inside the lock -----------------------------------------------

    async def _register(self) -> None:
        description, finding = self.description, self.finding
        assert description is not None and finding is not None
        if self._lost is not None and self.may_renew is not None:
            await self.may_renew()
        health = self._told(finding.health)
        if self.draining:  # from the first moment on; the next call makes that last
            health = health.then(Status.DRAINING, DRAINING)
        sent = time.monotonic()
        self._acknowledged = self._acknowledged_finding = None
        self._drained = False
        registration = await self.store.register(
            description.record,
            description.document,
            ttl=self.terms.ttl,
            reap_after=self.terms.reap_after,
            health=health,
            holder=self.holder,
            takeover=self._takeover,
        )
        self._registration = registration
        self._acknowledged = self._accepted = description
        self._acknowledged_finding, self._renewed = finding, sent
        self._held_since = self._lost = self._takeover = None
        endpoint = description.record.endpoint
        where = endpoint.url or endpoint.command
        log.info("registered %s as %s in %s", registration.id, where, self.store.url)

    async def _update(self, registration: Registration, description: ServerDescription) -> None:
        self._acknowledged = None
        await registration.update(description.record, description.document)
        self._acknowledged = self._accepted = description
        digest = description.document.digest
        log.info("updated %s: its document is %s", registration.id, digest[:12])

    async def _move(self, registration: Registration) -> None:
        """Another server has taken the place of the one that is registered; its turn is next."""
        await registration.deregister()
        log.info("deregistered %s: the MCP server has another name now", registration.id)
        self._registration = None
        self._forget("the MCP server has another name now")

    async def _drain(self, registration: Registration) -> None:
        await registration.drain()
        self._drained = True

    async def _heartbeat(self, registration: Registration, finding: ProbeFinding) -> None:
        sent = time.monotonic()
        self._acknowledged_finding = None
        try:
            await registration.heartbeat(self._told(finding.health), self.load())
        except StoreError as error:
            if error.renewed:
                self._renewed = sent
            raise
        self._acknowledged_finding, self._renewed = finding, sent

    # -- what others ask for ---------------------------------------------------------------------

    async def register(self) -> None:
        """Registers now, with what is known, and in the place of what was registered before.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises.
        """
        async with self._lock:
            await self._register()

    async def revise(self, description: ServerDescription, *, draining: bool) -> None:
        """Registers another description of the same server in the place of this one.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and nothing has
        changed then.
        """
        async with self._lock:
            if self.stopped:
                raise RegistrationLostError(description.record.id, "it was removed in the meantime")
            before = self.description, self.draining
            self.description, self.draining = description, draining
            try:
                await self._register()
            except BaseException:
                self.description, self.draining = before
                self._news.set()  # whether the store has taken it in, nobody knows
                raise

    async def publish(self) -> None:
        """Sends a heartbeat now, and all that the store does not have yet.

        Raises what the calls to the store raise, except that a registration which the store has
        lost is made anew at once.
        """
        renew = True
        while True:
            try:
                if not await self._send_next(renew=renew):
                    return
            except TakenOverError:
                raise
            except RegistrationLostError as lost:
                log.info("%s; registering anew", lost)
                if not renew:
                    raise
            except InvalidInputError as error:
                self._unfit(error)
            renew = False

    async def drain(self) -> None:
        """Marks the instance as draining until it is registered with something else."""
        async with self._lock:
            if self._registration is None:
                await self._register()
            assert self._registration is not None
            await self._drain(self._registration)
            self.draining = True

    async def deregister(self) -> None:
        """Takes the instance out of the store, and stops; nothing has changed where it raises."""
        async with self._lock:
            if self._registration is not None:
                await self._registration.deregister()
            self.stop()

    async def let_go(self) -> None:
        """Another holds the instance now: stops, and takes away what is left of this registration.

        What the other registered stays, as
        :meth:`mcp_discovery.adapters.store.Registration.deregister` says.
        """
        async with self._lock:
            self.stop()
            left = self._registration or self._lost
            if left is not None:
                await _let_go(left)

    @asynccontextmanager
    async def suspended(self) -> AsyncIterator[None]:
        """While another takes its place: no calls inside, and none after it went well."""
        async with self._lock:
            yield
            self.stop()

    @property
    def stopped(self) -> bool:
        """Whether it makes no more calls."""
        return self._leaving.is_set()

    def stop(self) -> None:
        """Makes no more calls; the registration is left to its TTL."""
        self._leaving.set()
        self._news.set()

    async def leave(self, running: asyncio.Task[None], drain: float, hurry: asyncio.Event) -> None:
        """Drains for ``drain`` seconds, until ``hurry``, or until another takes its place, and
        deregisters.

        ``running`` is the task of :meth:`run`, which ends first. Takes at most a second more than
        ``drain``, even when the store is away: then TTL does the rest.
        """
        end = time.monotonic() + drain
        self.stop()
        _, pending = await asyncio.wait({running}, timeout=_LAST_CALL)
        if pending:
            running.cancel()
            await asyncio.wait({running})
        registration, finding = self._registration, self.finding
        if registration is None or finding is None:
            if self._lost is not None:  # as far as anything of it is left
                await deregistered(self._lost, hurry, answers=False)
            return
        self._registration = None
        self._forget("draining")
        try:
            answers = await drained(registration, finding.health, end, hurry)
        except RegistrationLostError as lost:
            # What lapsed left its record, which would be listed as down; what was taken over stays.
            log.info("%s; it need not be drained any longer", lost)
            await deregistered(registration, hurry, answers=False, end=end)
        else:
            await deregistered(registration, hurry, answers=answers)

    # -- inside ----------------------------------------------------------------------------------

    def _told(self, health: Health) -> Health:
        """``health``, with the end of the store's credentials in its reason where that is near:
        whoever reads the list sees it before the instance goes down."""
        end = self.store.credentials_end
        if end is None or not end.near or health.status is Status.DOWN:
            return health
        reason = f"{health.reason}; its registrant's store token expires at {rfc3339(end.at)}"
        return replace(health, reason=reason)

    def _forget(self, why: str) -> None:
        self._acknowledged = self._acknowledged_finding = None
        self._why_not = why

    def _held(self, error: DuplicateInstanceError) -> None:
        """Waits for the holder's end, for as long as a dead one can still look alive."""
        now = time.monotonic()
        patience = self.terms.duplicate_patience
        if patience:
            patience = max(patience, error.looks_alive)
        self._why_not = str(error)
        if not patience or (self._held_since is not None and now - self._held_since > patience):
            raise error
        if self._held_since is None:
            self._held_since = now
            log.warning("%s; waiting %g s for it to fall silent", error, patience)

    def _failed(self, error: StoreError) -> None:
        if not self.trouble.take(error):
            return
        what = "refuses" if isinstance(error, StoreDeniedError) else "is away"
        still = (
            "; the registration is renewed all the same, and listed as it is: no change reaches it"
            if error.renewed
            else ""
        )
        log.warning("the store %s, trying on: %s%s", what, error, still)

    def _succeeded(self) -> None:
        if self.trouble.over():
            log.info("the store %s answers again", self.store.url)

    def _unfit(self, error: InvalidInputError) -> None:
        if self._accepted is None:
            raise error
        log.error("the store cannot take the changed record, the old one stays: %s", error)
        self.description = self._accepted


async def _let_go(registration: Registration) -> None:
    """Takes away what is left of a registration in whose place another stands, such as a service at
    another agent; that other one stays."""
    try:
        await registration.deregister()
    except StoreError as error:  # it is left to its TTL
        log.debug("letting go of %s: %s", registration.id, error)
