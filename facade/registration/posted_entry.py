"""One posted entry: the facade is its registrant, probes it and renews it in the store."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp

from mcp_discovery.adapters.store import Store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.facade.http.outbound import Dialer
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.registration.strangers import StrangersHealthCheck
from mcp_discovery.facade.registration.suspicion import Suspicion
from mcp_discovery.facade.registration.traits import traits_of
from mcp_discovery.facade.registration.vigil import Vigil
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder
from mcp_discovery.probe import SYSTEM_TLS, Introspection, Probe, ServerTls, probe_of
from mcp_discovery.probe.offer import ServerOffer
from mcp_discovery.probe.verdict import NOT_PROBED, UNPROBED
from mcp_discovery.record import AGENT, Record
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.registrant.registrant import Registrant
from mcp_discovery.registrant.registrar import Registrar, Terms
from mcp_discovery.registrant.watcher import HealthCheck, Pace, ProbeFinding

#: The answer of a posted server is late after so many seconds.
SLOW_AFTER = 1.0
#: The pause after a probe that failed, in seconds, unless the interval is shorter; each further
#: failure doubles it, up to the interval.
_RETRY = 1.0
#: The part by which the pauses between probes vary, so that a fleet keeps out of step.
_JITTER = 0.1
#: The longest time, in seconds, before a registration that the store has lost is made anew.
_SPREAD = 1.0


def health_check(
    record: Record,
    session: aiohttp.ClientSession,
    tls: ServerTls = SYSTEM_TLS,
    *,
    strangers: bool = False,
) -> HealthCheck:
    """How a facade checks the server of ``record``, which is perhaps a ``strangers``' one;
    ``session`` stays the caller's."""
    kind = partial(StrangersHealthCheck, name=record.id) if strangers else HealthCheck
    return kind(
        http=session,
        tls=tls,
        health_url=record.health_url,
        slow_after=SLOW_AFTER,
        expects_credentials=record.auth.type != "none",
        agent=record.kind == AGENT,
    )


def probe_maker(
    record: Record, session: aiohttp.ClientSession, tls: ServerTls = SYSTEM_TLS
) -> Callable[[], Probe] | None:
    """What makes probes of the server of ``record``; ``None`` where no endpoint is dialled."""
    endpoint = record.endpoint
    if endpoint.url is None:
        return None
    return partial(probe_of, endpoint.url, transport=endpoint.transport, session=session, tls=tls)


class PostedEntry(Registrant):
    """The registrant of a posted entry, from its first probe until it is closed.

    ``fill`` says whether what it offers is read from the server; otherwise what was posted stands.
    ``dialer`` is what its probes are made with. ``takeover`` is the id of the holder whose place
    it takes at first. ``may_renew`` is as in
    :class:`~mcp_discovery.registrant.registrar.Registrar`; ``lost`` is called when another holder
    has the id for good, and lets it go. ``strangers`` says that somebody posted it who is not
    known; see :mod:`mcp_discovery.facade.registration.strangers`. ``turn`` returns when it is its
    turn to be registered.
    """

    def __init__(
        self,
        record: Record,
        document: CapabilityDocument,
        *,
        fill: bool,
        store: Store,
        holder: Holder,
        dialer: Dialer,
        options: FacadeOptions,
        usage: Usage,
        may_renew: Callable[[], Awaitable[None]],
        lost: Callable[[Exception], Awaitable[None]],
        turn: Callable[[], Awaitable[None]],
        takeover: str | None = None,
        draining: bool = False,
        strangers: bool = False,
    ) -> None:
        self.id = record.id
        self._strangers = strangers
        self._fill = fill
        self._dialer = dialer
        self._options = options
        self._usage = usage
        self._turn = turn
        self._vigil: Vigil | None = None
        self._suspicion = Suspicion(lambda: self.watcher.probe_soon(), options.probe_interval)
        #: When it took the place of what another facade kept, in monotonic seconds, if ever.
        self.inherited_at = time.monotonic() if takeover is not None else -math.inf
        self._traits = traits_of(record)
        terms = Terms(
            ttl=options.posted_ttl,
            reap_after=options.posted_reap_after,
            heartbeat=options.heartbeat,
            spread=_SPREAD,
            takeover=takeover,
            draining=draining or self._traits.idle,
        )
        load = partial(usage.load, record.id)
        super().__init__(
            registrar=Registrar(store, holder, terms, load=load, may_renew=may_renew),
            name=self.id,
            describe=self._describe,
            found=self._count,
            unreadable=partial(usage.unreadable, self.id),
            lost=lost,
        )
        self.registrar.describe(ServerDescription(record, document))
        reason = NOT_PROBED if self._traits.probed else UNPROBED
        self.registrar.found(ProbeFinding(Health(Status.DEGRADED, reason), time.monotonic()))

    @property
    def record(self) -> Record:
        """The record as it is registered."""
        assert self.registrar.description is not None
        return self.registrar.description.record

    @property
    def document(self) -> CapabilityDocument:
        """The document as it is registered."""
        assert self.registrar.description is not None
        return self.registrar.description.document

    @property
    def timeout(self) -> float:
        """How many seconds one of its probes may take."""
        return self._traits.timeout or self._options.probe_timeout

    @property
    def health(self) -> Health:
        """What the last probe found."""
        assert self.registrar.finding is not None
        return self.registrar.finding.health

    @property
    def status(self) -> Status:
        """The status that it is listed with."""
        return Status.DRAINING if self.registrar.draining else self.health.status

    async def start(self) -> None:
        """Probes for a moment, registers with what was found by then, and goes on doing both.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and is closed then.
        """
        try:
            self._watch(0.0 if self._traits.probed else math.inf)
            if self._traits.probed:
                await self.probe(self._options.first_probe)
            await self._turn()
            await self.registrar.register()
        except BaseException:
            await self.aclose()
            raise
        self.keep()

    async def revise(
        self, record: Record, document: CapabilityDocument, *, fill: bool, draining: bool
    ) -> None:
        """Registers another record of the same server in the place of this one.

        Raises what :meth:`mcp_discovery.adapters.store.Store.register` raises, and nothing has
        changed then.
        """
        await self.stop_watching()
        before = self._traits
        try:
            await self.registrar.revise(ServerDescription(record, document), draining=draining)
            self._fill, self._traits = fill, traits_of(record)
        finally:
            if not self.registrar.stopped:
                self._watch(self._interval)
        if self._traits.probed and not before.probed:
            await self.probe(self._options.first_probe)
        elif before.probed and not self._traits.probed:
            health = self.health.then(Status.DEGRADED, UNPROBED, heard=False)
            self.registrar.found(ProbeFinding(health, time.monotonic()))

    def called(self, *, success: bool) -> None:
        """Somebody called the server; an outcome at odds with its status leads to a probe."""
        if self._traits.probed and success is (self.health.status is Status.DOWN):
            self._suspicion.arises(self.health.status)

    # -- inside --------------------------------------------------------------------------------

    def _watch(self, first_pause: float) -> None:
        """Watches by the record as it is now, with a watcher that knows no earlier answers."""
        record, interval = self.record, self._interval
        pace = Pace(
            pause=interval,
            timeout=self.timeout,
            longest_timeout=self.timeout,
            retry=min(interval, _RETRY),
            longest_retry=interval,
            jitter=_JITTER,
            fail_after=self._traits.fail_after or self._options.fail_after,
        )
        url = record.endpoint.url or record.health_url
        self._vigil = None
        if url is not None and math.isfinite(interval) and not self._strangers:
            self._vigil = Vigil(
                dialer=self._dialer,
                url=url,
                interval=interval,
                status=lambda: self.health.status,
                missed=lambda: self._suspicion.arises(self.health.status),
                returned=lambda: self.watcher.probe_soon(anew=True),
            )
        self.watch(
            health_check(record, self._dialer.session, self._dialer.tls, strangers=self._strangers),
            pace,
            probe_maker(record, self._dialer.session, self._dialer.tls),
            reads=self._fill,
            first_pause=first_pause,
            beside=self._vigil.run if self._vigil is not None else None,
        )

    @property
    def _interval(self) -> float:
        record = self.record
        if not self._traits.probed or record.endpoint.url is record.health_url is None:
            return math.inf
        return self._traits.interval or self._options.probe_interval

    def _describe(self, found: Introspection, _: str) -> ServerDescription:
        """The record as it was posted, with what the server offers."""
        offer, record = ServerOffer(found), self.record
        fields = record.to_dict()
        if record.version == "0.0.0":
            fields["version"] = offer.version
        if record.kind == AGENT:
            fields = offer.filled(fields, self.document)
        record, notes = offer.record(fields)
        return ServerDescription(record, offer.document, notes)

    def _count(self, finding: ProbeFinding) -> None:
        if finding.result is not None and finding.result.asked:
            self._suspicion.probed(finding.health.status)
            if self._vigil is not None:
                self._vigil.probed()
            self._usage.probed(
                self.id,
                latency=finding.result.latency,
                success=finding.health.status is Status.HEALTHY,
                status=finding.health.status.value,
                reason=finding.health.reason,
            )
