"""Runs a command's work to its end, and says how it ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import typer

from mcp_discovery.cli.exit_codes import DONE, INTERRUPTED, PIPE_CLOSED
from mcp_discovery.cli.terminal import abandon_output


def run(work: Coroutine[Any, Any, int | None]) -> None:
    """Runs ``work``, which returns an exit code, or nothing for 0.

    Ctrl-C cancels it. Whoever reads the output may stop reading: that ends the command without a
    word. Raises :class:`typer.Exit`, and what ``work`` raises.
    """
    try:
        code = asyncio.run(work)
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        abandon_output()
        raise typer.Exit(PIPE_CLOSED) from None
    raise typer.Exit(code or DONE)
