"""One posted entry: the facade is its registrant, probes it and renews it in the store."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.heartbeats import DRAINING
from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.adapters.tombstone import is_tombstone
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DuplicateInstanceError,
    InvalidDocumentError,
    InvalidRecordError,
    RegistrationLostError,
    StoreError,
)
from mcp_discovery.facade.connections.traits import Traits, traits_of
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.registration.examination import Examiner, Finding
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder, Instance
from mcp_discovery.probe import Introspection
from mcp_discovery.probe.offer import Offer
from mcp_discovery.record import Record

log = logging.getLogger(__name__)

#: The reason until the first probe has ended.
NOT_PROBED = "not probed yet"
#: The reason of an entry that was posted with its health checks switched off.
UNPROBED = "not probed: its health checks are switched off"


class TakenOverError(RegistrationLostError):
    """Another facade keeps the entry now, or has removed it: it is not to be registered anew."""


class Kept:
    """A posted entry from its first probe until it is closed.

    ``fill`` says whether the server's own answers tell what it offers; otherwise what was posted
    stands. ``takeover`` is the id of the holder whose place it takes at first. ``rival`` tells, of
    a registration that was lost, what stands in its place; ``on_lost`` is called when another has
    taken the id over for good, and lets it go.
    """

    def __init__(
        self,
        record: Record,
        document: CapabilityDocument,
        *,
        fill: bool,
        store: Store,
        holder: Holder,
        examiner: Examiner,
        options: FacadeOptions,
        usage: Usage,
        rival: Callable[[str], Awaitable[Instance | None]],
        on_lost: Callable[[], Awaitable[None]],
        takeover: str | None = None,
        draining: bool = False,
    ) -> None:
        self._record = record
        self._document = document
        self._fill = fill
        self._store = store
        self._holder = holder
        self._examiner = examiner
        self._options = options
        self._usage = usage
        self._rival = rival
        self._on_lost = on_lost
        self._takeover = takeover
        #: Whether it takes the place of what another facade kept.
        self.inherited = takeover is not None
        self._traits = traits_of(record)
        self._health = Health(Status.DEGRADED, NOT_PROBED if self._traits.probed else UNPROBED)
        self._introspection: Introspection | None = None
        self._outdated = False  # the store has another record than this
        self._draining = draining or self._traits.idle
        self._ended = False
        self._registration: Registration | None = None
        #: What the store has lost, or another has taken: of it something may be left there.
        self._lost: Registration | None = None
        self._lock = asyncio.Lock()  # a registration is not for concurrent use
        self._news = asyncio.Event()
        self._probing: asyncio.Task[Finding | None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def record(self) -> Record:
        """The record as it is registered."""
        return self._record

    @property
    def document(self) -> CapabilityDocument:
        """The document as it is registered."""
        return self._document

    @property
    def timeout(self) -> float:
        """How many seconds one of its probes may take."""
        return self._traits.timeout or self._options.probe_timeout

    @property
    def health(self) -> Health:
        """What the last probe found."""
        return self._health

    @property
    def draining(self) -> bool:
        """Whether it was drained, whatever the probes find."""
        return self._draining

    async def start(self) -> None:
        """Probes for a moment, registers with what was found by then, and goes on doing both.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and is closed then.
        """
        try:
            if self._traits.probed:
                await self.probe(self._options.first_probe)
            async with self._lock:
                await self._register()
        except BaseException:
            await self.close()
            raise
        self._tasks = [
            asyncio.create_task(self._keep_probing(), name=f"probe {self._record.id}"),
            asyncio.create_task(self._keep_beating(), name=f"heartbeat {self._record.id}"),
        ]

    async def probe(self, timeout: float) -> Finding | None:
        """Probes now, or joins the probe that is under way; waits at most ``timeout`` seconds.

        Returns what was found, ``None`` when it has not ended by then; it goes on.
        """
        if self._ended:
            return None
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._examine(), name="probe")
        probing = self._probing
        await asyncio.wait({probing}, timeout=timeout)
        return probing.result() if probing.done() and not probing.cancelled() else None

    async def revise(
        self,
        record: Record,
        document: CapabilityDocument,
        *,
        fill: bool,
        draining: bool,
        examiner: Examiner,
    ) -> None:
        """Registers another record of the same server in the place of this one.

        ``examiner`` is how it is probed from now on. Raises what
        :meth:`mcp_discovery.adapters.store.Store.register` raises, and nothing has changed then.
        """
        async with self._lock:
            if self._ended:
                raise RegistrationLostError(record.id, "it was removed in the meantime")
            before = self._record, self._document, self._fill, self._draining
            self._record, self._document, self._fill = record, document, fill
            self._draining = draining
            try:
                await self._register()
            except BaseException:
                self._record, self._document, self._fill, self._draining = before
                self._outdated = True  # whether the store has taken it in, nobody knows
                raise
        await self._probe_otherwise(traits_of(record), examiner)

    async def beat(self) -> None:
        """Tells the store what is known, registering anew where it knows nothing.

        Raises :class:`RegistrationLostError` once, before it registers anew at the next call, and
        :class:`TakenOverError` when it must not.
        """
        async with self._lock:
            if self._ended:
                return
            if self._registration is None:
                await self._register_anew()
                return
            try:
                if self._outdated:
                    record = self._record
                    await self._registration.update(record, self._document)
                    self._outdated = record is not self._record
                await self._registration.heartbeat(self._health, self._usage.load(self._record.id))
            except RegistrationLostError:
                self._lost, self._registration = self._registration, None
                raise

    async def drain(self) -> None:
        """Marks it as draining until it is posted again."""
        async with self._lock:
            if self._registration is None:
                await self._register_anew()
            assert self._registration is not None
            await self._registration.drain()
            self._draining = True

    async def deregister(self) -> None:
        """Takes it out of the store; it is closed once that has happened."""
        async with self._lock:
            if self._registration is not None:
                await self._registration.deregister()
            self._ended = True
        await self.close()

    async def let_go(self) -> None:
        """Another keeps it now: stops, and takes away what is left of its own registration.

        What the other registered stays, as
        :meth:`mcp_discovery.adapters.store.Registration.deregister` says.
        """
        async with self._lock:
            self._ended = True
            await self._take_away()
        await self.close()

    async def _take_away(self) -> None:
        left = self._registration or self._lost
        if left is not None:
            try:
                await left.deregister()
            except StoreError as error:  # it is left to its TTL
                log.debug("letting go of %s: %s", self._record.id, error)

    @asynccontextmanager
    async def suspended(self) -> AsyncIterator[None]:
        """While another takes its place: no heartbeats inside, and none after it went well."""
        async with self._lock:
            yield
            self._ended = True

    async def close(self) -> None:
        """Stops; the registration is left to its TTL."""
        self._ended = True
        await self._stop()

    async def _stop(self) -> None:
        """Ends every task but the one that calls this."""
        tasks = [*self._tasks, *([self._probing] if self._probing else [])]
        others = [task for task in tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._examiner.close()

    async def _register(self) -> None:
        record, health = self._record, self._health
        if self._draining:  # from the first moment on
            health = health.then(Status.DRAINING, DRAINING)
        self._registration = await self._store.register(
            record,
            self._document,
            ttl=self._options.kept_ttl,
            reap_after=self._options.kept_reap_after,
            health=health,
            holder=self._holder,
            takeover=self._takeover,
        )
        self._lost = self._takeover = None
        self._outdated = record is not self._record
        if self._draining:
            await self._registration.drain()

    async def _register_anew(self) -> None:
        """Registers what the store lost, unless it lost it to another."""
        rival = await self._rival(self._record.id)
        if rival is not None:
            what = "removed by" if is_tombstone(rival.record) else "taken over by"
            raise TakenOverError(self._record.id, f"it was {what} {rival.lease.holder}")
        await self._register()

    async def _keep_probing(self) -> None:
        while self._traits.probed:
            interval = self._traits.interval or self._options.probe_interval
            await asyncio.sleep(interval * random.uniform(0.9, 1.1))
            await self.probe(3 * self.timeout)

    async def _probe_otherwise(self, traits: Traits, examiner: Examiner) -> None:
        """Goes on with other terms and from a blank sheet; probes at once what was not probed."""
        before, self._traits = self._traits, traits
        others = [self._tasks.pop(0), *([self._probing] if self._probing else [])]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._examiner.close()
        self._examiner, self._introspection = examiner, None
        if self._ended:
            await examiner.close()
            return
        keep_probing = asyncio.create_task(self._keep_probing(), name=f"probe {self._record.id}")
        self._tasks.insert(0, keep_probing)
        if not traits.probed and before.probed:
            self._health = self._health.then(Status.DEGRADED, UNPROBED, heard=False)
            self._news.set()
        elif traits.probed and not before.probed:
            await self.probe(self._options.first_probe)

    async def _keep_beating(self) -> None:
        backoff = Backoff(most=self._options.heartbeat)
        delay = self._options.heartbeat
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._news.wait()
            self._news.clear()
            try:
                await self.beat()
            except (DuplicateInstanceError, TakenOverError) as error:
                log.warning("no longer keeping what was posted: %s", error)
                await self._on_lost()
                return
            except RegistrationLostError as error:
                log.info("%s; registering anew", error)
                delay = random.uniform(0, 1.0)  # a store that lost one lost them all
            except StoreError as error:
                delay = backoff.next()
                log.debug("heartbeat of %s: %s", self._record.id, error)
            except Exception:  # the guard that keeps the heartbeat alive
                delay = self._options.heartbeat
                log.exception("the heartbeat of %s failed in a way it must not", self._record.id)
            else:
                backoff.reset()
                delay = self._options.heartbeat

    async def _examine(self) -> Finding | None:
        try:
            finding = await self._examiner.examine()
            self._take_in(finding)
            if finding.asked:
                self._usage.probed(
                    self._record.id,
                    latency=finding.latency,
                    success=finding.status is Status.HEALTHY,
                    status=self._health.status.value,
                    reason=self._health.reason,
                )
        except Exception:  # the guard that keeps the probe alive
            log.exception("probing %s failed in a way it must not", self._record.id)
            return None
        return finding

    def _take_in(self, finding: Finding) -> None:
        reason = finding.reason
        if finding.introspection is not None and self._fill:
            try:
                self._offer(finding.introspection)
            except (InvalidDocumentError, InvalidRecordError) as error:
                reason = f"{reason}; what it offers is not listed: {error}"
        heard = finding.status is not Status.DOWN
        health = self._health.then(finding.status, reason[:500], heard=heard)
        if health.status is not self._health.status:
            log.info("%s is %s: %s", self._record.id, health.status, health.reason)
        if health != self._health or self._outdated:
            self._news.set()
        self._health = health

    def _offer(self, introspection: Introspection) -> None:
        """Puts what the server offers into the record and the document."""
        if introspection is self._introspection:
            return
        offer = Offer(introspection)
        document, fields = offer.document, self._record.to_dict()
        if self._record.version == "0.0.0":
            fields["version"] = offer.version
        record, notes = offer.record(fields)
        for note in notes:
            log.warning("%s: %s", record.id, note)
        if not record.same_as(self._record) or document.digest != self._document.digest:
            self._record, self._document = record, document
            self._outdated = True
        self._introspection = introspection
