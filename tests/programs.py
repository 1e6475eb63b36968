"""The command ``mcp-discovery`` as real processes, as an operator starts them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.stores import ports
from tests.stores.waiting import bounded, until

ROOT = Path(__file__).parents[1]
#: The command as it is started in these tests: that of the checkout.
PROGRAM = (sys.executable, "-m", "mcp_discovery.cli")
#: The environment of a process: what the test run has, less what is meant for the command.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("MCP_DISCOVERY_")}

#: A facade loads no model of meaning, which takes each process half a second of a processor.
_WORDS_ALONE = {"MCP_DISCOVERY_SEMANTIC": "none"}

#: With this a log holds the traceback of each error that nobody foresaw, for who looks for one.
DEBUGGING = {"MCP_DISCOVERY_DEBUG": "1"}


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


async def command(
    *arguments: str,
    timeout: float = 60,
    program: Sequence[str] = PROGRAM,
    cwd: Path | str = ROOT,
    **environment: str,
) -> Ended:
    """Runs ``mcp-discovery``, or another installation's ``program``, to its end."""
    process = await asyncio.create_subprocess_exec(
        *(*program, *arguments),
        cwd=cwd,
        env=ENVIRONMENT | {"COLUMNS": "200"} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await bounded(process.communicate(), timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, out.decode(), err.decode())


class Running:
    """A long-running ``mcp-discovery`` with its log."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    def send(self, number: int) -> None:
        """Signals it and does not wait."""
        self._process.send_signal(number)

    async def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Signals it, waits for its end and returns its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await bounded(self._process.wait(), timeout)


@asynccontextmanager
async def running(
    folder: Path,
    *arguments: str,
    program: Sequence[str] = PROGRAM,
    cwd: Path | str = ROOT,
    **environment: str,
) -> AsyncIterator[Running]:
    """Starts ``mcp-discovery``; killed at the end where it still runs."""
    log = folder / f"{arguments[0]}-{len(list(folder.iterdir()))}.log"
    usual = {"XDG_STATE_HOME": str(folder / "state")} | DEBUGGING
    if arguments[0] == "facade":
        usual |= _WORDS_ALONE
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(*program, *arguments),
            cwd=cwd,
            env=ENVIRONMENT | usual | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield Running(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class AskedFacade:
    """A facade process, and questions to it."""

    def __init__(self, url: str, process: Running) -> None:
        self.url = url
        self.process = process

    async def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return await response.json(content_type=None)

    async def servers(self, query: str = "status=all") -> dict[str, dict[str, Any]]:
        """The entries of a list, by id."""
        answer = await self.get(f"/servers?{query}")
        return {entry["id"]: entry for entry in answer.get("servers", [])}

    async def until_status(self, id: str, status: str | None, timeout: float) -> dict[str, Any]:
        """Waits until ``id`` is listed with ``status``, or gone for ``None``; returns its entry."""
        entry: dict[str, Any] = {}

        async def seen() -> bool:
            nonlocal entry
            entry = (await self.servers()).get(id, {})
            return entry.get("status") == status

        try:
            await until(seen, timeout=timeout, what=f"{id} is {status}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; the facade has {entry or 'nothing'}") from error
        return entry


@asynccontextmanager
async def facade(
    folder: Path,
    store: str,
    *,
    program: Sequence[str] = PROGRAM,
    cwd: Path | str = ROOT,
    **environment: str,
) -> AsyncIterator[AskedFacade]:
    """A facade process over ``store`` that is ready."""
    port = ports.draw()
    url = f"http://127.0.0.1:{port.number}"
    arguments = ("facade", "--store", store, "--port", str(port.number))
    async with running(folder, *arguments, program=program, cwd=cwd, **environment) as process:
        asked = AskedFacade(url, process)

        async def ready() -> bool:
            async with aiohttp.ClientSession() as http, http.get(f"{url}/ready") as response:
                return response.status == 200

        await until(ready, timeout=60, what=f"the facade being ready: {process.log}")
        yield asked
