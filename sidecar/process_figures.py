"""Resident memory and processor time of processes and all that they started, from Linux's /proc.

The source is what proc(5) says of ``stat`` and ``children``. psutil goes through all processes of a
machine for the children of one, which takes twice as long, and costs a sidecar 0.8 MB. Elsewhere
than on Linux nothing is known.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mcp_discovery.health import Load

#: Seconds for which a reading is good enough to be given again.
_FRESH = 0.5
#: Over how many seconds the share of a core is a mean; older use fades out exponentially.
_MEAN_OVER = 10.0
#: How many processes are read at once, in 3 ms or so.
_MANY = 50
_RUNS = frozenset("RSDTtWPI")  # not zombies (Z) and those that are dead (X, x)


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What processes use: ``memory`` resident in bytes, shared pages counted in each; ``seconds``
    of processor time since they are looked at, those of their former life included; ``share`` of
    one core in the last seconds (``None`` until that can be told); how many ``processes`` there
    are, and whether one of the roots is among them."""

    memory: int
    seconds: float
    share: float | None
    processes: int
    running: bool


class _Stat(NamedTuple):
    state: str
    ticks: int  # of itself, and of its children that have ended
    started: int
    pages: int


class ProcessFigures:
    """The use of the processes that ``roots`` names and of their descendants.

    One that was seen once counts for as long as it lives, also when its parent has ended. One that
    forks twice between two readings and lets go of its parents is not seen. Reading takes some
    0.06 ms for each process.
    """

    def __init__(
        self, roots: Callable[[], Iterable[int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._roots = roots
        self._clock = clock
        self._members: dict[int, int] = {}  # process id → when it began
        self._ticks = self._counted = 0
        self._at = -math.inf
        self._share: float | None = None
        self._last: ProcessUse | None = None
        self._reading = threading.Lock()

    def read(self) -> ProcessUse | None:
        """The present use; ``None`` where the system does not tell.

        Of many processes that of the last time, while a thread reads the present one: the caller is
        not held up by a hundred sessions with a process each.
        """
        now = self._clock()
        if not _TELLS or now - self._at < _FRESH or not self._reading.acquire(blocking=False):
            return self._last
        roots = frozenset(self._roots())
        if len(roots | self._members.keys()) > _MANY:
            asyncio.get_running_loop().run_in_executor(None, self._read, now, roots)
            return self._last
        return self._read(now, roots)

    def _read(self, now: float, roots: frozenset[int]) -> ProcessUse | None:
        try:
            return self._take(now, roots, self._stats(roots))
        except NotADirectoryError:
            return None
        finally:
            self._reading.release()

    def _take(self, now: float, roots: frozenset[int], stats: Mapping[int, _Stat]) -> ProcessUse:
        self._members = {pid: stat.started for pid, stat in stats.items()}
        before, self._ticks = self._ticks, sum(stat.ticks for stat in stats.values())
        # Less than before: some ended whom no member waited for, and took their count with them.
        used = max(0, self._ticks - before)
        self._counted += used
        if self._last is not None:
            took = now - self._at
            share = used / _HERTZ / took
            kept = math.exp(-took / _MEAN_OVER)
            self._share = share if self._share is None else kept * self._share + (1 - kept) * share
        self._at = now
        alive = {pid: stat for pid, stat in stats.items() if stat.state in _RUNS}
        self._last = ProcessUse(
            memory=sum(stat.pages for stat in alive.values()) * _PAGE,
            seconds=self._counted / _HERTZ,
            share=self._share,
            processes=len(alive),
            running=not roots.isdisjoint(alive),
        )
        return self._last

    def load(self) -> Load | None:
        """What is to be reported of it; ``None`` where nothing is known."""
        if (use := self.read()) is None:
            return None
        share = None if use.share is None else round(use.share, 3)
        return Load(memory=use.memory, cpu=share, running=use.running)

    def _stats(self, roots: Iterable[int]) -> dict[int, _Stat]:
        found: dict[int, _Stat] = {}
        left = [*roots, *self._members]
        while left:
            pid = left.pop()
            if pid in found or (stat := _stat(pid)) is None:
                continue
            if self._members.get(pid, stat.started) != stat.started:
                continue  # another process that has got its number
            found[pid] = stat
            left += _children(pid)
        return found


_TELLS = os.path.exists("/proc/self/stat")
_HERTZ = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _content(path: str) -> bytes | None:
    """What a file of /proc holds; ``None`` where its process has ended."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(file, 65536)
    except OSError:
        return None
    finally:
        os.close(file)


def _stat(pid: int) -> _Stat | None:
    if not (text := _content(f"/proc/{pid}/stat")):
        return None
    # The program's name is in parentheses, and may hold some itself, and blanks.
    values = text[text.rindex(b")") + 2 :].split()
    ticks = sum(map(int, values[11:15]))
    return _Stat(values[0].decode(), ticks, int(values[19]), int(values[21]))


def _children(pid: int) -> list[int]:
    """Raises :class:`NotADirectoryError` where the kernel does not tell them."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    told = [_content(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    known = [each for each in told if each is not None]
    if not known and os.path.exists(f"/proc/{pid}/task/{pid}"):
        raise NotADirectoryError(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for each in known for child in each.split()]
