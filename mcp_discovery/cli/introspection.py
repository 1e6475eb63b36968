"""Commands that speak MCP over stdio, started once from the shell and asked what they offer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mcp_discovery.child import ChildStartError
from mcp_discovery.cli.terminal import line, say
from mcp_discovery.errors import DiscoveryError, InvalidInputError
from mcp_discovery.facade.registration.body import NAMES_NOTHING
from mcp_discovery.host_files import HostEntry
from mcp_discovery.host_variables import HostVariables
from mcp_discovery.probe import BadAnswerError, Introspection, NoAnswerError
from mcp_discovery.probe.stdio import StdioProbe
from mcp_discovery.program import Program
from mcp_discovery.stdio_hints import hint


def command_line(entry: HostEntry) -> str:
    """The command of ``entry`` as a shell takes it, with references as they stand there."""
    return shlex.join((entry.command or "", *entry.args))


def program_of(entry: HostEntry, file: str) -> Program:
    """What runs ``entry`` of ``file``, filled in from the environment.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` where a variable is not set, or a secret
    stands there in clear.
    """
    filled = HostVariables(Path(file), os.environ).filled(entry)
    return Program(
        command=(filled.command or "", *filled.args),
        env=filled.env,
        env_file=filled.env_file,
        cwd=filled.cwd,
        secrets=filled.secrets,
    )


async def introspect(program: Program, name: str, timeout: float) -> Introspection:
    """Starts ``program``, and reads what it offers within ``timeout`` seconds; it has ended then.

    Raises :class:`~mcp_discovery.errors.InvalidInputError`,
    :class:`~mcp_discovery.child.ChildStartError` and :class:`~mcp_discovery.probe.ProbeError`.
    """
    probe = StdioProbe(program, name)
    try:
        return await probe.introspect(timeout)
    finally:
        await probe.close()


def advice(error: DiscoveryError, longer: str) -> str:
    """What to do about a command that :func:`introspect` could not ask; ``longer`` names the option
    that gives it more time. Empty where ``error`` says so itself."""
    if isinstance(error, ChildStartError | InvalidInputError):
        return ""
    if said := hint(str(error)):
        return said
    if isinstance(error, NoAnswerError):
        return (
            f"give it longer with {longer}, and where it waits for a login or an answer, run it by "
            "hand first"
        )
    if isinstance(error, BadAnswerError):
        return "see its own log, and that it is an MCP server over stdio"
    return "see that it is an MCP server over stdio, and which arguments and variables it wants"


def say_what_names_nothing(names: Sequence[str]) -> None:
    """Says of the servers with these ``names``, if any, why nobody finds them."""
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        say(line(f"{', '.join(names[:3])}{more} {NAMES_NOTHING}"), err=True)
