"""A command as a child process: started, signalled as a group, ended before this process."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from mcp_discovery import orphans
from mcp_discovery.errors import DiscoveryError

log = logging.getLogger(__name__)

#: Exit codes of a shell for a command that cannot be run (POSIX, XCU 2.8.2).
NOT_FOUND = 127
NOT_EXECUTABLE = 126

#: Credentials that are the sidecar's, for the store and as a client of the MCP server: a child
#: inherits everything but these.
_OURS = frozenset(
    f"MCP_DISCOVERY_{name}"
    for name in ("STORE_TOKEN", "STORE_PASSWORD", "SERVER_TOKEN", "HEALTH_TOKEN")
)

#: Seconds between two looks at a group that is about to end.
_POLL = 0.02
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ChildStartError(DiscoveryError):
    """The command cannot be run; ``code`` is the exit code that a shell would give."""

    def __init__(self, problem: str, code: int) -> None:
        super().__init__(problem)
        self.code = code


class _Process(asyncio.subprocess.Process):
    """A process whose end is known when it ends: asyncio's waits for its pipes as well, which what
    it has started may hold open."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _EndProtocol) -> None:
        super().__init__(transport, protocol, asyncio.get_running_loop())
        self._ended = protocol.ended

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None, "it has ended"
        return self.returncode


class _EndProtocol(asyncio.subprocess.SubprocessStreamProtocol):
    def __init__(self) -> None:
        super().__init__(limit=2**16, loop=asyncio.get_running_loop())
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.ended.set()


class _ReadAtOnce(asyncio.Protocol):
    """Gives a stream what comes through a pipe at once: asyncio's own protocol does so in the next
    turn of the loop, which a short answer waits for."""

    def __init__(self, stream: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        self._stream, self._before = stream, before

    def data_received(self, data: bytes) -> None:
        self._stream.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)


async def _create_process(*command: str, **options: Any) -> asyncio.subprocess.Process:
    """As :func:`asyncio.create_subprocess_exec`."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(_EndProtocol, *command, **options)
    process = _Process(transport, protocol)
    if process.stdout is not None and (pipe := transport.get_pipe_transport(1)) is not None:
        pipe.set_protocol(_ReadAtOnce(process.stdout, pipe.get_protocol()))
    return process


@dataclass(frozen=True, slots=True)
class Child:
    """A running command, leader of a session and process group of its own.

    The group is what makes signals reach the whole of a server that starts workers, and keeps a
    terminal's Ctrl-C from it until it is drained.
    """

    process: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        piped: bool = False,
        bound: bool = True,
    ) -> Child:
        """Starts ``command`` with the environment ``env``, by default what is not ours of this
        process's, in ``cwd``.

        Its input and output are this process's, or pipes where it is ``piped``. Where it is
        ``bound`` it is killed when the thread that called this ends; a process with threads of its
        own, which may hold locks at a fork, must not ask for that. Raises :class:`ChildStartError`.
        """
        program = command[0]
        if env is None:
            env = {name: value for name, value in os.environ.items() if name not in _OURS}
        pipe = asyncio.subprocess.PIPE if piped else None
        try:
            with orphans.starting() as mark:
                process = await _create_process(
                    *command,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=pipe,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=_dies_with_us(mark) if bound else None,
                )
                orphans.started(process.pid, mark)
        except (OSError, ValueError) as error:
            raise _start_error(program, cwd, error) from error
        log.info("started %s as process %d", program, process.pid)
        return cls(process)

    async def ended(self) -> int:
        """Waits for the end; the exit code, 128 + n after signal n, as shells have it."""
        code = await self.process.wait()
        return 128 - code if code < 0 else code

    def signal(self, number: int) -> None:
        """Sends a signal to the whole group; no error when it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def stop(self, grace: float) -> None:
        """SIGTERM to the group, and SIGKILL to what is left of it after ``grace`` seconds."""
        started: list[orphans.Descendant] = []
        if self.process.returncode is None:
            # What wraps a server, as npx does, may end before it.
            started = orphans.descendants(self.process.pid)
            wrapped = [each for each in started if each.group == self.process.pid]
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self.process.wait()
                    while any(map(orphans.is_running, wrapped)):  # noqa: ASYNC110 - nothing tells
                        await asyncio.sleep(_POLL)
            except TimeoutError:
                log.warning("the MCP server did not end within %g s: killing it", grace)
        # Also after its own end: workers that it left behind are in its group, and some in others.
        self.signal(signal.SIGKILL)
        for each in filter(orphans.is_running, started):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each.pid, signal.SIGKILL)
        await self.process.wait()
        orphans.over(self.process.pid)


def _start_error(program: str, cwd: str | None, error: OSError | ValueError) -> ChildStartError:
    """What is wrong, and what to do about it."""
    if cwd is not None and not os.path.isdir(cwd):
        return ChildStartError(f"{cwd!r} is no directory to run {program!r} in", NOT_EXECUTABLE)
    if isinstance(error, FileNotFoundError):
        problem = "command not found; check its spelling and PATH"
        if " " in program:
            problem = "no such program; give its arguments as words of their own, without quotes"
        if os.path.exists(os.path.join(cwd or "", program)):
            problem = "its first line names an interpreter that is not there"
        return ChildStartError(f"{program!r}: {problem}", NOT_FOUND)
    if isinstance(error, PermissionError):
        problem = "is not executable; make it so, or name its interpreter first"
        if os.path.isdir(os.path.join(cwd or "", program)):
            problem = "is a directory; name a program"
    elif isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        problem = "is no program; begin it with a line such as #!/bin/sh, or name its interpreter"
    else:
        problem = f"cannot be run: {error}"
    return ChildStartError(f"{program!r} {problem}", NOT_EXECUTABLE)


def _dies_with_us(mark: int) -> Callable[[], None] | None:
    """What the child does before it becomes the server: asks to be killed when we die, and takes
    the mark of all that it starts.

    Without it a server would outlive a sidecar that was killed, and nobody would watch it.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = _prctl(), os.getpid()  # Looked up before the fork, not after.

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        orphans.bear(mark)
        if os.getppid() != parent:  # It died in between.
            os._exit(1)

    return prepare


@cache
def _prctl() -> Callable[..., int]:
    """Once, as each lookup makes classes of its own."""
    import ctypes  # not for a sidecar without a child

    found: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    return found
