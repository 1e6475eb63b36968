"""One MCP server as a sidecar keeps it registered, whatever else its process does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from mcp_discovery.adapters.observed_store import observed
from mcp_discovery.adapters.store import Store, new_holder
from mcp_discovery.health import utcnow
from mcp_discovery.probe import Introspection, probing_session
from mcp_discovery.record import AGENT
from mcp_discovery.registrant.arrival import RETRY
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.registrant.registrant import Registrant
from mcp_discovery.registrant.registrar import Registrar, Terms
from mcp_discovery.registrant.tasks import alongside, guarded
from mcp_discovery.registrant.watcher import HealthCheck, Pace, ProbeFinding
from mcp_discovery.sidecar.access import Access
from mcp_discovery.sidecar.address import AddressTrials
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.description import describe
from mcp_discovery.sidecar.metrics import CountedAgentProbe, CountedProbe, Family, SidecarFigures
from mcp_discovery.sidecar.process_figures import ProcessFigures
from mcp_discovery.sidecar.settings import SidecarSettings, public

if TYPE_CHECKING:
    from mcp_discovery.sidecar.bridge.bridge import Bridge

log = logging.getLogger(__name__)

#: Seconds, and intervals, without a turn of the probe loop before the sidecar calls itself stuck.
_STUCK = 20.0
_STUCK_INTERVALS = 3.0

#: Seconds after which a command that is not heard of at its URL is worth a word.
_PATIENCE = 15.0

#: The time-out of a probe is this part of the interval.
_TIMEOUT = 0.7
#: How many seconds after its TTL a silent holder of the same id can still look alive.
_SURELY_DEAD = 3.0


def terms(settings: SidecarSettings) -> Terms:
    """On which terms a sidecar registers its server."""
    return Terms(
        ttl=settings.ttl,
        reap_after=settings.reap_after,
        heartbeat=settings.heartbeat_interval,
        vouch=settings.interval,
        duplicate_patience=settings.ttl + _SURELY_DEAD,
    )


class KeptServer:
    """A registrant with a sidecar's terms.

    ``chosen`` says what is advertised, ``bridge`` is what speaks to a server over stdio;
    ``process`` is the id of one that has just been started as the sidecar's child, and speaks HTTP.
    """

    def __init__(
        self,
        settings: SidecarSettings,
        store: Store,
        access: Access,
        chosen: Advertised,
        *,
        process: int | None = None,
        bridge: Bridge | None = None,
    ) -> None:
        self._settings = settings
        self._bridge = bridge
        self._access = access
        self._chosen = chosen
        self._is_child = process is not None
        self._started_at = utcnow() if self._is_child else None
        self._registered_at: datetime | None = None
        self._figures = SidecarFigures()
        if bridge is not None:
            self._figures.measure(bridge.figures.use, bridge.figures.load)
            self._figures.beside = bridge.figures.families
        elif process is not None:
            use = ProcessFigures(lambda: (process,))
            self._figures.measure(use, use.load)
        self._trials: AddressTrials | None = None
        self.registrar = Registrar(
            observed(store, self._figures.store_call),
            new_holder("sidecar"),
            terms(settings),
            load=self._figures.load,
            may_begin=lambda: self._trials is None or self._trials.settled,
        )
        self._registrant = Registrant(
            registrar=self.registrar,
            name=f"the {settings.noun} at {public(settings.url)}",
            describe=self._describe,
            found=self._found,
            described=self._described,
            unreadable=self._figures.unreadable,
        )
        self._first: asyncio.Future[ServerDescription] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def kept(self, connector: aiohttp.BaseConnector) -> AsyncIterator[asyncio.Task[None]]:
        """Watches the server over ``connector`` and keeps it registered while the block runs.

        The task ends with an error that no retrying mends. Without :meth:`leave` the registration
        is left to its TTL.
        """
        own = self._bridge.figures.own if self._bridge is not None else None
        async with (
            probing_session(connector, own, middlewares=(self._access.auth,), owner=False) as http,
            probing_session(connector, owner=False) as unsigned,
            aclosing(self._registrant),
        ):
            self._watch(http, unsigned)
            async with alongside(self._advertise(), self._advise()):
                yield self._registrant.keep()

    async def leave(
        self, registering: asyncio.Task[None], drain: float, hurry: asyncio.Event
    ) -> None:
        """Leaves the store after ``drain`` seconds, less where ``hurry`` comes; raises what
        ``registering`` ended with."""
        self._figures.leaving = True
        if registering.done():
            registering.result()
        await self.registrar.leave(registering, drain, hurry)

    def why_not_ready(self) -> str | None:
        """Why the server cannot be counted on to be listed; ``None`` when it can."""
        why = self.registrar.why_not_ready()
        return (why and (self._bridge is not None and self._bridge.why_not)) or why

    @property
    def has_failed(self) -> bool:
        """Whether its process had to be started again and again."""
        # Once is what it takes to find out its era, with some.
        return self._bridge is not None and self._bridge.restarts > 1

    def why_not_live(self) -> str | None:
        """Why the probing is stuck; ``None`` when it is not."""
        stuck = time.monotonic() - self._registrant.watcher.turned
        if stuck > max(_STUCK, _STUCK_INTERVALS * self._settings.interval):
            return f"the probe loop has not turned for {stuck:.0f} s"
        return None

    def figures(self) -> Iterator[Family]:
        """What is counted of it."""
        return self._figures.families(
            registered=self.why_not_ready() is None, trouble=self.registrar.trouble.fault
        )

    def _watch(self, http: aiohttp.ClientSession, unsigned: aiohttp.ClientSession) -> None:
        settings = self._settings
        if settings.try_advertised:
            self._trials = AddressTrials(
                unsigned, self._access, self._chosen, lambda: self._registrant.watcher.reconsider()
            )
        announced = settings.auth is not None and settings.auth.type != "none"
        check = HealthCheck(
            http=http,
            health_url=settings.health_url,
            slow_after=round(settings.slow, 2),
            expects_credentials=announced and not settings.has_token,
            tls=self._access.health_tls,
            auth=self._access.health_auth,
            address=lambda: self._trials.verdict if self._trials is not None else None,
            process=lambda: self._bridge.why_not if self._bridge is not None else None,
            agent=settings.kind == AGENT,
        )
        # Rounded, because time-outs and the slow-after time are read in reasons.
        timeout = round(_TIMEOUT * settings.interval, 2)
        pace = Pace(
            pause=settings.interval,
            timeout=timeout,
            longest_timeout=max(timeout, round(settings.ttl / 2, 2)),
            retry=RETRY,
            longest_retry=settings.interval,
            fail_after=settings.fail_after,
            reading_timeout=settings.introspect_timeout,
        )
        make_probe = partial(
            CountedAgentProbe if settings.kind == AGENT else CountedProbe,
            self._access.url,
            transport=settings.transport,
            session=http,
            secrets=self._access.auth.secrets,
            tls=self._access.tls,
            figures=self._figures,
        )
        self._registrant.watch(check, pace, make_probe, wait_for=self._access.url)
        if self._bridge is not None:
            self._bridge.changed = self._process_changed

    def _process_changed(self) -> None:
        assert self._bridge is not None
        if self._bridge.why_not is None:
            self._registrant.watcher.probe_soon(anew=True)
        else:
            self._registrant.watcher.reconsider()

    def _describe(self, found: Introspection, url: str) -> ServerDescription:
        self._registered_at = self._registered_at or utcnow()
        described = describe(
            self._settings,
            found,
            url=url,
            advertised=self._chosen,
            registered_at=self._registered_at,
            started_at=self._started_at,
        )
        if self._trials is not None:
            self._trials.describe(described.record, url)
        return described

    def _found(self, finding: ProbeFinding) -> None:
        self._figures.health = finding.health

    def _described(self, description: ServerDescription) -> None:
        if not self._first.done():
            self._first.set_result(description)
        if self._bridge is not None:
            self._bridge.figures.offer(description.record.capabilities.tools)
        self._figures.instance = description.record.name, description.record.id

    async def _advertise(self) -> None:
        description = await asyncio.shield(self._first)
        url = str(description.record.endpoint.url)
        log.info("advertising %s (%s)", url, self._chosen.why)
        if self._trials is not None:
            await guarded("trying the advertised address", self._trials.run)

    async def _advise(self) -> None:
        """What to do about a command that is not heard of at its URL."""
        if not self._is_child:
            return
        await asyncio.wait({self._first}, timeout=_PATIENCE)
        if not self._first.done():
            self._advise_stdio(f"for {_PATIENCE:g} s")

    def advise_on_end(self) -> None:
        """What to do about a command that has ended and was never heard of at its URL."""
        if self._is_child and not self._first.done():
            self._advise_stdio("before the command ended")

    def _advise_stdio(self, when: str) -> None:
        log.warning(
            "nothing has spoken MCP at %s %s; if the command speaks stdio, leave out --url, and it "
            "is served over HTTP",
            public(self._settings.url),
            when,
        )
