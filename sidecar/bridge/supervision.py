"""A process of a bridge while it runs: what it is ended for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mcp_discovery.mcp_messages import JsonRpcError
from mcp_discovery.program import Program
from mcp_discovery.sidecar.bridge.connection import ChildConnection
from mcp_discovery.sidecar.bridge.greeting import Greeting, envelope
from mcp_discovery.sidecar.process_figures import ProcessFigures
from mcp_discovery.stdio_child import Ending

log = logging.getLogger(__name__)

#: What a process did that hangs.
SILENT: Final = "answered nothing"
#: Seconds from one look at a process to the next, and where what it takes is limited.
_TURN: Final = 1.0
_SHORT_TURN: Final = 0.5
#: How much longer than others a process may be silent while it has a client's request, or has not
#: spoken yet: many servers do their work in the thread that should answer.
_WORKING: Final = 5
#: Seconds in which what a process left behind, after it ended well, has to answer in its place.
_LEFT_BEHIND: Final = 3.0


async def supervised(
    connection: ChildConnection, program: Program, greeting: Callable[[], Greeting | None]
) -> Ending:
    """Reads what a process says until it ends, or is ended as ``program`` wants; how it ended."""

    async def watch() -> None:
        why, grace = await _fault(connection, program, greeting)
        if not connection.child.has_exited:
            log.warning("process %d %s: ending it", connection.child.pid, why)
        await connection.child.end(why, grace)

    watching = asyncio.create_task(watch(), name=f"watching {connection.child.pid}")
    try:
        return await connection.run()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _fault(
    connection: ChildConnection, program: Program, greeting: Callable[[], Greeting | None]
) -> tuple[str, float]:
    """What the process did, once it has to be ended, and how many seconds it is given for that."""
    child = connection.child
    limited = program.memory_max is not None or program.cpu_seconds is not None
    turn = _SHORT_TURN if limited else _TURN
    figures = ProcessFigures(lambda: (child.pid,)) if limited else None
    silent, heard, deaf = 0.0, 0, False
    ping: asyncio.Task[None] | None = None
    try:
        while True:
            await asyncio.sleep(turn)
            if child.is_deaf and deaf:
                return "closed its input", program.grace
            deaf = child.is_deaf
            if figures is not None and (why := _excess(program, figures)) is not None:
                return why, 0.0
            # Turns are counted and no time: this process, too, may have been stopped meanwhile.
            silent = silent + turn if connection.heard == heard else 0.0
            heard = connection.heard
            known = greeting()
            working = known is None or connection.is_working
            patience = program.restart_after * (_WORKING if working else 1)
            if child.has_exited:
                patience = _LEFT_BEHIND
            if not patience:
                continue
            if silent >= patience and connection.is_asked:
                return f"{SILENT} for {patience:g} s", program.grace
            if silent >= patience / 4 and known is not None and (ping is None or ping.done()):
                ping = asyncio.create_task(_ping(connection, known), name="ping")
    finally:
        if ping is not None:
            ping.cancel()
            await asyncio.gather(ping, return_exceptions=True)


async def _ping(connection: ChildConnection, greeting: Greeting) -> None:
    try:
        if greeting.is_modern:
            await connection.request("server/discover", {"_meta": envelope(greeting.protocol)})
        else:
            await connection.request("ping")
    except JsonRpcError:
        log.debug("a ping was refused, which is an answer")


def _excess(program: Program, figures: ProcessFigures) -> str | None:
    if (use := figures.read()) is None:
        return None
    if program.memory_max is not None and use.memory > program.memory_max:
        return f"used more than {program.memory_max / 2**20:g} MiB of memory"
    if program.cpu_seconds is not None and use.seconds > program.cpu_seconds:
        return f"used more than {program.cpu_seconds:g} s of processor time"
    return None
