"""One posted entry: the facade is its registrant, probes it and renews it in the store."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp

from mcp_discovery.adapters.store import Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DuplicateInstanceError
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder
from mcp_discovery.probe import Introspection, McpProbe
from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.probe.verdict import NOT_PROBED, UNPROBED
from mcp_discovery.record import Record
from mcp_discovery.registrant.check import HealthCheck
from mcp_discovery.registrant.description import ServerDescription
from mcp_discovery.registrant.introspector import Introspector
from mcp_discovery.registrant.registrar import Registrar, TakenOverError, Terms
from mcp_discovery.registrant.tasks import ended, guarded
from mcp_discovery.registrant.watcher import Pace, ProbeFinding, Watcher

log = logging.getLogger(__name__)

#: The answer of a posted server is late after so many seconds.
SLOW_AFTER = 1.0
#: The shortest pause after a probe that failed, in seconds, unless the interval is shorter.
_RETRY = 2.0
#: The part by which the pauses between probes vary, so that a fleet keeps out of step.
_JITTER = 0.1
#: The longest time, in seconds, before a registration that the store has lost is made anew.
_SPREAD = 1.0


def health_check(record: Record, session: aiohttp.ClientSession) -> HealthCheck:
    """How a facade checks the server of ``record``; ``session`` stays the caller's."""
    return HealthCheck(
        session,
        health_url=record.health_url,
        slow_after=SLOW_AFTER,
        expects_credentials=record.auth.type != "none",
    )


def new_probe(record: Record, session: aiohttp.ClientSession) -> McpProbe | None:
    """A probe of the server of ``record``; ``None`` where no MCP endpoint can be dialled."""
    endpoint = record.endpoint
    if endpoint.url is None:
        return None
    return McpProbe(endpoint.url, transport=endpoint.transport, session=session)


class PostedEntry:
    """A posted entry from its first probe until it is closed.

    ``fill`` says whether what it offers is read from the server; otherwise what was posted stands.
    ``session`` is what its probes are made with. ``takeover`` is the id of the holder whose place
    it takes at first. ``may_renew`` is as in
    :class:`~mcp_discovery.registrant.registrar.Registrar`; ``on_lost`` is called when another
    holder has the id for good, and lets it go.
    """

    def __init__(
        self,
        record: Record,
        document: CapabilityDocument,
        *,
        fill: bool,
        store: Store,
        holder: Holder,
        session: aiohttp.ClientSession,
        options: FacadeOptions,
        usage: Usage,
        may_renew: Callable[[], Awaitable[None]],
        on_lost: Callable[[], Awaitable[None]],
        takeover: str | None = None,
        draining: bool = False,
    ) -> None:
        self.id = record.id
        self._fill = fill
        self._session = session
        self._options = options
        self._usage = usage
        self._on_lost = on_lost
        #: When it took the place of what another facade kept, in monotonic seconds, if ever.
        self.inherited_at = time.monotonic() if takeover is not None else -math.inf
        self._traits = traits_of(record)
        #: What keeps it registered in the store.
        self.registrar = Registrar(
            store,
            holder,
            Terms(
                ttl=options.kept_ttl,
                reap_after=options.kept_reap_after,
                heartbeat=options.heartbeat,
                spread=_SPREAD,
            ),
            takeover=takeover,
            draining=draining or self._traits.idle,
            load=partial(usage.load, record.id),
            may_renew=may_renew,
        )
        self.registrar.describe(ServerDescription(record, document))
        reason = NOT_PROBED if self._traits.probed else UNPROBED
        self._found(ProbeFinding(Health(Status.DEGRADED, reason), time.monotonic()))
        self._watcher = self._new_watcher()
        self._watching: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def record(self) -> Record:
        """The record as it is registered."""
        return self.registrar.description.record

    @property
    def document(self) -> CapabilityDocument:
        """The document as it is registered."""
        return self.registrar.description.document

    @property
    def timeout(self) -> float:
        """How many seconds one of its probes may take."""
        return self._traits.timeout or self._options.probe_timeout

    @property
    def health(self) -> Health:
        """What the last probe found."""
        return self._health

    @property
    def status(self) -> Status:
        """The status that it is listed with."""
        return Status.DRAINING if self.draining else self._health.status

    @property
    def draining(self) -> bool:
        """Whether it was drained, whatever the probes find."""
        return self.registrar.draining

    async def start(self) -> None:
        """Probes for a moment, registers with what was found by then, and goes on doing both.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and is closed then.
        """
        try:
            self._watch(0.0 if self._traits.probed else math.inf)
            if self._traits.probed:
                await self.probe(self._options.first_probe)
            await self.registrar.register()
        except BaseException:
            await self.close()
            raise
        self._renewing = asyncio.create_task(self._renew(), name=f"heartbeat {self.id}")

    async def probe(self, timeout: float) -> ProbeFinding | None:
        """Probes now, or joins the probe that is under way; waits at most ``timeout`` seconds.

        Returns what was found, ``None`` when it has not ended by then; it goes on.
        """
        if self._watching is None or self._watching.done():
            return None
        return await self._watcher.probe(timeout)

    async def revise(
        self, record: Record, document: CapabilityDocument, *, fill: bool, draining: bool
    ) -> None:
        """Registers another record of the same server in the place of this one.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and nothing has
        changed then.
        """
        await self._stop_watching()
        before = self._traits
        try:
            await self.registrar.revise(ServerDescription(record, document), draining=draining)
            self._fill, self._traits = fill, traits_of(record)
        finally:
            self._watcher = self._new_watcher()
            if not self.registrar.stopped:
                self._watch(self._watcher.pause)
        if self._traits.probed and not before.probed:
            await self.probe(self._options.first_probe)
        elif before.probed and not self._traits.probed:
            health = self._health.then(Status.DEGRADED, UNPROBED, heard=False)
            self._found(ProbeFinding(health, time.monotonic()))

    async def deregister(self) -> None:
        """Takes it out of the store; it is closed once that has happened."""
        await self.registrar.deregister()
        await self.close()

    async def let_go(self) -> None:
        """Another keeps it now: stops, and takes away what is left of its own registration."""
        await self.registrar.let_go()
        await self.close()

    async def close(self) -> None:
        """Stops; the registration is left to its TTL."""
        self.registrar.stop()
        await self._stop_watching()
        if self._renewing is not None and self._renewing is not asyncio.current_task():
            await ended(self._renewing)

    # -- inside --------------------------------------------------------------------------------

    def _new_watcher(self) -> Watcher:
        """A watcher that knows nothing of earlier answers, for the record as it is now."""
        record = self.record
        introspector = Introspector(
            self._describe,
            described=self.registrar.describe,
            known=self.registrar.description,
            name=self.id,
        )
        return Watcher(
            health_check(record, self._session),
            self._pace(record),
            self._new_probe if record.endpoint.url is not None else None,
            found=self._found,
            health=self._health,
            read=introspector.read if self._fill else None,
            name=self.id,
        )

    def _pace(self, record: Record) -> Pace:
        interval = self._traits.interval or self._options.probe_interval
        if not self._traits.probed or record.endpoint.url is record.health_url is None:
            interval = math.inf
        return Pace(
            pause=interval,
            timeout=self.timeout,
            longest_timeout=self.timeout,
            retry=min(interval, max(self.timeout, _RETRY)),
            longest_retry=interval,
            jitter=_JITTER,
        )

    def _new_probe(self) -> McpProbe:
        probe = new_probe(self.record, self._session)
        assert probe is not None
        return probe

    def _describe(self, found: Introspection, _: str) -> ServerDescription:
        """The record as it was posted, with what the server offers."""
        offer, record = ServerOffer(found), self.record
        fields = record.to_dict()
        if record.version == "0.0.0":
            fields["version"] = offer.version
        record, notes = offer.record(fields)
        return ServerDescription(record, offer.document, notes)

    def _found(self, finding: ProbeFinding) -> None:
        self._health = finding.health
        self.registrar.found(finding)
        if finding.result is not None and finding.result.asked:
            self._usage.probed(
                self.id,
                latency=finding.result.latency,
                success=finding.health.status is Status.HEALTHY,
                status=finding.health.status.value,
                reason=finding.health.reason,
            )

    def _watch(self, first_pause: float) -> None:
        loop = partial(self._watcher.run, first_pause)
        self._watching = asyncio.create_task(
            guarded(f"probing {self.id}", loop), name=f"probe {self.id}"
        )

    async def _stop_watching(self) -> None:
        if self._watching is not None:
            await ended(self._watching)

    async def _renew(self) -> None:
        final = (DuplicateInstanceError, TakenOverError)
        try:
            await guarded(f"the heartbeat of {self.id}", self.registrar.run, ends_with=final)
        except final as error:
            log.warning("no longer keeping what was posted: %s", error)
            await self._on_lost()
