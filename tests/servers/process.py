"""Real MCP servers as processes: start them on a port of their own, break them, stop them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.waiting import NotYet, until

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0


async def until_answering(process: LocalProcess, url: str, timeout: float, what: str) -> None:
    """Wait until ``process`` answers a GET of ``url``, with whatever is no error of its own.

    Raises RuntimeError, with its log, when it ends before, and TimeoutError after ``timeout``
    seconds.
    """
    async with aiohttp.ClientSession() as http:

        async def answers() -> bool:
            if not process.running:
                raise RuntimeError(f"it ended: {await process.log_tail(30)}")
            async with http.get(url) as response:
                if response.status >= 500:
                    raise NotYet(f"HTTP {response.status}")
                return True

        await until(answers, timeout=timeout, what=what)


class McpServer:
    """One MCP server process; it keeps its port through stops and starts."""

    def __init__(self, program: Sequence[str], directory: Path, path: str = "/mcp") -> None:
        """``program`` is what Python runs: ``("-m", module, …)`` or a script and its options.

        It takes ``--port`` and answers ``GET /health`` once it serves. ``directory`` is for its
        log.
        """
        self._program = tuple(program)
        self._port = ports.draw()
        self._process = LocalProcess(sys.executable, directory / f"{self._port.number}.log")
        self._path = path

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._port.number

    @property
    def base_url(self) -> str:
        """The URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of its MCP endpoint."""
        return self.base_url + self._path

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process.running

    async def start(self, *more: str, ready: bool = True) -> None:
        """Start the process with ``more`` options, and wait until it answers if ``ready``."""
        await self._process.start([*self._program, "--port", str(self.port), *more])
        if ready:
            await self.ready()

    async def ready(self) -> None:
        """Wait until the server answers; raises TimeoutError, with its log, when it does not."""
        what = f"{self._program} being ready"
        await until_answering(self._process, f"{self.base_url}/health", START_SECONDS, what)

    async def control(self, **wishes: Any) -> dict[str, Any]:
        """Change what the odd server does; returns its options and counts."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.base_url}/control", json=wishes) as response,
        ):
            told: dict[str, Any] = await response.json()
            assert response.status == 200, told
            return told

    async def offer_tools(self, count: int, *, notify: bool) -> None:
        """Change how many tools the SDK server offers, and tell its listeners or not."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{self.base_url}/tools", params={"n": count, "notify": "1" if notify else ""}
            ) as response,
        ):
            assert response.status == 200, await response.text()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._process.kill()

    async def terminate(self, timeout: float = 10.0) -> None:
        """Ask it to end and wait for it."""
        await self._process.terminate(timeout)

    async def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers."""
        await self._process.pause()

    async def resume(self) -> None:
        """Let it go on after ``pause``."""
        await self._process.resume()

    async def restart(self, *more: str) -> None:
        """Kill it and start it again on its port."""
        await self.kill()
        await self.start(*more)

    async def log_tail(self) -> str:
        """The end of what it wrote."""
        return await self._process.log_tail(30)

    async def close(self) -> None:
        """Kill it and give its port back."""
        await self._process.close()
        self._port.release()


@asynccontextmanager
async def running(
    program: Sequence[str], *options: str, path: str = "/mcp"
) -> AsyncIterator[McpServer]:
    """Run ``program`` with ``options`` until the block ends."""
    with tempfile.TemporaryDirectory(prefix="mcp-server-") as directory:
        server = McpServer(program, Path(directory), path)
        try:
            await server.start(*options)
            yield server
        finally:
            await server.close()


def odd(*options: str, path: str = "/mcp") -> AbstractAsyncContextManager[McpServer]:
    """Run the odd server; see ``tests/servers/odd.py`` for its options."""
    return running(("-m", "tests.servers.odd"), *options, path=path)


def sdk(*options: str, path: str = "/mcp") -> AbstractAsyncContextManager[McpServer]:
    """Run the SDK server; see ``tests/servers/sdk.py`` for its options."""
    return running(("-m", "tests.servers.sdk"), *options, path=path)


def example(name: str, *options: str) -> AbstractAsyncContextManager[McpServer]:
    """Run one of the example servers."""
    return running((str(ROOT / "examples" / f"{name}.py"),), *options)
