"""Runs one server as a process of this machine, and breaks it on request."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tests.stores.waiting import bounded


async def run_tool(*command: str, timeout: float = 30) -> None:
    """Run a store's own command to its end, `etcdctl` with the API of version 3.

    Raises `RuntimeError` with what it said when it fails, `TimeoutError` after `timeout` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"ETCDCTL_API": "3"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await bounded(process.communicate(), timeout)
    if process.returncode:
        raise RuntimeError(f"{command[1:3]} ended with {process.returncode}: {said.decode()}")


class ServerProcess(Protocol):
    """A server's process, wherever it runs. Every method may be called in any event loop."""

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""

    async def start(self, arguments: Sequence[str]) -> None:
        """Start the program with `arguments`. Returns when it runs, not when it is ready."""

    async def kill(self) -> None:
        """End it with SIGKILL, paused or not, and wait for its end. No process is no error."""

    async def terminate(self, timeout: float) -> None:
        """Ask it to end (SIGTERM) and wait `timeout` seconds for it, or raise `TimeoutError`."""

    async def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers."""

    async def resume(self) -> None:
        """Let a frozen process go on."""

    async def log_tail(self, lines: int) -> str:
        """The last `lines` lines that it wrote."""

    async def close(self) -> None:
        """Kill it if it is there, and free what it held."""


class LocalProcess:
    """A program of this machine, writing its log to a file. It ends when this process ends."""

    def __init__(self, path: str, log: Path) -> None:
        """`path` is the program, `log` the file that its output is appended to."""
        self._path = path
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id. Raises `RuntimeError` when it was not started."""
        return self._started().pid

    async def start(self, arguments: Sequence[str]) -> None:
        # In this very thread: the death signal follows the thread that forked, and a worker
        # thread can end before the tests do. Popen, not asyncio's: no loop owns the server.
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._path, *arguments],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends its servers.
                preexec_fn=die_with_parent(),
            )

    async def kill(self) -> None:
        if self.running:
            self._started().kill()
            await self._ended(10)

    async def terminate(self, timeout: float) -> None:
        if self.running:
            self._started().terminate()
            await self._ended(timeout)

    async def pause(self) -> None:
        process = self._started()
        process.send_signal(signal.SIGSTOP)
        # The signal is not yet the stop: a thread that runs may answer one more request.
        async with asyncio.timeout(5):
            while not _is_stopped(process.pid):
                await asyncio.sleep(0.001)

    async def resume(self) -> None:
        self._started().send_signal(signal.SIGCONT)

    async def log_tail(self, lines: int) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def close(self) -> None:
        await self.kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self._path} was not started")
        return self._process

    async def _ended(self, timeout: float) -> None:
        try:
            await asyncio.to_thread(self._started().wait, timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self._path} did not end within {timeout:g} s") from error


def _environment() -> dict[str, str]:
    """This process's, without what Consul and etcd would take for settings."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("CONSUL_", "ETCD_"))}
    return {"MCP_DISCOVERY_DEBUG": "1"} | own  # logs show the tracebacks that tests look for


PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask to be killed when its parent dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # Looked up before the fork, not after.
    parent = os.getpid()

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # It died in between.
            os._exit(1)

    return prepare


def _is_stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped, as far as this system tells (proc(5))."""
    try:
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except FileNotFoundError:  # a thread has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
