"""One MCP server over stdio: its process is kept running, and its clients are led to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from mcp_discovery.child import ChildStartError
from mcp_discovery.mcp_messages import INTERNAL_ERROR, JsonRpcError
from mcp_discovery.program import Program
from mcp_discovery.sidecar.bridge.connection import ChildConnection, Params
from mcp_discovery.sidecar.bridge.figures import BridgeFigures
from mcp_discovery.sidecar.bridge.greeting import Greeting, greet, initialize
from mcp_discovery.stdio_child import Ending, StdioChild

log = logging.getLogger(__name__)

#: Seconds between the end of a process and the start of the next one: doubled each time from the
#: first to the last, and again the first after a process that lived for so long.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LIVED: Final = 30.0


class Spoken:
    """A process that has been greeted, and what it said."""

    def __init__(self, connection: ChildConnection, greeting: Greeting) -> None:
        self.connection = connection
        self.greeting = greeting


class Bridge:
    """Keeps a process of ``program`` running; ``name`` is what its log lines begin with."""

    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.name = name
        #: Why the server cannot be asked now; ``None`` where it can.
        self.why_not: str | None = "has not answered yet"
        #: Is told what the server says without being asked.
        self.listeners: set[Callable[[str, Params], None]] = set()
        #: How many processes were started after the first one.
        self.restarts = 0
        #: Is called whenever :attr:`why_not` has changed.
        self.changed: Callable[[], None] = lambda: None
        self._spoken: Spoken | None = None
        self._pids: set[int] = set()
        #: What it measures.
        self.figures = BridgeFigures(lambda: self._pids, lambda: self.restarts)
        #: Whether processes end by themselves where they are asked anything before ``initialize``.
        self._legacy_alone = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The process is kept running while the block runs.

        Raises :class:`~mcp_discovery.child.ChildStartError` where the command cannot be
        run at all.
        """
        child = await StdioChild.start(self.program, self.name)
        keeping = asyncio.create_task(self._keep(child), name=f"bridge to {self.name}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def spoken(self) -> Spoken:
        """The process that is there for all; raises :class:`JsonRpcError` where it cannot be
        asked."""
        if self._spoken is None:
            raise JsonRpcError(INTERNAL_ERROR, f"the MCP server {self.why_not}", status=503)
        return self._spoken

    @asynccontextmanager
    async def own_process(
        self, capabilities: Mapping[str, Any], info: Mapping[str, Any], protocol: str
    ) -> AsyncIterator[Spoken]:
        """A legacy process for one session alone, which ends with the block.

        Raises :class:`JsonRpcError`.
        """
        try:
            child = await StdioChild.start(self.program, self.name)
        except ChildStartError as error:
            raise JsonRpcError(INTERNAL_ERROR, str(error), status=503) from error
        connection = ChildConnection(child)
        self._pids.add(child.pid)
        reading = asyncio.create_task(connection.run(), name=f"reading {self.name}")
        try:
            yield Spoken(connection, await initialize(connection, capabilities, info, protocol))
        finally:
            await child.stop(self.program.grace)
            self._pids.discard(child.pid)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def notify(self, method: str, params: Params) -> None:
        """Hands on what the server says without being asked."""
        for each in list(self.listeners):
            each(method, params)

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """Refuses what the process that all share asks, as it cannot be said whom."""
        raise JsonRpcError(INTERNAL_ERROR, f"{method}: no client of this server can be asked")

    async def _keep(self, child: StdioChild | None) -> None:
        pause = _FIRST_PAUSE
        while True:
            began, legacy_alone = time.monotonic(), self._legacy_alone
            try:
                if child is None:
                    self.restarts += 1
                    child = await StdioChild.start(self.program, self.name)
                ending: object = await self._live(child)
            except ChildStartError as error:
                ending = error
            child = None
            if self._legacy_alone and not legacy_alone:
                log.info("%s %s, asked for its era; it is not asked any more", self.name, ending)
                continue
            if time.monotonic() - began > _LIVED:
                pause = _FIRST_PAUSE
            self._say(str(ending))
            log.warning("%s %s; starting it again in %g s", self.name, ending, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _live(self, child: StdioChild) -> Ending:
        connection = ChildConnection(child, self)
        self._pids.add(child.pid)
        reading = asyncio.create_task(connection.run(), name=f"reading {self.name}")
        greets = initialize(connection) if self._legacy_alone else greet(connection)
        greeting = asyncio.create_task(greets, name=f"greeting {self.name}")
        try:
            await asyncio.wait({reading, greeting}, return_when=asyncio.FIRST_COMPLETED)
            if greeting.done() and not reading.done():
                self._spoken = Spoken(connection, greeting.result())
                self._say(None)
                return await reading
            ending = await reading
            self._legacy_alone = ending.code >= 0 and not self._legacy_alone
            return ending
        except JsonRpcError as fault:
            return Ending(0, f"refuses to speak MCP: {fault.message}")
        finally:
            self._spoken = None
            greeting.cancel()
            await child.stop(self.program.grace)
            self._pids.discard(child.pid)
            reading.cancel()
            await asyncio.gather(reading, greeting, return_exceptions=True)

    def _say(self, why_not: str | None) -> None:
        if why_not != self.why_not:
            self.why_not = why_not
            self.changed()
