"""The life of a sidecar, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext

import aiohttp

from mcp_discovery.adapters.store import Store
from mcp_discovery.child import Child, ChildStartError
from mcp_discovery.errors import DuplicateInstanceError, InvalidInputError
from mcp_discovery.orphans import adopting
from mcp_discovery.registrant.tasks import alongside
from mcp_discovery.sidecar import advertise, healthz
from mcp_discovery.sidecar.access import Access
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.healthz import PortInUseError
from mcp_discovery.sidecar.kept_server import KeptServer
from mcp_discovery.sidecar.metrics import exposition, of_process
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.sidecar.stopping import PassedOn, Stop, signals, unless_stopped

log = logging.getLogger(__name__)

#: Exit codes, besides the child's own.
OK = 0
INVALID_INPUT = 2
DUPLICATE = 5
PORT_IN_USE = 6


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
        passed_on = PassedOn()
        # Before the store is tried and a child is started: a sidecar without its port ends.
        healthz.require_free(settings.health_host, settings.health_port)
        access = Access.of(settings)

        # Before all that takes time: process 1 of a container loses a signal without a handler.
        with signals(stop, passed_on if settings.command else None) as wish:
            try:
                choosing = advertise.choose(
                    settings, store.url, os.environ if environ is None else environ
                )
                if (chosen := await unless_stopped(choosing, wish)) is None:
                    return OK
                if settings.bridged:
                    async with adopting() if stop is None else nullcontext():
                        return await _bridged(settings, store, chosen, wish, passed_on)
                if settings.command:
                    child = await Child.start(settings.command)
                    passed_on.begin(child.signal)
                asking = advertise.as_known_to(store, chosen)
                if (chosen := await unless_stopped(asking, wish)) is None:
                    return OK
                process = child.process.pid if child is not None else None
                server = KeptServer(settings, store, access, chosen, process=process)
                ended = child.ended if child is not None else None
                return await _Sidecar(settings, server, ended).life(wish)
            finally:
                if child is not None:
                    await child.stop(settings.child_grace)
    except (ChildStartError, DuplicateInstanceError, PortInUseError, InvalidInputError) as error:
        return told(error)


def told(error: Exception) -> int:
    """The exit code for ``error``, which is logged as one sentence, and its others as theirs."""
    for each in (error, *getattr(error, "others", ())):
        log.error("%s", each)
    match error:
        case ChildStartError():
            return error.code
        case DuplicateInstanceError():
            return DUPLICATE
        case PortInUseError():
            return PORT_IN_USE
    return INVALID_INPUT


class _Sidecar:
    """A server that is kept registered, and what it shares its process with; ``ended`` waits for
    the end of its command."""

    def __init__(
        self,
        settings: SidecarSettings,
        server: KeptServer,
        ended: Callable[[], Awaitable[int]] | None,
    ) -> None:
        self._settings = settings
        self._server = server
        self._ended = ended
        self._drain = asyncio.Event()
        self._left = asyncio.Event()

    async def life(self, stop: Stop) -> int:
        """Runs until ``stop``, the child's end, or an error that no retrying mends.

        Where it is asked over HTTP to drain, it leaves the store and stays until it is stopped: a
        supervisor might start it again, and it would register a server that is about to end.
        """
        server = self._server
        async with (
            aiohttp.TCPConnector(limit=0) as connector,
            healthz.answering(
                self._settings.health_port,
                host=self._settings.health_host,
                why_not_live=server.why_not_live,
                why_not_ready=server.why_not_ready,
                trouble=lambda: server.registrar.trouble.problem,
                drain=self._drained,
                figures=lambda: exposition(
                    ({}, server.figures()), ({}, of_process(server.registrar.store.credentials_end))
                ),
            ),
            # Not before the port is had: a sidecar without it ends, and must leave no entry.
            server.kept(connector) as registering,
            alongside(stop.wanted.wait(), self._drain.wait(), self._child_ended()) as waits,
        ):
            stopped, drained, ended = waits
            await asyncio.wait(
                {registering, stopped, drained, ended}, return_when=asyncio.FIRST_COMPLETED
            )
            drain = 0.0 if ended.done() else self._settings.drain
            # A child that ends while it is drained has nobody left to wait for.
            ended.add_done_callback(lambda _: stop.hurry.set())
            code = int(ended.result()) if ended.done() else OK
            await server.leave(registering, drain, stop.hurry)
            self._left.set()
            if drained.done() and not stopped.done() and not ended.done():
                log.info("drained as asked; waiting to be stopped")
                await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
                code = int(ended.result()) if ended.done() else OK
            return code

    async def _drained(self) -> None:
        self._drain.set()
        await self._left.wait()

    async def _child_ended(self) -> int:
        if self._ended is None:
            await asyncio.Event().wait()
            return OK
        code = await self._ended()
        log.info("the %s ended with exit code %d", self._settings.noun, code)
        self._server.advise_on_end()
        return code


async def _bridged(
    settings: SidecarSettings, store: Store, chosen: Advertised, stop: Stop, passed_on: PassedOn
) -> int:
    """Runs a sidecar that speaks stdio to its server, and serves it over HTTP."""
    # A sidecar beside a server of HTTP does not pay for an HTTP server.
    from mcp_discovery.sidecar.bridge.bridge import Bridge
    from mcp_discovery.sidecar.bridge.entrance import BridgeCredentials
    from mcp_discovery.sidecar.bridge.serving import BridgeListener

    host, port = settings.listen_place
    # Before a process is started: who may come in has to be said.
    BridgeCredentials.of(settings, host or advertise.listening_host(chosen))
    shared = settings.sessions == "shared"
    program = settings.program(os.environ)
    bridge = Bridge(program, settings.name, gives_up=True, shared=shared)

    def pass_on(number: int) -> None:
        # SIGHUP is for the files of the sidecar: a server over stdio mostly ends of it.
        if number != signal.SIGHUP:
            bridge.signal(number)

    async with bridge.running():
        passed_on.begin(pass_on)
        asking = advertise.as_known_to(store, chosen)
        if (known := await unless_stopped(asking, stop)) is None:
            return OK
        listener = BridgeListener(host or advertise.listening_host(known), port, settings)
        async with listener.listening(), listener.serving("/mcp", bridge, settings):
            settings, access = listener.access_to("/mcp", settings)
            server = KeptServer(settings, store, access, known, bridge=bridge)
            return await _Sidecar(settings, server, bridge.given_up).life(stop)
