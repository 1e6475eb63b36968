"""StdioProbe: starts a command and asks it over its pipes what it offers.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Final

from mcp_discovery.probe.duplex import Duplex
from mcp_discovery.probe.errors import (
    BadAnswerError,
    NoAnswerError,
    ProbeError,
    UnreachableError,
)
from mcp_discovery.probe.probe import McpProbe
from mcp_discovery.probe.wire import Limits
from mcp_discovery.program import Program
from mcp_discovery.secrets import secret_values
from mcp_discovery.stdio_child import ChildGoneError, StdioChild

#: Seconds that a command may go on running after it has closed its output.
_LINGERING: Final = 1.0
#: How many lines that are no message a command may print.
_MOST_PRINTED: Final = 10_000
#: Seconds between SIGTERM and SIGKILL.
_GRACE: Final = 2.0


class StdioProbe(McpProbe):
    """A client of the MCP server that ``program`` is, which runs from the first question on until
    ``disconnect`` or ``close``.

    One that ends at the first question of the modern era is started once more for the other era,
    and for nothing else. ``name`` stands before what it logs. Its methods also raise
    :class:`~mcp_discovery.child.ChildStartError`. Errors tell what the command said last.
    """

    def __init__(self, program: Program, name: str, *, limits: Limits | None = None) -> None:
        """Nothing is started yet; raises :class:`~mcp_discovery.errors.InvalidInputError` where the
        variables of ``program`` cannot be read. Its secrets are blanked in errors."""
        wire = StdioWire(url=name, limits=limits or Limits(), program=program)
        secrets = (*program.secrets, *secret_values(program.environment()))
        self._begin(wire, (name,), lambda: secrets)

    def _hints_at_another_peer(self, failure: BadAnswerError | UnreachableError) -> bool:
        return False


@dataclass(eq=False, kw_only=True)
class StdioWire(Duplex):
    """The pipes of one process of ``program``."""

    program: Program
    _child: StdioChild | None = field(default=None, init=False)
    #: The first line of its output that is no message.
    _printed: str = field(default="", init=False)
    _lines_printed: int = field(default=0, init=False)

    async def _connect(self, connection: AsyncExitStack) -> AsyncGenerator[bytes, None]:
        self._child = child = await StdioChild.start(self.program, self.url)
        connection.push_async_callback(child.stop, _GRACE)
        return self._lines(child)

    async def _lines(self, child: StdioChild) -> AsyncGenerator[bytes, None]:
        async with aclosing(child.lines()) as lines:
            async for line in lines:
                yield line
        try:
            async with asyncio.timeout(_LINGERING):
                ending = str(await child.ended())
        except TimeoutError:
            ending = "closed its output and went on running"
        raise UnreachableError(f"the command {ending}", was_connected=True)

    async def _send(self, body: bytes) -> None:
        self.requests += 1
        assert self._child is not None
        try:
            await self._child.send(body)
        except ChildGoneError:
            assert self._reader is not None
            await asyncio.wait({self._reader}, timeout=_LINGERING)
            if not self._reader.done():
                raise UnreachableError("the command reads nothing", was_connected=True) from None
            # Whoever waits for an answer is told how it ended.

    def _deliver(self, raw: bytes) -> None:
        try:
            super()._deliver(raw)
        except BadAnswerError as error:
            if error.over_limit:
                raise
            assert self._child is not None
            said = self._child.skip(raw)
            self._lines_printed += 1
            if self._lines_printed > _MOST_PRINTED:
                why = f"printed {_MOST_PRINTED:,} lines that are no message of MCP"
                raise BadAnswerError(f"{why}: {self._printed!r}", over_limit=True) from error
            if not self._printed:
                self._printed = said
                self.oddities.add(f"it prints what is no message of MCP to its output: {said!r}")

    async def explain(self, failure: ProbeError) -> None:
        if not isinstance(failure, NoAnswerError) or self._child is None:
            return
        if said := self._child.last_line:
            failure.args = (f"{failure}; the command said last: {said}",)
        elif self._printed:
            failure.args = (f"{failure}; the command printed {self._printed!r}",)
