"""A bridge in this process, and a legacy client of it that sees each byte."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp
import orjson
import psutil

from mcp_discovery.program import Program
from mcp_discovery.sidecar.bridge.bridge import Bridge
from mcp_discovery.sidecar.bridge.serving import BridgeListener, McpEndpoint
from mcp_discovery.sidecar.bridge.session_table import SessionLimits
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.stores.waiting import NotYet, until

COMMAND = (sys.executable, "-m", "tests.sidecar.bridge.many_sided_server")
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
LATEST = "2025-11-25"


@dataclass
class Bridged:
    """What is measured of a bridge: its URL, the bridge and its endpoint."""

    url: str
    bridge: Bridge
    endpoint: McpEndpoint
    #: What this process had started before: the stores that its tests share, for one.
    others: frozenset[psutil.Process]

    def __len__(self) -> int:
        return len(self.endpoint.legacy.sessions)

    @property
    def processes(self) -> set[int]:
        """The server's processes that run, with what these started."""
        own = [each for each in psutil.Process().children() if each not in self.others]
        return {each.pid for top in own for each in (top, *_started_by(top))}

    async def until_processes(self, number: int, *, within: float = 20.0) -> None:
        """Waits until so many run."""

        async def found() -> bool:
            pids = self.processes
            if len(pids) != number:
                raise NotYet(", ".join(map(_command, sorted(pids))) or "none")
            return True

        await until(found, timeout=within, what=f"{number} processes")

    async def until_sessions(self, number: int, *, within: float = 5.0) -> None:
        """Waits until there are so many."""

        async def found() -> bool:
            return len(self) == number

        await until(found, timeout=within, what=f"{number} sessions")

    async def until_absent(self, number: int) -> None:
        """Waits until the clients of so many sessions are known to have no connection."""

        async def found() -> bool:
            return sum(not each.connections for each in self.endpoint.legacy.sessions) == number

        await until(found, timeout=5, what=f"{number} sessions without a connection")

    async def until_ready(self) -> None:
        """Waits until the shared process can be asked."""

        async def ready() -> bool:
            return self.bridge.why_not is None

        await until(ready, timeout=15, what="a process that can be asked")


def _started_by(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _command(pid: int) -> str:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return f"{pid}, {process.status()}, {shlex.join(process.cmdline())!r}"
    return f"{pid}, gone"


@asynccontextmanager
async def bridged(*command: str, **limits: Any) -> AsyncIterator[Bridged]:
    """A bridge to ``command``, by default the many-sided server, whose sessions have ``limits``."""
    others = frozenset(psutil.Process().children())
    bridge = Bridge(Program(command=command or COMMAND, grace=2.0), "server")
    settings = SidecarSettings(command=command or COMMAND)
    listener = BridgeListener("127.0.0.1", 0, settings)
    async with bridge.running(), listener.listening():
        endpoint = listener.endpoints["/mcp"] = McpEndpoint(bridge, SessionLimits(**limits))
        found = Bridged(listener.url("/mcp"), bridge, endpoint, others)
        await found.until_ready()
        try:
            yield found
        finally:
            await endpoint.close()


@dataclass
class Event:
    """One server-sent event; ``data`` is decoded, ``None`` for one without."""

    id: str | None = None
    data: Any = None
    retry: int | None = None
    comment: str | None = None


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """The events of a response; a comment is one."""
    event = Event()
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        name, _, value = line.partition(": ")
        match name:
            case "":
                if line.startswith(":"):
                    event.comment = value
                else:
                    yield event
                    event = Event()
            case "id":
                event.id = value
            case "retry":
                event.retry = int(value)
            case "data":
                event.data = orjson.loads(value) if value else None


@dataclass
class Answer:
    """A response that has ended."""

    status: int
    headers: Mapping[str, str]
    content: Any
    events: list[Event] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What a tool said."""
        return str(self.content["result"]["content"][0]["text"])


class WireClient:
    """A legacy client with connections of its own."""

    def __init__(self, url: str, version: str = LATEST) -> None:
        self.url = url
        self.version = version
        self.session: str | None = None
        self.ids = count(1)
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)
        )

    @property
    def headers(self) -> dict[str, str]:
        """Those of a request of its session."""
        found = HEADERS | {"MCP-Protocol-Version": self.version}
        return found | ({"Mcp-Session-Id": self.session} if self.session else {})

    async def send(self, message: Any, **headers: str) -> Answer:
        """Posts a message and waits for the end of the response."""
        async with self.http.post(
            self.url, data=orjson.dumps(message), headers=self.headers | headers
        ) as response:
            if response.content_type == "text/event-stream":
                found = [each async for each in events(response)]
                content = found[-1].data if found else None
                return Answer(response.status, response.headers, content, found)
            body = await response.read()
            return Answer(response.status, response.headers, orjson.loads(body) if body else None)

    def request(self, method: str, /, **params: Any) -> dict[str, Any]:
        """A request with the next id."""
        return {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params}

    async def ask(self, method: str, /, **params: Any) -> Answer:
        """The answer to a request."""
        return await self.send(self.request(method, **params))

    def calling(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """A call of a tool, with a token for its progress."""
        id = next(self.ids)
        meta = {"progressToken": f"token-{id}"}
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}

    async def call(self, tool: str, /, **arguments: Any) -> Answer:
        """Calls a tool."""
        return await self.send(self.calling(tool, **arguments))

    async def notify(self, method: str, /, **params: Any) -> Answer:
        """Sends a notification."""
        return await self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def begin(self, **capabilities: Any) -> Answer:
        """Begins a session, as a client that has ``capabilities``."""
        self.session = None
        answer = await self.ask(
            "initialize",
            protocolVersion=self.version,
            capabilities=capabilities,
            clientInfo={"name": "wire", "version": "1"},
        )
        self.session = answer.headers.get("Mcp-Session-Id")
        if self.session:
            await self.notify("notifications/initialized")
        return answer

    def listen(self, after: str | None = None) -> Any:
        """The response to a GET, as a context."""
        headers = self.headers | {"Accept": "text/event-stream"}
        headers |= {} if after is None else {"Last-Event-ID": after}
        return self.http.get(self.url, headers=headers)

    async def end(self) -> Answer:
        """Ends the session."""
        async with self.http.delete(self.url, headers=self.headers) as response:
            return Answer(response.status, response.headers, None)

    async def leave(self) -> None:
        """Closes its connections without a word."""
        await self.http.close()


@asynccontextmanager
async def client(
    where: Bridged, version: str = LATEST, **capabilities: Any
) -> AsyncIterator[WireClient]:
    """A client with a session."""
    found = WireClient(where.url, version)
    try:
        answer = await found.begin(**capabilities)
        assert answer.status == 200, answer
        yield found
    finally:
        await found.leave()


@asynccontextmanager
async def listening(who: WireClient) -> AsyncIterator[asyncio.Queue[Event]]:
    """The session's stream: its messages as they come."""
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with who.listen() as response:
        assert response.status == 200, await response.text()

        async def read() -> None:
            async for each in events(response):
                if each.data is not None:
                    queue.put_nowait(each)

        reading = asyncio.create_task(read())
        try:
            yield queue
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
