"""Who writes a history: its name tells others on the same machine whether it is still there."""

from __future__ import annotations

import os
import secrets
import socket

#: The names of those of this process that have not ended.
_HERE: set[str] = set()


def new_watcher() -> str:
    """The name of one that begins to write in this process."""
    name = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(6)}"
    _HERE.add(name)
    return name


def ended(watcher: str) -> None:
    """``watcher`` writes no more."""
    _HERE.discard(watcher)


def has_ended(watcher: str) -> bool:
    """Whether ``watcher`` was of this machine and is not there any more, as one that was killed; of
    those on other machines nothing is known."""
    if watcher in _HERE:
        return False
    host, _, pid = watcher.rpartition(" ")[0].rpartition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():  # an earlier one, as in a container that was started again
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
