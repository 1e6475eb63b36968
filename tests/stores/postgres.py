"""A real PostgreSQL of a test: start, readiness, faults."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import psutil

from tests.deploy.tools import program
from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.waiting import NotYet, bounded, until

_READY = 30.0
#: PostgreSQL refuses to run as root. Where root runs the tests, ``nobody`` runs it.
_NOBODY = 65_534


class Postgres:
    """One server on a port of its own, with the role and database ``audit``; what was committed
    survives its restarts."""

    password = "opens-the-audit"

    def __init__(self) -> None:
        self._port = ports.draw()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self._folder / "data"
        self._as_user: tuple[str, ...] = ()
        if os.geteuid() == 0:
            os.chown(self._folder, _NOBODY, _NOBODY)
            who = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
            self._as_user = ("setpriv", *who, "--pdeathsig=KILL")
        command = (*self._as_user, program("postgres"))
        path = shutil.which(command[0])
        assert path is not None
        self._process = LocalProcess(path, self._folder / "postgres.log")
        self._arguments = command[1:]

    @property
    def url(self) -> str:
        """As ``--audit-store`` takes it."""
        return f"postgresql://audit@127.0.0.1:{self._port.number}/audit"

    async def __aenter__(self) -> Self:
        secret = self._folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        made = [program("initdb"), "-D", str(self._data), "-U", "audit", "--encoding=UTF8"]
        made += ["--no-locale", "--no-sync", "--auth=scram-sha-256", f"--pwfile={secret}"]
        await asyncio.to_thread(
            subprocess.run, (*self._as_user, *made), check=True, capture_output=True, timeout=60
        )
        await self.start()
        await self.execute("CREATE DATABASE audit", database="postgres")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.running:
            await self.stop()
        await self._process.close()
        self._port.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def start(self) -> None:
        """Starts it and waits until it answers."""
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=16MB")
        given = [word for each in settings for word in ("-c", each)]
        port = ("-p", str(self._port.number))
        await self._process.start((*self._arguments, "-D", str(self._data), *port, *given))

        async def answers() -> bool:
            if not self._process.running:
                raise RuntimeError(f"it ended: {await self._process.log_tail(20)}")
            try:
                await self.execute("SELECT 1", database="postgres")
            except (OSError, asyncpg.PostgresError) as error:
                raise NotYet(str(error)) from error
            return True

        await until(answers, timeout=_READY, what="PostgreSQL being ready")

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process.running

    async def stop(self) -> None:
        """Ends it at once, with every process that it has, as a crash does."""
        self._signal(signal.SIGKILL)
        await self._process.kill()

    def pause(self) -> None:
        """Freezes all of it: connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        main = psutil.Process(self._process.pid)
        for each in (main, *main.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    async def execute(self, statement: str, *, database: str = "audit") -> list[Any]:
        """The rows of one statement, by the owner of everything."""
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=self._port.number,
            user="audit",
            password=self.password,
            database=database,
            timeout=5,
        )
        try:
            found: list[Any] = await bounded(connection.fetch(statement), 10)
            return found
        finally:
            await connection.close()
