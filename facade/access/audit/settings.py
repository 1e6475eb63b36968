"""What can be set on the recording of what happens."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Where events are kept, and what of them.

    ``file`` takes JSON lines, ``-`` for standard output. ``store`` is the URL of a database that
    can be asked, with ``password``. ``keep`` is for how many seconds it keeps events; ``None``: for
    ever. ``arguments`` records the arguments of calls whole, and not only their hash. ``patience``
    is for how many seconds a change waits until it can be recorded: a database may restart.
    """

    file: str | None = None
    store: str | None = None
    password: Secret | None = field(default=None, repr=False)
    keep: float | None = None
    arguments: bool = False
    patience: float = 10.0


def default_store() -> str:
    """The URL of the store where none is named: SQLite in the folder for state.

    That is ``STATE_DIRECTORY`` (systemd), or the user's own (``XDG_STATE_HOME``). Raises
    :class:`InvalidInputError` for a user who has no home, as in many containers.
    """
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    folder = Path(given) if given else Path(home, "mcp-discovery")
    if home.startswith("~") and not given:
        raise InvalidInputError(
            "this user has no home directory to keep the audit in; name a store or a file with "
            "--audit-store or --audit, or set STATE_DIRECTORY"
        )
    return f"sqlite:///{folder.absolute()}/audit.db"
