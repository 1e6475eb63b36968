"""The life of a real store server in a test: start, readiness, faults, removal."""

import contextlib
import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import aiohttp

from tests.stores import binaries, ports
from tests.stores.binaries import Image, Program, StoreName
from tests.stores.container import ContainerProcess
from tests.stores.process import LocalProcess, ServerProcess
from tests.stores.tls import Tls
from tests.stores.waiting import NotYet, bounded, until

START_TIMEOUT = 30.0
"""Seconds that a server has to become ready. It takes one to three."""

PROBE_TIMEOUT = 1.0
"""Seconds for one answer to the question whether a server is ready, before it is asked again."""

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=5)


class ServerFailed(Exception):
    """A server ended instead of becoming ready, or did not become ready. Carries its `log`."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(f"{message}; the end of its log:\n{log}")
        self.log = log


class RequestRefused(NotYet):
    """The server answered a request with an error. Carries `status` and `body`."""

    def __init__(self, what: str, status: int, body: str) -> None:
        super().__init__(f"{what} answered {status}: {body.strip()}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Answer:
    """A server's answer below 400."""

    body: str
    headers: Mapping[str, str]

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class StoreServer(ABC):
    """One server process with ports and data of its own. `async with` starts and removes it.

    Ports and data stay the same while it is killed, stopped and started again. Its objects belong
    to no event loop: a fixture of one loop serves tests of another.
    """

    store: ClassVar[StoreName]
    PORTS: ClassVar[tuple[str, ...]]

    def __init__(
        self, name: str, *, tls: Tls | None = None, program: Program | None = None
    ) -> None:
        """`name` is the node's; `program` says what to run instead of `binaries.find`'s answer."""
        self.name = name
        self.tls = tls
        self.program = program or binaries.find(self.store)
        self._ports: dict[str, ports.Port] = {}
        self._folder: Path | None = None
        self._process: ServerProcess | None = None
        self._paused = False
        self._furnished = False
        self.host = ports.LOOPBACK
        """The address that it listens on; set it before the start."""
        self.within: Sequence[str] = ()
        """What is put before its command line: to run it in another network namespace, say."""
        self.peers: Sequence[StoreServer] = [self]
        """The members of its cluster, itself included."""

    # What a kind of server is

    @abstractmethod
    def _arguments(self) -> Sequence[str]:
        """The command line, after ports and folder are known."""

    @abstractmethod
    async def _check_ready(self) -> bool:
        """Ask the server whether it serves reads and writes."""

    @abstractmethod
    async def leads(self) -> bool:
        """Whether this member takes itself for the leader. Raises if it does not answer."""

    @abstractmethod
    async def _furnish(self) -> None:
        """Write what a new, ready store must hold (users, for one). Once per data."""

    # Where it is

    @property
    def http_port(self) -> int:
        """The port of the HTTP API, or the HTTPS one with TLS."""
        return self.port("http")

    @property
    def http_url(self) -> str:
        """The HTTP API's base, without a slash at the end."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.host}:{self.http_port}"

    @property
    def store_url(self) -> str:
        """What the project calls this store: `consul://…` or `etcd+https://…`."""
        scheme = f"{self.store}+https" if self.tls else self.store
        return f"{scheme}://{self.host}:{self.http_port}"

    def port(self, purpose: str) -> int:
        """The port for one of `PORTS`. Raises `KeyError` before the server was started."""
        return self._ports[purpose].number

    @property
    def folder(self) -> Path:
        """Where the server's files are. Raises `RuntimeError` outside of `async with`."""
        if self._folder is None:
            raise RuntimeError(f"{self.name} was not started, or is closed")
        return self._folder

    @property
    def data(self) -> Path:
        """The folder that the server keeps its data in."""
        return self.folder / "data"

    # Its life

    async def __aenter__(self) -> Self:
        await open_together([self])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def prepare(self) -> None:
        """Draw ports and make the folder. `async with` does it."""
        self._furnished = False
        self._ports = {purpose: ports.draw() for purpose in self.PORTS}
        self._folder = Path(tempfile.mkdtemp(prefix=f"mcp-discovery-{self.store}-"))
        self.data.mkdir()
        if isinstance(self.program, Image):
            folders = [self.folder] + ([self.tls.folder] if self.tls else [])
            self._process = ContainerProcess(self.program.name, self.program.command, folders)
        else:
            path, *_ = self._command
            self._process = LocalProcess(path, self.folder / "log")

    @property
    def _command(self) -> Sequence[str]:
        """The program, behind what it is run within; a container image brings its own."""
        return ("",) if isinstance(self.program, Image) else (*self.within, self.program.path)

    async def close(self) -> None:
        """Kill the server, remove its files and release its ports."""
        if self._process is not None:
            await self._process.close()
        if self._folder is not None:
            shutil.rmtree(self._folder)
        for port in self._ports.values():
            port.release()
        self._ports, self._folder, self._process = {}, None, None
        self._paused = False

    @property
    def process(self) -> ServerProcess:
        """The process that the faults are done to. Raises `RuntimeError` before the start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started, or is closed")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.running

    @property
    def answering(self) -> bool:
        """Whether the process is there and not paused."""
        return self.running and not self._paused

    async def start(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> None:
        """Start a stopped server with the data it has.

        With `wait` it is ready on return; without, it was only started, which is what a member
        without quorum needs. Raises `ServerFailed` when it ends or is not ready in `timeout` s.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self._paused = False
        await self.process.start([*self._command[1:], *self._arguments()])
        if wait:
            await self.ready(timeout)

    async def ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the server serves reads and writes, or raise `ServerFailed`."""

        async def ready() -> bool:
            if not self.running:
                log = await self.process.log_tail(15)
                raise ServerFailed(f"{self.store} {self.name} ended", log)
            return await bounded(self._check_ready(), PROBE_TIMEOUT)

        try:
            await until(ready, timeout=timeout, what=f"{self.store} {self.name} being ready")
        except TimeoutError as error:
            raise ServerFailed(str(error), await self.process.log_tail(15)) from error

    async def furnish(self) -> None:
        """Write what a new store must hold, unless this one's data has it. Starts do it."""
        if not self._furnished:
            await self._furnish()
            for member in self.peers:
                member._furnished = True

    async def kill(self) -> None:
        """End it with SIGKILL, as a crash does."""
        await self.process.kill()

    async def stop(self, timeout: float = 15) -> None:
        """Ask it to end in good order and wait `timeout` seconds, or raise `TimeoutError`."""
        await self.process.terminate(timeout)

    async def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing is answered."""
        await self.process.pause()
        self._paused = True

    async def resume(self) -> None:
        """Let a paused server go on."""
        await self.process.resume()
        self._paused = False

    async def wipe(self) -> None:
        """Remove the data of a stopped server. Raises `RuntimeError` when it runs.

        The next `start` finds an empty store. Not for one member of an etcd cluster: etcd lets no
        member return without its data, so wipe the whole cluster.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs; kill or stop it before wiping it")
        shutil.rmtree(self.data)
        self.data.mkdir()
        if not any(member.running for member in self.peers):
            self._furnished = False

    async def restart(self, *, wipe: bool = False) -> None:
        """Kill it and start it again: with its data, or as an empty store if `wipe`."""
        await self.kill()
        if wipe:
            await self.wipe()
        await self.start()
        await self.furnish()

    # Asking it

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> Answer:
        """Ask the HTTP API over a connection of its own, `body` as JSON or `data` as it is.

        TLS is done; credentials are the caller's. Raises `RequestRefused` from status 400 on, and
        aiohttp's errors when there is no answer.
        """
        ssl = self.tls.client_context() if self.tls else True
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method, self.http_url + path, json=body, data=data, headers=headers, ssl=ssl
            ) as response,
        ):
            text = await response.text()
            if response.status >= 400:
                raise RequestRefused(f"{method} {path}", response.status, text)
            return Answer(text, response.headers.copy())


async def open_together(servers: Sequence[StoreServer]) -> None:
    """Start servers that know each other's ports, and wait until all are ready.

    Nobody holds a port between its draw and the server's own bind, so a port that was lost to
    another program in that moment is answered with new ports for all.
    """
    for attempts_left in reversed(range(5)):
        async with contextlib.AsyncExitStack() as undo:
            for server in servers:
                undo.push_async_callback(server.close)
                server.prepare()
            try:
                for server in servers:
                    await server.start(wait=False)
                for server in servers:
                    await server.ready()
                await servers[0].furnish()
            except ServerFailed as error:
                if attempts_left and "address already in use" in error.log:
                    continue
                raise
            undo.pop_all()
            return
