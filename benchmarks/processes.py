"""Programs that the benchmarks start: each in a process of its own, killed when its block ends.

They die with this process too, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp
import psutil

from benchmarks.harness import Unavailable
from mcp_discovery.facade.run import allow_many_connections
from tests.stores.process import die_with_parent

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
    """Where a program stands that ``scripts/fetch-bench-tools`` fetched, or that is installed.

    Raises :class:`Unavailable`.
    """
    # nginx may stand where only root's path leads.
    places = (str(_TOOLS), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise Unavailable(f"{name} is missing; run scripts/fetch-bench-tools")
    return found


def need_open_files(count: int) -> None:
    """Raises :class:`Unavailable` where a program cannot have so many files open."""
    allowed = allow_many_connections()
    if allowed != resource.RLIM_INFINITY and allowed < count:
        raise Unavailable(f"it needs ulimit -n {count}, and here it is {allowed}")


@asynccontextmanager
async def process(
    *command: str, ready: str | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Runs ``command``, with ``environment`` besides ours, until the block ends; gives it when its
    URL ``ready`` is answered, or without one when it has written its first line.

    Raises :class:`RuntimeError` with what it said on stderr where it ends before, or later where
    the block fails then or the program did.
    """
    program = " ".join(command)
    with tempfile.TemporaryFile() as said:
        started = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if ready is None else said,
            stderr=said,
            limit=2**26,
            start_new_session=True,  # its children end with it
            preexec_fn=die_with_parent(),
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                first = await _first(started, ready)
            if first is None:
                await _ended(started)
                raise RuntimeError(_last_words(program, started, said))
            try:
                yield Running(started, first)
            except Exception as error:
                await _ended(started)
                if started.returncode is None:
                    raise
                raise RuntimeError(_last_words(program, started, said)) from error
            if started.returncode:
                raise RuntimeError(_last_words(program, started, said))
        finally:
            with suppress(ProcessLookupError):  # nobody of them is left
                os.killpg(started.pid, signal.SIGKILL)
            await started.wait()


async def _ended(started: asyncio.subprocess.Process) -> None:
    """Waits a little for the end of a process that seems to be ending."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await started.wait()


def _last_words(program: str, started: asyncio.subprocess.Process, said: IO[bytes]) -> str:
    """One line that says how a program ended, and below it the tail of its stderr."""
    said.seek(0)
    tail = said.read()[-2000:].decode(errors="replace").strip()
    code = "is there, but closed its stdout"
    if started.returncode is not None:
        code = f"ended with {started.returncode}"
    return f"{program} {code}: {tail.splitlines()[-1] if tail else 'it said nothing'}\n{tail}"


async def _first(started: asyncio.subprocess.Process, ready: str | None) -> str | None:
    """The first line of a process, or its URL as soon as it answers; ``None``: it has ended."""
    if ready is None:
        assert started.stdout is not None
        return (await started.stdout.readline()).decode().strip() or None
    return ready if await _answered(started, ready) else None


async def _answered(started: asyncio.subprocess.Process, url: str) -> bool:
    """Waits until ``url`` is answered; false where the process has ended before."""
    while started.returncode is None:
        if await answers(url):
            return True
        await asyncio.sleep(0.05)
    return False


@asynccontextmanager
async def python(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[str, int]]:
    """Runs a Python module that writes its URL; gives URL and process id once it is ready."""
    command = (sys.executable, "-m", module, *arguments)
    async with process(*command, environment=environment) as running:
        async with asyncio.timeout(_PATIENCE):
            if not await _answered(running.process, f"{running.first}/ready"):
                raise RuntimeError(f"{module} was never ready")
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
