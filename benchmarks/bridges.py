"""Bridges from stdio to HTTP over one MCP server, and clients of what they serve.

The clients write bytes and read bytes, so that little of what is measured is theirs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.harness import Unavailable
from benchmarks.processes import Running, facade, free_port, process
from tests.foreign.programs import NODE, NPM, SDK1
from tests.foreign.servers import EVERYTHING
from tests.stores.process import die_with_parent

#: The server: a public one in a process of its own, of the era that every bridge speaks.
SERVER = (str(NODE), str(NPM / EVERYTHING), "stdio")
OURS, SUPERGATEWAY, MCP_PROXY = "sidecar", "supergateway", "mcp-proxy"
_PROTOCOL = "2025-06-18"
_PATIENCE = 60.0
_LOOPBACK = Path(__file__).parents[1] / "tests/foreign/loopback.cjs"
_INITIALIZE = {
    "protocolVersion": _PROTOCOL,
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}
_SAYS = b"Echo: hello"


def message(method: str, params: dict[str, Any], id: int | None = 1) -> bytes:
    """One JSON-RPC message, a notification without an ``id``."""
    number = {} if id is None else {"id": id}
    return orjson.dumps({"jsonrpc": "2.0", **number, "method": method, "params": params})


_CALL = message("tools/call", {"name": "echo", "arguments": {"message": "hello"}}, 2)


class Direct:
    """The server itself, spoken to over stdio."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._into, self._out = process.stdin, process.stdout

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Direct]:
        """Starts it; it ends with the block."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        started = await asyncio.create_subprocess_exec(
            *SERVER, stdin=pipe, stdout=pipe, stderr=nothing, preexec_fn=die_with_parent()
        )
        try:
            direct = cls(started)
            await direct._ask(message("initialize", _INITIALIZE))
            direct._into.write(message("notifications/initialized", {}, None) + b"\n")
            yield direct
        finally:
            with suppress(ProcessLookupError):
                started.kill()
            await started.wait()

    async def call(self) -> float:
        """Calls its tool; milliseconds."""
        began = time.perf_counter()
        answer = await self._ask(_CALL)
        took = time.perf_counter() - began
        if _SAYS not in answer:
            raise RuntimeError(f"the server answered {answer!r}")
        return took * 1000

    async def _ask(self, request: bytes) -> bytes:
        self._into.write(request + b"\n")
        while line := await self._out.readline():
            if b'"id":' in line:
                return line
        raise RuntimeError("the server has ended")


class Caller:
    """A client of a bridge: one connection, and one session over it at a time."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place = f"{parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        self.url = url
        self._session = ""

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str) -> AsyncIterator[Caller]:
        """Connects, and opens a session; both end with the block."""
        caller = cls(url)
        await caller._connect()
        try:
            await caller.open()
            yield caller
            await caller.drop()
        finally:
            caller._writer.close()

    async def open(self) -> None:
        """Opens a session; raises :class:`RuntimeError` where it gets none."""
        self._session = ""
        head, body = await self._ask("POST", message("initialize", _INITIALIZE))
        if b'"protocolVersion"' not in body:
            raise RuntimeError(f"initialize was answered with {head[:20]!r}: {body[:200]!r}")
        self._session = _field(head, b"mcp-session-id")
        await self._ask("POST", message("notifications/initialized", {}, None))

    async def drop(self) -> None:
        """Ends its session as the specification wants it."""
        await self._ask("DELETE", b"")

    async def call(self) -> float:
        """Calls the server's tool; milliseconds. Raises :class:`RuntimeError`."""
        began = time.perf_counter()
        head, body = await self._ask("POST", _CALL)
        took = time.perf_counter() - began
        if _SAYS not in body:
            raise RuntimeError(f"a call was answered with {head[:20]!r}: {body[:200]!r}")
        return took * 1000

    async def list(self) -> None:
        """Lists the server's tools."""
        head, body = await self._ask("POST", message("tools/list", {}))
        if b'"inputSchema"' not in body:
            raise RuntimeError(f"tools/list was answered with {head[:20]!r}: {body[:200]!r}")

    async def _connect(self) -> None:
        parts = urlsplit(self.url)
        opened = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
        self._reader, self._writer = opened

    async def _ask(self, method: str, body: bytes) -> tuple[bytes, bytes]:
        if self._reader.at_eof():  # some close a connection that was idle for 5 s
            self._writer.close()
            await self._connect()
        more = f"MCP-Session-Id: {self._session}\r\n" if self._session else ""
        self._writer.write(
            f"{method} {self._place}Content-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {_PROTOCOL}\r\n"
            f"{more}Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if _field(head, b"transfer-encoding") == "chunked":
            return head, await self._chunks()
        return head, await self._reader.readexactly(int(_field(head, b"content-length") or 0))

    async def _chunks(self) -> bytes:
        found = b""
        while length := int(await self._reader.readline(), 16):
            found += await self._reader.readexactly(length)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return found


def _field(head: bytes, name: bytes) -> str:
    """A header of a response, empty where it has none."""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip().decode()
    return ""


@dataclass(frozen=True, slots=True)
class Bridge:
    """One that runs and serves the server at ``url``; ``mark`` is in the command of each of the
    server's processes."""

    url: str
    mark: bytes
    running: Running

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.running.process.pid


@asynccontextmanager
async def bridge(name: str, server: Sequence[str] = SERVER, *options: str) -> AsyncIterator[Bridge]:
    """The bridge of that name over ``server``, once a session was opened and dropped;
    ``options`` are for the sidecar."""
    if not NODE.exists():
        raise Unavailable("the MCP servers of others are missing; run scripts/fetch-foreign")
    port = str(free_port())
    mark = f"bridged-at-{port}"
    server = (*server, mark)
    async with AsyncExitStack() as stack:
        match name:
            case "supergateway":
                command = [str(NODE), "--require", str(_LOOPBACK)]
                command += [str(NPM / "supergateway/dist/index.js"), "--stdio", " ".join(server)]
                command += ["--outputTransport", "streamableHttp", "--stateful", "--port", port]
                command += ["--logLevel", "none"]
            case "mcp-proxy":
                command = [str(SDK1), "-m", "mcp_proxy", "--port", port, "--log-level", "ERROR"]
                command += ["--", *server]
            case _:
                store, _ = await stack.enter_async_context(facade("--store", "embedded:"))
                command = [sys.executable, "-m", "mcp_discovery.cli", "sidecar", "--store", store]
                command += ["--listen", f"127.0.0.1:{port}", *options, "--", *server]
        url = f"http://127.0.0.1:{port}/mcp"
        there = f"http://127.0.0.1:{port}/"
        running = await stack.enter_async_context(process(*command, ready=there))
        await _served(url)
        yield Bridge(url, mark.encode(), running)


async def _served(url: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            with suppress(RuntimeError, OSError, asyncio.IncompleteReadError):
                async with Caller.opened(url):
                    return
            await asyncio.sleep(0.1)


async def added(caller: Caller, direct: Direct, turns: int, calls: int) -> tuple[float, float]:
    """The p50 of a call through the bridge and straight, in milliseconds, by turns of ``calls``."""
    through, straight = [], []
    for _ in range(turns):
        through += [await caller.call() for _ in range(calls)]
        straight += [await direct.call() for _ in range(calls)]
    return median(through), median(straight)


async def rate(callers: Sequence[Caller], seconds: float) -> float:
    """How many calls a second are answered to ``callers``, each with one after the other."""
    end = time.monotonic() + seconds

    async def calling(caller: Caller) -> int:
        count = 0
        while time.monotonic() < end:
            await caller.call()
            count += 1
        return count

    began = time.monotonic()
    counts = await asyncio.gather(*map(calling, callers))
    return sum(counts) / (time.monotonic() - began)


def processes_of(bridge: Bridge) -> int:
    """How many processes its server has now, wherever they went, and itself."""
    count = 0
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            count += bridge.mark in each.read_bytes()
    return count


def open_files(bridge: Bridge) -> int:
    """How many files it has open."""
    return len(os.listdir(f"/proc/{bridge.pid}/fd"))
