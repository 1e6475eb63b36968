"""The servers of a host's file in one process: each is bridged or probed, and registered by itself.

The file is followed: what is added to it comes, what is changed in it starts anew, what is removed
from it drains and leaves, and the others never notice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace

import aiohttp

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.store import Store
from mcp_discovery.child import ChildStartError
from mcp_discovery.errors import DuplicateInstanceError, InvalidInputError
from mcp_discovery.host_files import HostEntry
from mcp_discovery.orphans import adopting
from mcp_discovery.plural import counted
from mcp_discovery.registrant.tasks import alongside, ended, guarded, is_set
from mcp_discovery.sidecar import advertise, healthz
from mcp_discovery.sidecar.access import Access
from mcp_discovery.sidecar.advertise import Advertised
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.serving import BridgeListener
from mcp_discovery.sidecar.kept_server import KeptServer
from mcp_discovery.sidecar.metrics import Family, SidecarFigures, exposition, of_process
from mcp_discovery.sidecar.run import OK, told
from mcp_discovery.sidecar.servers_file import ServersFile, ServersFileSettings
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.sidecar.stopping import Stop, signals, unless_stopped

log = logging.getLogger(__name__)

#: With these a server ends; another attempt may find that it was mended.
_FAILURES = (ChildStartError, DuplicateInstanceError, InvalidInputError, healthz.PortInUseError)
#: Seconds between two attempts, from the first to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
#: Seconds between two looks at what has become of the servers; the file has its own pace.
_TURN = 0.5
#: Seconds after which a server that has not answered yet keeps its process from being ready no
#: longer.
_PATIENCE = 30.0


async def run_file(
    settings: ServersFileSettings,
    store: Store,
    *,
    stop: Stop | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Runs the servers of a file until it is stopped, and returns an exit code.

    ``store``, ``stop`` and ``environ`` are as in :func:`mcp_discovery.sidecar.run.run`; entries are
    filled in from ``environ``. Returns 0 when it was stopped, 2 when the file, or no entry in it,
    can be used, 6 when a port is in use. What is wrong is logged.
    """
    environ = os.environ if environ is None else environ
    process = settings.process
    try:
        healthz.require_free(process.health_host, process.health_port)
        file = ServersFile(settings, environ)
        commands = file.require_usable()
        with signals(stop, None) as wish:
            async with adopting() if stop is None else nullcontext():
                return await _Servers(file, process, store, environ, wish).life(commands=commands)
    except (InvalidInputError, healthz.PortInUseError) as error:
        return told(error)


class _Filed:
    """One server of the file, from its start to its end."""

    def __init__(self, entry: HostEntry, settings: SidecarSettings, hurry: asyncio.Event) -> None:
        self.entry = entry
        self.settings = settings
        self.stop = Stop()
        self.stop.hurry = hurry
        self.began = time.monotonic()
        self.server: KeptServer | None = None
        #: Why it is not running; ``None`` where it is, as far as is known.
        self.problem: str | None = None
        self.task: asyncio.Task[None] | None = None
        #: Whether it was ready once, or has failed: it is not starting any more.
        self._settled = False

    @property
    def why_not_ready(self) -> str | None:
        """Why it cannot be counted on to be listed; ``None`` where it can."""
        if self.problem is not None:
            return self.problem
        return "starting" if self.server is None else self.server.why_not_ready()

    @property
    def settled(self) -> bool:
        """Whether nobody has to wait for it any longer."""
        return self._settled or time.monotonic() - self.began > _PATIENCE

    def look(self) -> None:
        """Takes in what has become of it."""
        if self.server is not None:
            self._settled = self._settled or self.server.has_failed
            if self.server.why_not_ready() is None:
                self._settled, self.problem = True, None

    def fail(self, problem: str) -> None:
        """Takes why it ended; says it once."""
        if problem != self.problem:
            log.error("%s: %s; it is tried again now and then", self.entry.name, problem)
        self._settled, self.problem, self.server = True, problem, None


class _Servers:
    """All servers of the file, and what they share: a listener, connections, the health port."""

    def __init__(
        self,
        file: ServersFile,
        process: SidecarSettings,
        store: Store,
        environ: Mapping[str, str],
        stop: Stop,
    ) -> None:
        self._file = file
        self._process = process
        self._store = store
        self._environ = environ
        self._stop = stop
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._served: tuple[BridgeListener, Advertised] | None = None
        self._connector = aiohttp.TCPConnector(limit=0)
        self._running: dict[str, _Filed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: dict[str, str] = {}
        self._drain = asyncio.Event()
        self._left = asyncio.Event()

    async def life(self, *, commands: bool) -> int:
        """Runs until it is stopped; where it is asked over HTTP to drain, the servers leave the
        store, and it waits.

        With ``commands`` it listens at once, and raises what is wrong with that; else with the
        first that comes.
        """
        async with (
            self._connector,
            self._stack,
            healthz.answering(
                self._process.health_port,
                host=self._process.health_host,
                why_not_live=self._why_not_live,
                why_not_ready=self._why_not_ready,
                trouble=self._trouble,
                drain=self._drained,
                figures=self._figures,
                servers=lambda: {
                    name: each.why_not_ready or "ready" for name, each in self._running.items()
                },
            ),
        ):
            if commands:
                opening = self._place_of_commands()
                if await unless_stopped(opening, self._stop) is None:
                    return OK
            try:
                async with alongside(
                    guarded("following the file of servers", self._follow),
                    self._stop.wanted.wait(),
                    self._drain.wait(),
                ) as (_, stopped, drained):
                    await asyncio.wait({stopped, drained}, return_when=asyncio.FIRST_COMPLETED)
                for one in self._running.values():
                    one.stop()
                if self._tasks:
                    await asyncio.wait(self._tasks)
                self._left.set()
                if not self._stop.wanted.is_set():
                    log.info("drained as asked; waiting to be stopped")
                    await self._stop.wanted.wait()
                return OK
            finally:
                await ended(*self._tasks)

    async def _place_of_commands(self) -> tuple[BridgeListener, Advertised]:
        """Where commands are served, and as what that is advertised; listens with the first.

        Raises :class:`~mcp_discovery.errors.InvalidInputError` and
        :class:`~mcp_discovery.sidecar.healthz.PortInUseError` where it cannot.
        """
        async with self._opening:
            if self._served is None:
                process = self._process
                chosen = await advertise.choose(process, self._store.url, self._environ)
                known = await advertise.as_known_to(self._store, chosen)
                host, port = process.listen_place
                host = host or advertise.listening_host(known)
                listener = BridgeListener(host, port, process)
                await self._stack.enter_async_context(listener.listening())
                self._served = listener, known
            return self._served

    async def _follow(self) -> None:
        while True:
            if self._file.changed():
                self._apply()
            for each in self._running.values():
                each.look()
            await asyncio.sleep(_TURN)

    def _apply(self) -> None:
        """Starts what is new, ends what is gone, and does both where something is changed.

        What is refused and runs already stays as it is: its last good entry counts.
        """
        wanted, refused = self._file.wanted()
        for key, problem in refused.items():
            if self._refused.get(key) != problem:
                log.error("%s", problem)
        self._refused = refused
        before = dict(self._running)
        for name, one in before.items():
            if name not in wanted and one.entry.key not in refused:
                log.info("%s is not in the file any more", name)
                self._end(one)
        for name, (entry, settings) in wanted.items():
            now = before.get(name)
            if now is None or now.entry != entry:
                if now is not None:
                    log.info("%s is another in the file now; it starts anew", name)
                    self._end(now)
                self._start(_Filed(entry, settings, self._stop.hurry))
        if not before:
            some = counted(len(self._running), "server")
            log.info("%s of the file%s", some, f"; refused: {len(refused)}" if refused else "")

    def _start(self, one: _Filed) -> None:
        name = one.entry.name
        # It has the path and the id of the one before, which has to leave first.
        same = [task for task in self._tasks if task.get_name() == name]
        one.task = asyncio.create_task(self._keep(one, same), name=name)
        self._tasks.add(one.task)
        one.task.add_done_callback(self._tasks.discard)
        self._running[name] = one

    def _end(self, one: _Filed) -> None:
        one.stop()
        del self._running[one.entry.name]

    # -- one server ----------------------------------------------------------------------------

    async def _keep(self, one: _Filed, before: Sequence[asyncio.Task[None]]) -> None:
        """Runs one server until it is stopped, and again after it has failed."""
        if before:
            await asyncio.wait(before)
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not one.stop.wanted.is_set():
            try:
                await self._run(one)
            except _FAILURES as error:
                one.fail(str(error))
            except Exception as error:  # the guard that keeps the others from its faults
                if one.problem is None:
                    log.exception("unexpected error in %s", one.entry.name)
                one.fail(f"unexpected error: {error!r}")
            await is_set(one.stop.wanted, pauses.next() + _FIRST_PAUSE)

    async def _run(self, one: _Filed) -> None:
        settings, entry = one.settings, one.entry
        async with AsyncExitStack() as stack:
            bridge = None
            if settings.bridged:
                place = await unless_stopped(self._place_of_commands(), one.stop)
                if place is None:
                    return
                listener, chosen = place
                program = replace(
                    settings.program(
                        self._environ, env=entry.env, env_file=entry.env_file, cwd=entry.cwd
                    ),
                    secrets=entry.secrets,
                )
                shared = settings.sessions == "shared"
                bridge = Bridge(program, entry.name, shared=shared)
                await stack.enter_async_context(bridge.running())
                path = f"/{entry.name}/mcp"
                await stack.enter_async_context(listener.serving(path, bridge, settings))
                settings, access = listener.access_to(path, settings)
            else:
                access = Access.of(settings)
            if bridge is None or settings.advertise_url is not None:
                chosen = await advertise.choose(settings, self._store.url, self._environ)
            server = KeptServer(settings, self._store, access, chosen, bridge=bridge)
            registering = await stack.enter_async_context(server.kept(self._connector))
            one.server = server
            async with alongside(one.stop.wanted.wait()) as (stopped,):
                await asyncio.wait({registering, stopped}, return_when=asyncio.FIRST_COMPLETED)
                await server.leave(registering, settings.drain, one.stop.hurry)

    # -- what is told of them ------------------------------------------------------------------

    async def _drained(self) -> None:
        self._drain.set()
        await self._left.wait()

    def _why_not_live(self) -> str | None:
        for name, one in self._running.items():
            if one.server is not None and (why := one.server.why_not_live()) is not None:
                return f"{name}: {why}"
        return None

    def _why_not_ready(self) -> str | None:
        """One that does not start keeps the others from being counted on for a while only."""
        waiting = [each for each in self._running.values() if each.why_not_ready is not None]
        if not self._running or len(waiting) == len(self._running):
            starting = waiting
        else:
            starting = [each for each in waiting if not each.settled]
        if self._running and not starting:
            return None
        if not self._running and not self._refused:
            return "the file names no server"
        return _sentence(starting) or "no server of the file can be run"

    def _trouble(self) -> str | None:
        running = self._running.values()
        told = _sentence([each for each in running if each.why_not_ready is not None])
        stores = {each.server.registrar.trouble.problem for each in running if each.server}
        return "; ".join(filter(None, (told, *stores, *self._refused.values()))) or None

    def _figures(self) -> str:
        return exposition(
            *(({"server": name}, _figures_of(one)) for name, one in sorted(self._running.items())),
            ({}, of_process(self._store.credentials_end)),
        )


def _figures_of(one: _Filed) -> Iterator[Family]:
    if one.server is not None:
        return one.server.figures()
    return SidecarFigures().families(registered=False, trouble=None)


def _sentence(those: Sequence[_Filed]) -> str:
    return "; ".join(f"{each.entry.name}: {each.why_not_ready}" for each in those)
