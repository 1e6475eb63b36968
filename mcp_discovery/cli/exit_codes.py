"""Exit codes, what they mean, and how the work of a command becomes one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import typer

from mcp_discovery.errors import (
    CallTimeoutError,
    DiscoveryError,
    DuplicateInstanceError,
    InvalidInputError,
    MissingExtraError,
    NoReplicaError,
    ServerRefusedError,
    StoreDeniedError,
    StoreUnavailableError,
    UnknownToolError,
)
from mcp_discovery.telemetry import spans
from mcp_discovery.telemetry.setup import telemetry

DONE = 0
FAILED = 1
INVALID_INPUT = 2
UNAVAILABLE = 3
DENIED = 4
DUPLICATE = 5
PORT_IN_USE = 6
TOOL_ERROR = 7
TIMED_OUT = 8
CHANGES = 9
UNFORESEEN = 70  # EX_SOFTWARE, as sysexits.h says it
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
PIPE_CLOSED = 141  # 128 + SIGPIPE

#: Printed at the end of ``mcp-discovery --help``.
EXPLAINED = (
    "Exit codes: 0 done; 1 failed, in part too, or doctor found something wrong; 2 the input "
    "cannot be used, or names what is not there; 3 the store, the facade or any server that could "
    "do it cannot be reached; 4 credentials are missing, refused or lack a right; 5 the id is held "
    "by another instance; 6 the port is in use; 7 the tool answered with an error; 8 no answer in "
    "time; 9 a dry run found changes; 70 an error that nobody foresaw, see --debug; 130 Ctrl-C; "
    "141 the reader of the output went away. A sidecar that runs a command ends with the command's "
    "own code (127: not found, 126: cannot be run, 128+n: killed by signal n)."
)


def code_of(error: DiscoveryError) -> int:
    """The exit code for an error that ended a command."""
    match error:
        case InvalidInputError() | UnknownToolError() | MissingExtraError():
            return INVALID_INPUT
        case StoreUnavailableError() | NoReplicaError():
            return UNAVAILABLE
        case StoreDeniedError() | ServerRefusedError():
            return DENIED
        case DuplicateInstanceError():
            return DUPLICATE
        case CallTimeoutError():
            return TIMED_OUT
        case _:
            return FAILED


async def _traced(work: Coroutine[Any, Any, int | None]) -> int | None:
    """Does ``work``, in a span where the environment asks for telemetry."""
    async with telemetry("mcp-discovery"):
        with spans.span(" ".join(("mcp-discovery", *sys.argv[1:2]))):
            return await work


def run(work: Coroutine[Any, Any, int | None]) -> None:
    """Runs ``work``, which returns an exit code or ``None`` for 0.

    Ctrl-C cancels it, before it begins too. Raises :class:`typer.Exit`, and what ``work`` raises.
    """
    traced = _traced(work)
    try:
        code = asyncio.run(traced)
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        traced.close()
        work.close()
    raise typer.Exit(code or DONE)
