"""The command of an MCP server that speaks stdio, and what surrounds its processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcp_discovery import env_files

#: What every program is given of our environment: where its files and tools are, and which language
#: it speaks. Nothing else: ours holds credentials.
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
)


#: Seconds after which a process that answers nothing is ended, unless it is said otherwise.
RESTART_AFTER = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How the processes of one server are started and ended.

    ``env`` is what they are given besides :data:`INHERITED`, and, before that, the variables in
    ``env_file``, which is read at each start; ``cwd`` is where they run; ``grace`` is how many
    seconds they have to end after SIGTERM. ``secrets`` are words of the command that must stay out
    of logs, beside those variables that are secrets by their names or looks.

    What a bridge ends them for: with all that they started they have more than ``memory_max`` bytes
    in memory, or have used more than ``cpu_seconds`` of processor time; or they answer nothing for
    ``restart_after`` seconds (0: that is no reason).
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    grace: float = 5.0
    env_file: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    memory_max: int | None = None
    cpu_seconds: float | None = None
    restart_after: float = RESTART_AFTER

    def environment(self) -> dict[str, str]:
        """All variables of a process; raises :class:`~mcp_discovery.errors.InvalidInputError`."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        filed = env_files.read(self.env_file) if self.env_file is not None else {}
        return inherited | filed | dict(self.env)
