"""Two facades behind HAProxy, upgraded one by one as docs/operations.md has it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.deploy.monitoring.files import PAGE
from tests.deploy.tools import program
from tests.programs import AskedFacade, Running, running
from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.waiting import NotYet, until

#: Seconds between two looks of the reader.
LOOK = 0.03


class Restarted:
    """An ``mcp-discovery`` that can be stopped and started again with the same options."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._stack = AsyncExitStack()
        self.process: Running | None = None

    async def start(self) -> Running:
        """Starts it."""
        started = running(self._folder, *self._arguments)
        self.process = await self._stack.enter_async_context(started)
        return self.process

    async def stop(self) -> None:
        """Ends it in good order."""
        assert self.process is not None
        assert await self.process.stop(signal.SIGTERM) == 0, self.process.log

    async def close(self) -> None:
        """Ends whatever of it runs."""
        await self._stack.aclose()


class Facades:
    """Two facades and the address before them."""

    def __init__(self, url: str, each: tuple[Restarted, Restarted], urls: tuple[str, str]) -> None:
        self.url = url
        self.each = each
        self.urls = urls

    async def until_listed(self, id: str) -> None:
        """Waits until both facades offer ``id``."""
        for restarted, url in zip(self.each, self.urls, strict=True):
            assert restarted.process is not None
            await AskedFacade(url, restarted.process).until_status(id, "healthy", 20)

    async def restart(self, number: int) -> None:
        """Stops one, starts it again and waits until HAProxy sends requests to it."""
        await self.each[number].stop()
        await self.each[number].start()
        await self.until_used(number)

    async def until_used(self, number: int) -> None:
        """Waits until one of them answers at the common address."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:

            async def used() -> bool:
                epochs: list[str] = []
                for url in (self.urls[number], self.url):
                    async with http.get(f"{url}/status") as response:
                        if response.status != 200:
                            raise NotYet(f"{response.status} from {url}")
                        epochs.append((await response.json())["epoch"])
                one, other = epochs
                return one == other

            await until(used, timeout=20, what=f"facade {number} being used")


@asynccontextmanager
async def facades(folder: Path, store: str) -> AsyncIterator[Facades]:
    """Two facades over ``store`` behind HAProxy with the page's configuration."""
    one, two, front = (ports.draw() for _ in range(3))
    numbers = {"4080": front.number, "4000": one.number, "4002": two.number}
    (config,) = re.findall(r"```haproxy\n(.+?)```", PAGE.read_text(), flags=re.S)
    for written, number in numbers.items():
        config = config.replace(f"127.0.0.1:{written}", f"127.0.0.1:{number}")
    (folder / "haproxy.cfg").write_text(config)
    each = tuple(
        Restarted(folder, "facade", "--store", store, "--port", str(port.number))
        for port in (one, two)
    )
    proxy = LocalProcess(program("haproxy"), folder / "haproxy.log")
    try:
        for facade in each:
            await facade.start()
        await proxy.start(["-db", "-f", str(folder / "haproxy.cfg")])
        found = Facades(
            f"http://127.0.0.1:{front.number}",
            (each[0], each[1]),
            (f"http://127.0.0.1:{one.number}", f"http://127.0.0.1:{two.number}"),
        )
        for number in (0, 1):
            await found.until_used(number)
        yield found
    finally:
        await proxy.close()
        for facade in each:
            await facade.close()
        for port in (one, two, front):
            port.release()


class Reader:
    """Polls the common address all the time, and notes what an agent would have missed.

    ``required`` are the ids that every answer has to offer; it is the test's to change.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.required: frozenset[str] = frozenset()
        self.faults: list[str] = []
        self.looks = 0
        #: The longest that ids which were not required were missing in a row, in seconds.
        self.gaps: dict[str, float] = {}

    @asynccontextmanager
    async def reading(self, *watched: str) -> AsyncIterator[None]:
        """Reads while the block runs; :attr:`gaps` are of ``watched``."""
        task = asyncio.create_task(self._read(watched), name="reader")
        try:
            yield
        finally:
            task.cancel()
            done = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(done, asyncio.CancelledError):
                raise AssertionError(f"the reader ended: {done!r}")

    async def _read(self, watched: tuple[str, ...]) -> None:
        clock = asyncio.get_running_loop().time
        seen = dict.fromkeys(watched, clock())
        # A connection for each question: it goes to whom HAProxy thinks well of now.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            while True:
                required = self.required
                try:
                    async with http.get(f"{self._url}/servers") as response:
                        answer = await response.json(content_type=None)
                        if response.status != 200:
                            self.faults.append(f"{response.status}: {answer}")
                            answer = {"servers": []}
                except aiohttp.ClientError as error:
                    self.faults.append(repr(error))
                else:
                    ids = {entry["id"] for entry in answer["servers"]}
                    # What was allowed to be missing while it was read may be.
                    if missing := (required & self.required) - ids:
                        self.faults.append(f"without {sorted(missing)}")
                    for id in ids & seen.keys():
                        self.gaps[id] = max(self.gaps.get(id, 0.0), clock() - seen[id])
                        seen[id] = clock()
                self.looks += 1
                await asyncio.sleep(LOOK)
