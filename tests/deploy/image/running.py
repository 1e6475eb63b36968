"""Runs what was built as a container would: read-only root, plain user, process 1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.image.building import Image
from tests.deploy.tools import program
from tests.programs import Ended
from tests.stores.waiting import bounded

#: Seconds for a command that ends by itself, on a busy machine.
_PATIENCE = 30.0


def within(
    image: Image,
    environment: Mapping[str, str],
    bound: Sequence[tuple[Path, str]] = (),
    seen: Sequence[tuple[Path, str]] = (),
) -> list[str]:
    """The words before a command that run it in ``image``.

    ``bound`` are folders that it may write, ``seen`` files and folders that it may read. Of the
    machine it sees the network alone.
    """
    uid, _, gid = image.user.partition(":")
    known = {**image.environment, **environment}
    return [
        *(program("bwrap"), "--ro-bind", str(image.root), "/", "--dev", "/dev", "--proc", "/proc"),
        *(word for here, there in seen for word in ("--ro-bind", str(here), there)),
        *(word for here, there in bound for word in ("--bind", str(here), there)),
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--as-pid-1"),
        *("--uid", uid, "--gid", gid, "--cap-drop", "ALL", "--die-with-parent", "--clearenv"),
        *(word for pair in known.items() for word in ("--setenv", *pair)),
    ]


async def ended(image: Image, words: Sequence[str], **environment: str) -> Ended:
    """Runs ``words`` to its end."""
    process = await asyncio.create_subprocess_exec(
        *within(image, environment),
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await bounded(process.communicate(), _PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Container:
    """A running process 1 of an image."""

    process: asyncio.subprocess.Process
    pid: int
    log: Path

    async def stop(self, timeout: float = 20.0) -> int:
        """Sends SIGTERM to process 1 and returns its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return await bounded(self.process.wait(), timeout)


@asynccontextmanager
async def running(
    image: Image, log: Path, *arguments: str, bound: Sequence[tuple[Path, str]] = (),
    entrypoint: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Container]:  # fmt: skip
    """Starts a container of ``image``; killed at the end where it still runs."""
    read, write = os.pipe()
    prefix = within(image, environment or {}, bound)
    try:
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(prefix[0], "--info-fd", str(write), *prefix[1:]),
                *(image.entrypoint if entrypoint is None else entrypoint),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=(write,),
            )
    finally:
        os.close(write)
    try:
        with os.fdopen(read) as told:
            pid = json.loads(await asyncio.to_thread(told.read))["child-pid"]
        yield Container(process, pid, log)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
