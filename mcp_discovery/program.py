"""The command of an MCP server that speaks stdio, and what surrounds its processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How the processes of one server are started and ended.

    ``env`` is what they are given besides :data:`INHERITED`; ``cwd`` is where they run; ``grace``
    is how many seconds they have to end after SIGTERM.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    grace: float = 5.0

    def environment(self) -> dict[str, str]:
        """All variables of a process."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return inherited | dict(self.env)
