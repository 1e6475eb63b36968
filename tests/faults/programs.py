"""Sidecars and facades as processes that are killed, frozen and started again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from tests.faults.faulty_clock import Clock
from tests.stores.process import LocalProcess
from tests.stores.waiting import until


class Program:
    """One ``mcp-discovery`` command, with the same options each time that it is started."""

    def __init__(
        self, folder: Path, name: str, arguments: Sequence[str], clock: Clock | None = None
    ) -> None:
        """``clock`` is one that can be stepped, when it is to have one."""
        self._process = LocalProcess(sys.executable, folder / f"{name}.log")
        runs = ("tests.faults.faulty_clock", str(clock.file)) if clock else ("mcp_discovery.cli",)
        self._arguments = ["-m", *runs, *arguments]
        self.log = folder / f"{name}.log"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it is there, frozen or not."""
        return self._process.running

    async def start(self) -> None:
        """Starts it; raises RuntimeError where it runs."""
        await self._process.start(self._arguments)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._process.kill()

    async def terminate(self, timeout: float = 20) -> None:
        """SIGTERM, and waits."""
        await self._process.terminate(timeout)

    async def freeze(self) -> None:
        """SIGSTOP: its connections stay open."""
        await self._process.pause()

    async def thaw(self) -> None:
        """SIGCONT."""
        await self._process.resume()

    async def close(self) -> None:
        """Kills it where it still runs."""
        await self._process.close()


async def ready(url: str, timeout: float = 30) -> None:
    """Waits until the facade at ``url`` has its list."""

    async def answers() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/ready") as response:
            return response.status == 200

    await until(answers, timeout=timeout, what=f"{url} being ready")
