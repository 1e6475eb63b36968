"""Processes that a command leaves behind, in whatever session or group: they become children of
this process, and end with the command.

prctl(2), PR_SET_CHILD_SUBREAPER. Linux only; elsewhere they are left to the system.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER: Final = 36
#: Seconds between two looks for orphans.
_TURN: Final = 1.0
#: How often it is looked, and with which pause in seconds, for the last of them.
_LAST_LOOKS: Final = 100
_LAST_PAUSE: Final = 0.02


class _Commands:
    """The processes that were started as commands, and are not over."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.starting = 0
        self.adopted: Adopted | None = None


_COMMANDS: Final = _Commands()


class Adopted:
    """The orphans that have come to this process, each with the commands that it may be of."""

    def __init__(self) -> None:
        self._of: dict[int, set[int]] = {}

    def look(self) -> bool:
        """Collects those that have ended, and ends those whose commands have; whether any are left
        that belong to none."""
        if _COMMANDS.starting:  # what is being started is none
            return True
        running, left = _COMMANDS.running, False
        for pid in _children():
            if pid in running:
                continue
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._of.pop(pid, None)
                    continue
            of = self._of.setdefault(pid, set(running))
            of &= running
            if not of:
                left = True
                log.info("ending process %d, which a command has left behind", pid)
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return left


@asynccontextmanager
async def adopting() -> AsyncIterator[None]:
    """Takes in the orphans of all commands while the block runs, and ends them.

    For a process that starts nothing but commands.
    """
    if not _subreaper(on=True):
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as it may be, no end would be told
    adopted = _COMMANDS.adopted = Adopted()

    async def keep() -> None:
        while True:
            await asyncio.sleep(_TURN)
            adopted.look()

    keeping = asyncio.create_task(keep(), name="orphans")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        for _ in range(_LAST_LOOKS):
            if not adopted.look():
                break
            await asyncio.sleep(_LAST_PAUSE)
        _COMMANDS.adopted = None
        _subreaper(on=False)


@contextmanager
def starting() -> Iterator[None]:
    """A command is started while the block runs."""
    _COMMANDS.starting += 1
    try:
        yield
    finally:
        _COMMANDS.starting -= 1


def started(pid: int) -> None:
    """``pid`` is a command; to be called within :func:`starting`."""
    _COMMANDS.running.add(pid)


def over(pid: int) -> None:
    """The command ``pid`` is over, and was waited for: what it left behind is ended."""
    _COMMANDS.running.discard(pid)
    if _COMMANDS.adopted is not None:
        _COMMANDS.adopted.look()


def members(group: int) -> list[int]:
    """The processes of a group that its leader started, itself left out."""
    found, left = [], _children(group)
    while left:
        pid = left.pop()
        left += _children(pid)
        if _stat(pid)[2:3] == [str(group)]:
            found.append(pid)
    return found


def is_running(pid: int) -> bool:
    """Whether a process has not ended, collected or not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def _stat(pid: int) -> list[str]:
    """What proc(5) says of a process, from its state on; empty where it is not there."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _subreaper(*, on: bool) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # not for a process without commands

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0)


def _children(pid: int | str = "self") -> list[int]:
    """All children of a process, by default of this one; none where the kernel does not tell."""
    found = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found
