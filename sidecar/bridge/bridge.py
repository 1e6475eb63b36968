"""One MCP server over stdio: its process is kept running, and its clients are led to it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from mcp_discovery.child import ChildStartError
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.mcp_messages import INTERNAL_ERROR, JsonRpcError
from mcp_discovery.program import Program
from mcp_discovery.quoted import quoted
from mcp_discovery.sidecar.bridge.audience import SharedAudience
from mcp_discovery.sidecar.bridge.connection import ChildConnection
from mcp_discovery.sidecar.bridge.eras import Spoken
from mcp_discovery.sidecar.bridge.figures import BridgeFigures
from mcp_discovery.sidecar.bridge.greeting import (
    Greeting,
    greet,
    greet_as_legacy,
    initialize,
)
from mcp_discovery.sidecar.bridge.supervision import SILENT, supervised
from mcp_discovery.stdio_child import Ending, StdioChild
from mcp_discovery.stdio_hints import hint

log = logging.getLogger(__name__)

#: Seconds between the end of a process and the start of the next one: doubled each time from the
#: first to the last, and again the first after a process that lived for so long.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LIVED: Final = 30.0
#: Seconds after which it is said that a process has not answered its first request, where what it
#: said tells why, and where it does not.
_HINTED_AFTER: Final = 5.0
_PATIENCE: Final = 30.0
_MAY_WAIT: Final = "it may wait for a login or a terminal: run it by hand once"
#: What to do about a command that ends before it spoke.
_ADVICE: Final = (
    "see which arguments it wants, and which variables: it is given those that --env names"
)
#: The longest name of a server in the log, in characters.
_LONGEST_NAME: Final = 60
#: Why a process cannot be started.
_CANNOT_START: Final = (ChildStartError, InvalidInputError)
#: How many processes of sessions are started at the same time, and how many seconds one may take
#: to answer ``initialize``.
_MOST_STARTING: Final = 4
_ANYTHING: Final[Mapping[str, Any]] = {
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
    "roots": {},
}
_GREETED_WITHIN: Final = 60.0


class Bridge:
    """Keeps a process of ``program`` running; ``name`` is what its log lines begin with, by
    default the server's own as soon as that is known.

    With ``gives_up`` it does not start another one where the first ends before it spoke MCP. A
    legacy process is told that it may ask its client anything where it is ``shared`` by all, else
    nothing: clients that can be asked then have others.
    """

    def __init__(
        self, program: Program, name: str | None, *, gives_up: bool = False, shared: bool = False
    ) -> None:
        self.program = program
        self.name = name or os.path.basename(program.command[0])
        self._is_named = name is not None
        #: Why the server cannot be asked now; ``None`` where it can.
        self.why_not: str | None = "is starting"
        #: Who is told what the process says that all share.
        self.audience = SharedAudience()
        #: How many processes were started after the first one.
        self.restarts = 0
        #: Is called whenever :attr:`why_not` has changed.
        self.changed: Callable[[], None] = lambda: None
        self._starting = asyncio.Semaphore(_MOST_STARTING)
        self._spoken: Spoken | None = None
        self._gives_up = gives_up
        self._may_ask: Mapping[str, Any] = _ANYTHING if shared else {}
        self._given_up: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._children: set[StdioChild] = set()
        #: What it measures.
        self.figures = BridgeFigures(
            lambda: [each.pid for each in self._children], lambda: self.restarts
        )
        #: Whether processes end by themselves where they are asked anything before ``initialize``.
        self._legacy_alone = False
        #: Whether processes are known to refuse ``initialize``.
        self.modern_alone = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The process is kept running while the block runs.

        Raises :class:`~mcp_discovery.child.ChildStartError` where the command cannot be
        run at all, and :class:`~mcp_discovery.errors.InvalidInputError` where the file with its
        variables cannot be read.
        """
        child = await StdioChild.start(self.program, self.name)
        keeping = asyncio.create_task(self._keep(child), name=f"bridge to {self.name}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def given_up(self) -> int:
        """Waits until it gives up; the exit code for that, never 0."""
        ending = await asyncio.shield(self._given_up)
        return 1 if ending.why else ending.exit_code or 1

    def signal(self, number: int) -> None:
        """Sends a signal to all of its processes."""
        for each in self._children:
            each.signal(number)

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
        """A process for one client alone, which ends with the block: a legacy one where the server
        has that era, too.

        Few are started at the same time. Raises :class:`JsonRpcError`.
        """
        greeting: Greeting | None = None
        async with AsyncExitStack() as stack:
            async with self._starting:
                try:
                    child = await StdioChild.start(self.program, self.name)
                except _CANNOT_START as error:
                    raise JsonRpcError(INTERNAL_ERROR, str(error), status=503) from error
                connection = ChildConnection(child)
                await stack.enter_async_context(self._read(connection, lambda: greeting))
                try:
                    async with asyncio.timeout(_GREETED_WITHIN):
                        greeting = await greet_as_legacy(connection, capabilities, info, protocol)
                except TimeoutError as error:
                    detail = f"the MCP server did not answer initialize in {_GREETED_WITHIN:g} s"
                    raise JsonRpcError(INTERNAL_ERROR, detail, status=504) from error
            self.modern_alone = greeting.is_modern
            connection.audience = audience = SharedAudience()
            async with audience.of(connection, greeting):
                yield Spoken(connection, greeting, audience)

    @asynccontextmanager
    async def _read(
        self, connection: ChildConnection, greeting: Callable[[], Greeting | None]
    ) -> AsyncIterator[asyncio.Task[Ending]]:
        """Reads a process while the block runs, and ends it then."""
        child = connection.child
        self._children.add(child)
        reading = asyncio.create_task(
            supervised(connection, self.program, greeting), name=f"reading {self.name}"
        )
        try:
            yield reading
        finally:
            try:
                await child.stop(self.program.grace)
            finally:
                self._children.discard(child)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _keep(self, child: StdioChild | None) -> None:
        pause, told = _FIRST_PAUSE, ""
        while True:
            began, legacy_alone = time.monotonic(), self._legacy_alone
            try:
                if child is None:
                    self.restarts += 1
                    child = await StdioChild.start(self.program, self.name)
                ending: object = await self._live(child)
            except _CANNOT_START as error:
                ending = error
            except Exception as error:  # the guard that keeps the server from what we did not see
                log.exception("unexpected error in the bridge to %s", self.name)
                ending = f"cannot be read: {error!r}"
            if self._legacy_alone and not legacy_alone:
                log.info("%s %s; trying once more as a legacy server", self.name, ending)
                child, self.restarts = None, self.restarts - 1  # it has never served
                continue
            if time.monotonic() - began > _LIVED:
                pause, told = _FIRST_PAUSE, ""
            self._say(str(ending))
            # One that waits for something may have it the next time.
            if self._gives_up and isinstance(ending, Ending) and not ending.why.startswith(SILENT):
                what = hint(child.log.all() if child is not None else "") or _ADVICE
                log.error("before it spoke MCP, %s %s; %s", self.name, ending, what)
                self._given_up.set_result(ending)
                return
            child = None
            level = logging.INFO if told == str(ending) else logging.WARNING
            log.log(level, "%s %s; starting it again in %g s", self.name, ending, pause)
            told = str(ending)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _live(self, child: StdioChild) -> Ending:
        connection = ChildConnection(child, self.audience)
        async with AsyncExitStack() as stack:
            reading = await stack.enter_async_context(self._read(connection, self._greeting))
            greeting = asyncio.create_task(self._greet(connection), name=f"greeting {self.name}")
            try:
                both = {reading, greeting}
                if not await _first(both, _HINTED_AFTER):
                    waited, what = _HINTED_AFTER, hint(child.log.all())
                    if not what and not await _first(both, _PATIENCE - _HINTED_AFTER):
                        waited, what = _PATIENCE, hint(child.log.all()) or _MAY_WAIT
                    if what:
                        self._say(_unanswered(child, waited, what))
                        log.warning("%s %s", self.name, self.why_not)
                    await _first(both)
                if not reading.done():
                    said = greeting.result()
                    self._spoken = Spoken(connection, said, self.audience)
                    await stack.enter_async_context(self.audience.of(connection, said))
                    self._gives_up = False
                    if not self._is_named and (own := quoted(said.info.get("name"), _LONGEST_NAME)):
                        self.name = child.log.name = own
                    self._say(None)
            except JsonRpcError as fault:
                if fault.status is None:  # else it cannot be asked, which has another reason
                    await child.end(f"refuses to speak MCP ({fault.message})", self.program.grace)
            finally:
                # A greeting that fails does so as the process has ended, mostly.
                greeting.cancel()
                await asyncio.gather(greeting, return_exceptions=True)
            try:
                ending = await reading
                if self._spoken is None:
                    by_itself = ending.code >= 0 and not ending.why
                    self._legacy_alone = by_itself and not self._legacy_alone
                else:
                    self._say(str(ending))  # before all that it left behind is ended, too
                return ending
            finally:
                self._spoken = None

    def _greeting(self) -> Greeting | None:
        return self._spoken.greeting if self._spoken is not None else None

    async def _greet(self, connection: ChildConnection) -> Greeting:
        begin = initialize if self._legacy_alone else greet
        return await begin(connection, self._may_ask)

    def _say(self, why_not: str | None) -> None:
        if why_not != self.why_not:
            self.why_not = why_not
            self.changed()


async def _first(tasks: set[asyncio.Task[Any]], timeout: float | None = None) -> bool:
    """Whether one of ``tasks`` is done within ``timeout`` seconds."""
    done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


def _unanswered(child: StdioChild, waited: float, what: str) -> str:
    """What is said of a process that has not answered for ``waited`` seconds, probably as ``what``
    says."""
    last = child.log.telling or child.log.printed_telling
    line = f"; its last line: {last}" if last else ""
    return f"started, but has not answered initialize for {waited:g} s; {what}{line}"
