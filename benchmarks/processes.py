"""Programs that the benchmarks start: each in a process of its own, killed when its block ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from benchmarks.harness import Unavailable

ROOT = Path(__file__).parents[1]
_TOOLS = ROOT / ".stores" / "bench" / "bin"
#: How long, in seconds, a program may take until it is there.
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Running:
    """A process, and the first that was heard of it: a line, or the URL at which it is ready."""

    process: asyncio.subprocess.Process
    first: str


def tool(name: str) -> str:
    """Where a program that ``scripts/fetch-bench-tools`` fetched stands.

    Raises :class:`Unavailable`.
    """
    if not (_TOOLS / name).exists():
        raise Unavailable(f"{name} is missing; run scripts/fetch-bench-tools")
    return str(_TOOLS / name)


@asynccontextmanager
async def process(*command: str, ready: str | None = None) -> AsyncIterator[Running]:
    """Runs ``command`` until the block ends; gives it when its URL ``ready`` is answered, or
    without one when it has written its first line.

    Raises :class:`RuntimeError` with what it said on stderr where it ends before.
    """
    with tempfile.TemporaryFile() as said:
        started = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if ready is None else said,
            stderr=said,
            limit=2**26,
            start_new_session=True,  # its children end with it
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                first = await _first(started, ready)
            if first is None:
                said.seek(0)
                raise RuntimeError(f"{' '.join(command)}: {said.read()[-2000:].decode()}")
            yield Running(started, first)
        finally:
            if started.returncode is None:
                os.killpg(started.pid, signal.SIGKILL)
                await started.wait()


async def _first(started: asyncio.subprocess.Process, ready: str | None) -> str | None:
    """The first line of a process, or its URL as soon as it answers; ``None``: it has ended."""
    if ready is None:
        assert started.stdout is not None
        return (await started.stdout.readline()).decode().strip() or None
    return ready if await _answered(started, ready) else None


async def _answered(started: asyncio.subprocess.Process, url: str) -> bool:
    """Waits until ``url`` is answered; false where the process has ended before."""
    while not await answers(url):
        if started.returncode is not None:
            return False
        await asyncio.sleep(0.05)
    return True


@asynccontextmanager
async def python(module: str, *arguments: str) -> AsyncIterator[tuple[str, int]]:
    """Runs a Python module that writes its URL; gives URL and process id once it is ready."""
    async with process(sys.executable, "-m", module, *arguments) as running:
        async with asyncio.timeout(_PATIENCE):
            await _answered(running.process, f"{running.first}/ready")
        yield running.first, running.process.pid


@asynccontextmanager
async def facade(*arguments: str) -> AsyncIterator[tuple[str, int]]:
    """A facade from the command line that is ready; gives URL and process id."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "mcp_discovery.cli", "facade", "--port", str(port))
    async with process(*command, *arguments, ready=f"{url}/ready") as running:
        yield url, running.process.pid


async def answers(url: str) -> bool:
    """Whether a GET of ``url`` is answered, and not with a fault of the server's."""
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return response.status < 500
    except aiohttp.ClientError:
        return False


async def fetched(url: str) -> bytes:
    """The body of a GET, which must be answered with 200."""
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        response.raise_for_status()
        return await response.read()


def memory(pid: int) -> int:
    """The bytes that a process has for itself (USS): what would be free without it."""
    return int(psutil.Process(pid).memory_full_info().uss)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
