"""The command as process 1 of a PID namespace, among processes that lose their parents."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.programs import PROGRAM, Running, running
from tests.sidecar.test_process import control
from tests.stores import ports
from tests.stores.consul import ConsulServer
from tests.stores.waiting import until

#: Runs a command, and beside it what leaves a process without a parent some 30 times a second, and
#: counts them in a file.
AMONG_ORPHANS = (
    "sh",
    "-c",
    '(while :; do (sleep 0 &); printf . >>"$0"; sleep 0.02; done) & exec "$@"',
)
NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
ENOUGH = 20
"""Orphans after which not one may be left."""


class ProcessOne:
    """A command that is process 1, as it is seen from outside; the orphans are in ``counted``."""

    def __init__(self, outside: Running, counted: Path) -> None:
        self._outside = outside
        self._counted = counted

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._outside.log

    @property
    def init(self) -> psutil.Process:
        """Process 1 itself."""
        (init,) = psutil.Process(self._outside.pid).children()
        return init

    @property
    def command(self) -> psutil.Process:
        """The command that process 1 has started."""
        (found,) = (
            each
            for each in psutil.process_iter(["ppid", "cmdline"])
            if each.info["ppid"] == self.init.pid and each.info["cmdline"][1:3] == [*PROGRAM[1:]]
        )
        return found

    async def said(self, text: str) -> None:
        """Waits until it has said ``text``."""

        async def found() -> bool:
            return text in self.log

        await until(found, timeout=30, what=f"{text!r} in {self.log}")

    async def collects(self) -> None:
        """Waits until there were many orphans, and none of them is a zombie."""
        before = self._orphans()

        async def clean() -> bool:
            if self._orphans() - before < ENOUGH:
                return False
            found = psutil.process_iter(["ppid", "status"])
            ended = [e for e in found if e.info["status"] == psutil.STATUS_ZOMBIE]
            return not any(each.info["ppid"] == self.init.pid for each in ended)

        await until(clean, timeout=30, what="all orphans being collected")

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        return await self._outside.stop(0)

    def _orphans(self) -> int:
        return self._counted.stat().st_size if self._counted.exists() else 0


@asynccontextmanager
async def process_one(
    folder: Path, *arguments: str, beside: bool = True
) -> AsyncIterator[ProcessOne]:
    """Runs the command as process 1; orphans come from a process ``beside`` it, or from its own."""
    counted = folder / "orphans"
    made = (*AMONG_ORPHANS, str(counted)) if beside else ()
    program = (*NAMESPACE, "--kill-child", *made, *PROGRAM)
    async with running(folder, *arguments, program=program) as outside:
        yield ProcessOne(outside, counted)


@pytest.mark.parametrize("ends", ["server", "sidecar"])
async def test_a_sidecar_whose_server_leaves_processes_behind(tmp_path: Path, ends: str) -> None:
    port, nobody = ports.draw(), ports.draw()
    server = (*PROGRAM[:2], "tests.servers.odd", "--port", str(port.number))
    async with process_one(
        tmp_path,
        *("sidecar", "--store", f"http://127.0.0.1:{nobody.number}", "--drain", "0"),
        *("--url", f"http://127.0.0.1:{port.number}/mcp", "--health-port", "0"),
        *("--", *AMONG_ORPHANS, str(tmp_path / "orphans"), *server),
        beside=False,
    ) as one:
        await one.said("the store is away")  # so the server answers
        await one.collects()
        if ends == "server":
            await control(port.number, exit=3)
            assert await one.ended() == 3, one.log
        else:
            one.init.terminate()
            assert await one.ended() == 0, one.log


async def test_a_facade_beside_others(tmp_path: Path) -> None:
    async with process_one(tmp_path, "facade", "--port", "0") as one:
        await one.said("listening on")
        await one.collects()
        one.init.send_signal(signal.SIGHUP)
        await one.said("reading all credential files again")
        one.command.kill()
        assert await one.ended() == 128 + signal.SIGKILL, one.log


async def test_a_facades_workers_are_told_from_orphans(
    consul_server: ConsulServer, namespace: str, tmp_path: Path
) -> None:
    store = f"{consul_server.store_url}/{namespace}"
    async with process_one(
        tmp_path, "facade", "--port", "0", "--store", store, "--workers", "2"
    ) as one:
        await one.said("listening on")
        await one.collects()
        first = one.command.children()
        first[0].kill()
        await one.said("a worker was killed by signal 9; starting another")
        await one.collects()

        async def replaced() -> bool:
            now = one.command.children()
            return len(now) == 2 and first[0] not in now

        await until(replaced, timeout=30, what="a new worker")
        one.init.terminate()
        assert await one.ended() == 0, one.log
