"""Sidecars from the command line beside a real MCP server, and what can be seen of them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil

from benchmarks.processes import ROOT
from mcp_discovery.adapters.store import Snapshot, Store
from mcp_discovery.health import Status
from tests.stores.process import die_with_parent

#: Waits as a process that has imported aiohttp and does nothing with it.
BARE = "import aiohttp, sys; print('here', file=sys.stderr, flush=True); sys.stdin.read()"
#: Seconds until a program has to say what it is waited for.
_PATIENCE = 60.0
#: Memory is settled when it was the same in so many looks, so many seconds apart.
_LOOKS, _LOOK = 8, 0.25


class Beside:
    """A process, and the lines that it writes to stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[str] = []

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def says(self, text: str) -> str:
        """Waits for a line that has ``text`` in it, and returns it.

        Raises :class:`RuntimeError` with what it said where it ends before.
        """
        assert self._process.stderr is not None
        async with asyncio.timeout(_PATIENCE):
            while line := (await self._process.stderr.readline()).decode():
                self._lines.append(line)
                if text in line:
                    return line
        raise RuntimeError(f"it ended: {''.join(self._lines[-20:])}")

    def cpu(self) -> float:
        """Seconds of processor time until now, user and system, of all threads.

        Raises :class:`RuntimeError` or :class:`psutil.NoSuchProcess` where the process has ended.
        """
        if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"process {self.pid} has ended")
        # In nanoseconds: psutil's hundredths of a second are too few for 0.3 % of a minute.
        tasks = [*Path(f"/proc/{self.pid}/task").glob("*/schedstat")]
        if not tasks:
            raise RuntimeError(f"process {self.pid} has no /proc/…/schedstat")
        try:
            return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9
        except (ProcessLookupError, FileNotFoundError):  # a thread, or all of it, has just ended
            return self.cpu()

    async def settled_memory(self) -> float:
        """Resident memory (RSS) in MB, once it does not change any more."""
        process = psutil.Process(self.pid)
        seen: list[int] = []
        deadline = time.monotonic() + _PATIENCE
        while len(seen) < _LOOKS or len(set(seen[-_LOOKS:])) > 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"its memory does not settle: {seen[-_LOOKS:]}")
            seen.append(process.memory_info().rss)
            await asyncio.sleep(_LOOK)
        return seen[-1] / 2**20


@asynccontextmanager
async def python(*arguments: str) -> AsyncIterator[Beside]:
    """Python with these arguments, killed when the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(),
    )
    try:
        yield Beside(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def sidecar(store_url: str, url: str, id: str) -> AsyncIterator[Beside]:
    """A sidecar for the MCP server at ``url``, with the terms that it has by default."""
    names = ("--store", store_url, "--url", url, "--id", id)
    async with python("-m", "mcp_discovery.cli", "sidecar", *names) as running:
        yield running


async def listed(store: Store, id: str) -> float:
    """When a watcher of ``store`` saw that instance healthy, by ``time.perf_counter()``."""
    async with asyncio.timeout(_PATIENCE), aclosing(store.watch()) as items:
        async for item in items:
            found = item.instances.get(id) if isinstance(item, Snapshot) else item.instance
            if found and found.id == id and found.health.status is Status.HEALTHY:
                return time.perf_counter()
    raise RuntimeError("the watch ended")
