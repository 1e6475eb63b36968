"""What a process goes through meanwhile: its memory, and the longest pause of its answers."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.waiting import NotYet, until

_EVERY = 0.02


@dataclass
class Measurement:
    """``grown`` bytes of memory at most beyond the first look; ``pause`` seconds, the longest that
    a question about its health took; ``refused`` are the answers that were none."""

    grown: int = 0
    pause: float = 0.0
    refused: list[str] = field(default_factory=list)

    def check(self, *, pause: float = 2.0, megabytes: float = 400) -> None:
        """Asserts the bounds, which leave a wide margin to what is measured."""
        assert not self.refused, self.refused[:3]
        assert self.pause < pause, f"an answer took {self.pause:.2f} s"
        assert self.grown < megabytes * 2**20, f"{self.grown / 2**20:.0f} MB more"


@asynccontextmanager
async def measured(pid: int, health_url: str | None = None) -> AsyncIterator[Measurement]:
    """Measures the process ``pid``, and how it answers ``health_url``, until the block ends."""
    process = psutil.Process(pid)
    found, first = Measurement(), process.memory_info().rss

    async def look() -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                found.grown = max(found.grown, process.memory_info().rss - first)
                if health_url is not None:
                    began = time.monotonic()
                    async with http.get(health_url) as response:
                        if response.status != 200:
                            found.refused.append(f"HTTP {response.status}")
                        await response.read()
                    found.pause = max(found.pause, time.monotonic() - began)
                await asyncio.sleep(_EVERY)

    task = asyncio.create_task(look())
    try:
        yield found
    finally:
        task.cancel()
        done, _ = await asyncio.wait([task])
        for each in done:
            if not each.cancelled():
                each.result()


class Program:
    """One ``mcp-discovery`` command as a process, and its log."""

    def __init__(self, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        self.process = LocalProcess(sys.executable, self.log)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def lines(self, *parts: str) -> list[str]:
        """The lines of its log that have all of ``parts``."""
        text = self.log.read_text(errors="replace")
        return [line for line in text.splitlines() if all(part in line for part in parts)]

    async def quiet(self, seconds: float, most: int = 0) -> None:
        """Watches the log for ``seconds``; asserts that at most ``most`` lines came."""
        before = len(self.lines())
        await asyncio.sleep(seconds)  # what is measured is that nothing comes in this time
        after = self.lines()[before:]
        assert len(after) <= most, "\n".join(after[:10])


@asynccontextmanager
async def program(folder: Path, name: str, *arguments: str) -> AsyncIterator[Program]:
    """Runs ``mcp-discovery`` with ``arguments`` until the block ends."""
    made = Program(folder, name)
    try:
        await made.process.start(["-m", "mcp_discovery.cli", *arguments])
        yield made
    finally:
        await made.process.close()


class FacadeProcess:
    """A facade process, with questions to it."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url

    async def ask(self, path: str) -> Any:
        """The JSON answer to a GET."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return await response.json(content_type=None)

    async def servers(self) -> dict[str, dict[str, Any]]:
        """All entries, by id."""
        answer = await self.ask("/servers?status=all")
        return {each["id"]: each for each in answer.get("servers", [])}

    async def until_listed(self, id: str, status: str = "healthy", *, timeout: float = 10) -> float:
        """Waits until ``id`` has that status; returns the seconds that it took."""
        began = time.monotonic()

        async def has_it() -> bool:
            entry = (await self.servers()).get(id, {})
            if entry.get("status") != status:
                raise NotYet(f"{entry.get('status')}: {entry.get('reason')}")
            return True

        await until(has_it, timeout=timeout, what=f"{id} being {status}")
        return time.monotonic() - began


@asynccontextmanager
async def facade(folder: Path, store: str, *options: str) -> AsyncIterator[FacadeProcess]:
    """A facade process over ``store`` that answers. Nobody is at the addresses that are listed."""
    port = ports.draw()
    url = f"http://127.0.0.1:{port.number}"
    given = ("facade", "--store", store, "--port", str(port.number), "--no-try-advertised")
    words = ("--semantic", "none")  # a model that is loaded is a line in the log
    async with program(folder, "facade", *given, *words, *options) as made:

        async def answers() -> bool:
            async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as response:
                return response.status == 200

        await until(answers, timeout=60, what=f"the facade: {made.lines()[-5:]}")
        yield FacadeProcess(made, url)
    port.release()
