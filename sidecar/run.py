"""The life of a sidecar, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp

from mcp_discovery.adapters.observed_store import observed
from mcp_discovery.adapters.store import Store, new_holder
from mcp_discovery.child import Child, ChildStartError
from mcp_discovery.credential_files import read_again
from mcp_discovery.errors import DuplicateInstanceError, InvalidInputError
from mcp_discovery.health import utcnow
from mcp_discovery.probe import Introspection, probing_session
from mcp_discovery.record import AGENT
from mcp_discovery.registrant.arrival import RETRY
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.registrant.registrant import Registrant
from mcp_discovery.registrant.registrar import Registrar, Terms
from mcp_discovery.registrant.tasks import alongside, guarded
from mcp_discovery.registrant.watcher import HealthCheck, Pace, ProbeFinding
from mcp_discovery.sidecar import advertise, healthz
from mcp_discovery.sidecar.access import Access
from mcp_discovery.sidecar.address import AddressTrials
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.description import describe
from mcp_discovery.sidecar.healthz import PortInUseError
from mcp_discovery.sidecar.metrics import CountedAgentProbe, CountedProbe, SidecarFigures
from mcp_discovery.sidecar.process_figures import ProcessFigures
from mcp_discovery.sidecar.settings import SidecarSettings, public

if TYPE_CHECKING:
    from mcp_discovery.sidecar.bridge.bridge import Bridge

log = logging.getLogger(__name__)

#: Exit codes, besides the child's own.
OK = 0
INVALID_INPUT = 2
DUPLICATE = 5
PORT_IN_USE = 6

_STOP = (signal.SIGTERM, signal.SIGINT)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
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


class Stop:
    """The wish to end: the first call drains and leaves, the second cuts the waiting short."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.hurry = asyncio.Event()

    def __call__(self) -> None:
        """Wishes for the end, or for a faster one."""
        (self.hurry if self.wanted.is_set() else self.wanted).set()


async def run(
    settings: SidecarSettings,
    store: Store,
    *,
    stop: Stop | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Runs a sidecar until it is stopped, and returns its exit code.

    ``store`` is open and stays the caller's. Without ``stop`` the process's signals are the
    sidecar's: SIGTERM and SIGINT stop it, SIGHUP makes it read credential files again; with it,
    they are the caller's. ``environ`` (default: the
    process's) may name the address to advertise.

    Returns 0 when it was stopped, the child's exit code when the child ended by itself, 126 or
    127 when the command cannot be run, 2 when the input cannot be used, 5 when the id is held by
    another, 6 when the health port is in use. What is wrong is logged as one sentence.
    """
    try:
        child: Child | None = None
        early: list[int] = []  # meant for a child that is not there yet
        # Before the store is tried and a child is started: a sidecar without its port ends.
        healthz.require_free(settings.health_host, settings.health_port)
        Access.of(settings)  # what cannot be read is told before anything starts

        def pass_on(number: int) -> None:
            if child is not None:
                child.signal(number)
            else:
                early.append(number)

        # Before all that takes time: process 1 of a container loses a signal without a handler.
        with _signals(stop, pass_on if settings.command else None) as wish:
            try:
                choosing = advertise.choose(
                    settings, store.url, os.environ if environ is None else environ
                )
                if (chosen := await _unless_stopped(choosing, wish)) is None:
                    return OK
                if settings.bridged:
                    return await _bridged(settings, store, chosen, wish)
                access = Access.of(settings)
                if settings.command:
                    child = await Child.start(settings.command)
                    for number in early:
                        child.signal(number)
                asking = advertise.as_known_to(store, chosen)
                if (chosen := await _unless_stopped(asking, wish)) is None:
                    return OK
                return await _Sidecar(settings, store, access, chosen, child).life(wish)
            finally:
                if child is not None:
                    await child.stop(settings.child_grace)
    except (ChildStartError, DuplicateInstanceError, PortInUseError, InvalidInputError) as error:
        log.error("%s", error)
        match error:
            case ChildStartError():
                return error.code
            case DuplicateInstanceError():
                return DUPLICATE
            case PortInUseError():
                return PORT_IN_USE
        return INVALID_INPUT


class _Sidecar:
    """A registrant with a sidecar's terms, and what it shares its process with."""

    def __init__(
        self,
        settings: SidecarSettings,
        store: Store,
        access: Access,
        chosen: Advertised,
        child: Child | None,
        bridge: Bridge | None = None,
    ) -> None:
        self._settings = settings
        self._bridge = bridge
        self._access = access
        self._child = child
        self._chosen = chosen
        self._started_at = utcnow() if child is not None else None
        self._registered_at: datetime | None = None
        self._figures = SidecarFigures()
        if bridge is not None:
            self._figures.measure(bridge.figures.use, bridge.figures.load)
            self._figures.beside = bridge.figures.families
        elif child is not None:
            use = ProcessFigures(lambda: (child.process.pid,))
            self._figures.measure(use, use.load)
        store = observed(store, self._figures.store_call)
        self._trials: AddressTrials | None = None
        self._registrar = Registrar(
            store,
            new_holder("sidecar"),
            terms(settings),
            load=self._figures.load,
            may_begin=lambda: self._trials is None or self._trials.settled,
        )
        self._registrant = Registrant(
            registrar=self._registrar,
            name=f"the {settings.noun} at {public(settings.url)}",
            describe=self._describe,
            found=self._found,
            described=self._described,
            unreadable=self._figures.unreadable,
        )
        self._drain = asyncio.Event()
        self._left = asyncio.Event()
        self._first: asyncio.Future[ServerDescription] = asyncio.get_running_loop().create_future()

    async def life(self, stop: Stop) -> int:
        """Runs until ``stop``, the child's end, or an error that no retrying mends.

        Where it is asked over HTTP to drain, it leaves the store and stays until it is stopped: a
        supervisor might start it again, and it would register a server that is about to end.
        """
        async with (
            probing_session(
                aiohttp.TCPConnector(limit=0),
                self._bridge.figures.own if self._bridge is not None else None,
                middlewares=(self._access.auth,),
            ) as http,
            probing_session(aiohttp.TCPConnector(limit=0)) as unsigned,
            healthz.answering(
                self._settings.health_port,
                host=self._settings.health_host,
                why_not_live=self._why_not_live,
                why_not_ready=self._registrar.why_not_ready,
                trouble=lambda: self._registrar.trouble.problem,
                drain=self._drained,
                figures=lambda: self._figures.exposition(
                    self._registrar.why_not_ready(),
                    self._registrar.store.credentials_end,
                    self._registrar.trouble.fault,
                ),
            ),
            aclosing(self._registrant),
        ):
            # Not before the port is had: a sidecar without it ends, and must leave no entry.
            self._watch(http, unsigned)
            registering = self._registrant.keep()
            async with alongside(
                stop.wanted.wait(),
                self._drain.wait(),
                self._child_ended(),
                self._advertise(),
                self._advise(),
            ) as (stopped, drained, ended, *_):
                await asyncio.wait(
                    {registering, stopped, drained, ended}, return_when=asyncio.FIRST_COMPLETED
                )
                drain = 0.0 if ended.done() else self._settings.drain
                self._figures.leaving = True
                if registering.done():
                    registering.result()
                # A child that ends while it is drained has nobody left to wait for.
                ended.add_done_callback(lambda _: stop.hurry.set())
                code = int(ended.result()) if ended.done() else OK
                await self._registrar.leave(registering, drain, stop.hurry)
                self._left.set()
                if drained.done() and not stopped.done() and not ended.done():
                    log.info("drained as asked; waiting to be stopped")
                    await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
                    code = int(ended.result()) if ended.done() else OK
                return code

    async def _drained(self) -> None:
        self._drain.set()
        await self._left.wait()

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
        if self._child is None:
            return
        await asyncio.wait({self._first}, timeout=_PATIENCE)
        if not self._first.done():
            log.warning(
                "nothing has spoken MCP at %s for %g s; if the command speaks stdio, leave out "
                "--url, and it is served over HTTP",
                public(self._settings.url),
                _PATIENCE,
            )

    async def _child_ended(self) -> int:
        if self._child is None:
            await asyncio.Event().wait()
            return OK
        code = await self._child.ended()
        log.info("the %s ended with exit code %d", self._settings.noun, code)
        return code

    def _why_not_live(self) -> str | None:
        stuck = time.monotonic() - self._registrant.watcher.turned
        if stuck > max(_STUCK, _STUCK_INTERVALS * self._settings.interval):
            return f"the probe loop has not turned for {stuck:.0f} s"
        return None


async def _bridged(settings: SidecarSettings, store: Store, chosen: Advertised, stop: Stop) -> int:
    """Runs a sidecar that speaks stdio to its server, and serves it over HTTP."""
    # A sidecar beside a server of HTTP does not pay for an HTTP server.
    from mcp_discovery.program import Program
    from mcp_discovery.sidecar.bridge.bridge import Bridge
    from mcp_discovery.sidecar.bridge.entrance import BridgeCredentials
    from mcp_discovery.sidecar.bridge.serving import BridgeListener, McpEndpoint

    host, port = settings.listen_place
    # Before a process is started: who may come in has to be said.
    BridgeCredentials.of(settings, host or advertise.listening_host(chosen))
    program = Program(command=settings.command, grace=settings.child_grace)
    bridge = Bridge(program, settings.name or os.path.basename(settings.command[0]))
    async with bridge.running():
        asking = advertise.as_known_to(store, chosen)
        if (known := await _unless_stopped(asking, stop)) is None:
            return OK
        listener = BridgeListener(host or advertise.listening_host(known), port, settings)
        endpoint = listener.endpoints["/mcp"] = McpEndpoint(bridge, settings.process_each)
        bridge.figures.sessions = lambda: len(endpoint.legacy)
        async with listener.listening():
            settings, access = listener.access_to("/mcp", settings)
            return await _Sidecar(settings, store, access, known, None, bridge).life(stop)


async def _unless_stopped(work: Coroutine[Any, Any, Advertised], stop: Stop) -> Advertised | None:
    """What ``work`` returns; ``None`` where ``stop`` came before it, which cancels it."""
    async with alongside(work, stop.wanted.wait()) as (working, stopped):
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None


@contextmanager
def _signals(stop: Stop | None, pass_on: Callable[[int], None] | None) -> Iterator[Stop]:
    """Handles signals as :func:`run` says while the block runs; not at all where ``stop`` is given.

    ``pass_on`` is given those that are meant for a child.
    """
    if stop is not None:
        yield stop
        return
    wish = Stop()
    loop = asyncio.get_running_loop()
    meanings: dict[signal.Signals, Callable[[], None]] = dict.fromkeys(_STOP, wish)
    if pass_on is not None:
        meanings |= {number: partial(pass_on, number) for number in _PASSED_ON}

    def hang_up() -> None:
        read_again()
        if pass_on is not None:
            pass_on(signal.SIGHUP)

    meanings[signal.SIGHUP] = hang_up
    for number, meaning in meanings.items():
        loop.add_signal_handler(number, meaning)
    try:
        yield wish
    finally:
        for number in meanings:
            loop.remove_signal_handler(number)
