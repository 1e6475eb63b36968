"""One MCP server kept registered: watcher, introspector and registrar, wired for whoever runs them.

A watcher asks the server whether it lives, an introspector what it offers; the registrar sends what
they find to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from mcp_discovery.errors import DuplicateInstanceError, InvalidInputError
from mcp_discovery.probe import Introspection, Probe
from mcp_discovery.registrant.introspector import Introspector, ServerDescription
from mcp_discovery.registrant.registrar import Registrar, TakenOverError
from mcp_discovery.registrant.tasks import alongside, ended, guarded
from mcp_discovery.registrant.watcher import HealthCheck, Pace, ProbeFinding, Watcher

#: With these a registration is over: no retrying mends them.
_FINAL = (DuplicateInstanceError, TakenOverError, InvalidInputError)


@dataclass(eq=False, kw_only=True)
class Registrant:
    """Keeps one MCP server registered, by the terms of ``registrar``, until it is closed.

    ``describe`` makes a description of what was read at a URL. ``found`` and ``described`` are
    called with what is on its way to the store, ``unreadable`` when what the server offers cannot
    be read from now on, ``lost`` when the registration has come to its end,
    which :meth:`keep` raises without it. ``name`` is for the log.
    """

    registrar: Registrar
    name: str
    describe: Callable[[Introspection, str], ServerDescription]
    found: Callable[[ProbeFinding], None]
    described: Callable[[ServerDescription], None] = lambda _: None
    unreadable: Callable[[], None] = lambda: None
    lost: Callable[[Exception], Awaitable[None]] | None = None
    watcher: Watcher = field(init=False)
    _watching: asyncio.Task[None] | None = None
    _keeping: asyncio.Task[None] | None = None

    def watch(
        self,
        check: HealthCheck,
        pace: Pace,
        make_probe: Callable[[], Probe] | None,
        *,
        wait_for: str | None = None,
        reads: bool = True,
        first_pause: float = 0.0,
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Starts to watch the server, from ``first_pause`` seconds on; it is not watched yet.

        ``check``, ``pace`` and ``make_probe`` are as in :class:`Watcher`. With ``wait_for`` (the
        URL to dial) the server is waited for, and its notifications are followed; without, what it
        offers is read after each probe, unless ``reads`` is false: then its description stays.
        ``beside`` runs while the server is watched.
        """
        introspector = Introspector(
            describe=self.describe,
            described=self._take_description,
            unfit=self.registrar.reject,
            probe_soon=lambda: self.watcher.probe_soon(),
            quiet_for=lambda: self.watcher.quiet_for,
            unreadable=lambda: self.unreadable(),
            reconsider=lambda: self.watcher.reconsider(),
            expects_credentials=check.expects_credentials,
            known=self.registrar.description,
            interval=pace.pause,
            timeout=pace.reading_timeout,
            name=self.name,
        )
        finding = self.registrar.finding
        self.watcher = Watcher(
            check=check,
            pace=pace,
            make_probe=make_probe,
            found=self._take_finding,
            health=None if finding is None else finding.health,
            ttl=self.registrar.terms.ttl,
            wait_for=wait_for,
            follow=None if wait_for is None else introspector.follow,
            read=introspector.read if reads and wait_for is None else None,
            trouble=lambda: introspector.trouble,
            name=self.name,
        )
        self._watching = asyncio.create_task(self._watch_beside(first_pause, beside))

    async def _watch_beside(
        self, first_pause: float, beside: Callable[[], Awaitable[None]] | None
    ) -> None:
        others = [guarded(f"looking at {self.name}", beside)] if beside is not None else []
        async with alongside(*others):
            await guarded(f"probing {self.name}", partial(self.watcher.run, first_pause))

    async def probe(self, timeout: float) -> ProbeFinding | None:
        """Probes now, or joins the probe that is under way; waits at most ``timeout`` seconds.

        Returns what was found, ``None`` when it has not ended by then; it goes on.
        """
        if self._watching is None or self._watching.done():
            return None
        return await self.watcher.probe(timeout)

    def keep(self) -> asyncio.Task[None]:
        """Starts to keep the server registered; the task ends as :meth:`Registrar.run` does."""
        self._keeping = asyncio.create_task(self._keep(), name=f"heartbeat {self.name}")
        return self._keeping

    async def stop_watching(self) -> None:
        """Ends what :meth:`watch` started; the registration goes on with what was found."""
        if self._watching is not None:
            await ended(self._watching)

    async def aclose(self) -> None:
        """Stops; the registration is left to its TTL."""
        self.registrar.stop()
        await self.stop_watching()
        if self._keeping is not None and self._keeping is not asyncio.current_task():
            await ended(self._keeping)

    async def _keep(self) -> None:
        what = f"the registration of {self.name}"
        try:
            await guarded(what, self.registrar.run, ends_with=_FINAL)
        except _FINAL as error:
            if self.lost is None:
                raise
            await self.lost(error)

    def _take_finding(self, finding: ProbeFinding) -> None:
        self.registrar.found(finding)
        self.found(finding)

    def _take_description(self, description: ServerDescription) -> None:
        self.registrar.describe(description)
        self.described(description)
