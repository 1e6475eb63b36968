"""Processes that a command leaves behind, in whatever session or group: they become children of
this process, and end with the command.

prctl(2), PR_SET_CHILD_SUBREAPER. Linux only; elsewhere they are left to the system.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER: Final = 36
_RLIMIT_RTTIME: Final = 15  # on Linux
#: The first mark of a command, in microseconds: 73,000 years.
_FIRST_MARK: Final = 2**61
#: Seconds between two looks for orphans.
_TURN: Final = 1.0
#: How often it is looked, and with which pause in seconds, for the last of them.
_LAST_LOOKS: Final = 100
_LAST_PAUSE: Final = 0.02


class _Commands:
    """The processes that were started as commands, and are not over."""

    def __init__(self) -> None:
        #: Process id → mark.
        self.running: dict[int, int] = {}
        self.starting = 0
        self.marks = count(_FIRST_MARK)
        self.adopted: Adopted | None = None


_COMMANDS: Final = _Commands()


class Adopted:
    """The orphans that have come to this process, each with the commands that it may be of: that
    with its mark, or all where it bears none."""

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
            if pid not in self._of:
                mark = _mark(pid)
                self._of[pid] = {each for each, own in running.items() if mark in (None, own)}
            of = self._of[pid]
            of &= running.keys()
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
def starting() -> Iterator[int]:
    """A command is started while the block runs; the mark that it is to bear."""
    _COMMANDS.starting += 1
    try:
        yield next(_COMMANDS.marks)
    finally:
        _COMMANDS.starting -= 1


def started(pid: int, mark: int) -> None:
    """``pid`` is a command; to be called within :func:`starting`."""
    _COMMANDS.running[pid] = mark


def bear(mark: int) -> None:
    """Marks this process and all that it starts: by a limit of real-time scheduling that is beyond
    any use, since other inherited things mean something or are taken away."""
    with suppress(ValueError, OSError):  # there is a limit already
        resource.setrlimit(_RLIMIT_RTTIME, (mark, mark))


def _mark(pid: int) -> int | None:
    with suppress(OSError), open(f"/proc/{pid}/limits") as file:
        for line in file:
            if line.startswith("Max realtime timeout"):
                limit = line.split()[-2]
                return int(limit) if limit.isdecimal() and int(limit) >= _FIRST_MARK else None
    return None


def over(pid: int) -> None:
    """The command ``pid`` is over, and was waited for: what it left behind is ended."""
    _COMMANDS.running.pop(pid, None)
    if _COMMANDS.adopted is not None:
        _COMMANDS.adopted.look()


class Descendant(NamedTuple):
    """A process, the group that it is in, and when it began."""

    pid: int
    group: int
    began: str


def descendants(pid: int) -> list[Descendant]:
    """All processes that a process has started, and these, and that have a parent among them."""
    found, left = [], _children(pid)
    while left:
        child = left.pop()
        left += _children(child)
        if stat := _stat(child):
            found.append(Descendant(child, int(stat[2]), stat[19]))
    return found


def is_running(process: Descendant) -> bool:
    """Whether a process has not ended, collected or not."""
    stat = _stat(process.pid)
    return bool(stat) and stat[0] not in "ZX" and stat[19] == process.began


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
