"""MCP servers, and bridges to such, that others wrote, each as a process on a port of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.foreign.programs import BRIDGE, FASTMCP4, GO, NODE, NPM, SDK1
from tests.servers.process import until_answering
from tests.stores import ports
from tests.stores.process import LocalProcess

_START_SECONDS = 60.0
_HERE = Path(__file__).parent

EVERYTHING = "@modelcontextprotocol/server-everything/dist/index.js"


@dataclass(frozen=True, slots=True)
class ForeignServer:
    """How one of them is started: ``command`` gets the port. ``sdk`` is what it is written with."""

    name: str
    sdk: str
    command: Callable[[int], Sequence[str]]
    path: str = "/mcp"
    transport: str = "streamable-http"


def _node(script: str, *arguments: str, **environment: str) -> Callable[[int], Sequence[str]]:
    settings = [f"{name}={value}" for name, value in environment.items()]
    program = (NODE, "--require", _HERE / "loopback.cjs", NPM / script)
    return _of("/usr/bin/env", *settings, *program, *arguments)


def _supergateway(*options: str) -> Callable[[int], Sequence[str]]:
    usual = (
        "--stdio",
        f"{NODE} {NPM}/{EVERYTHING} stdio",
        "--logLevel",
        "none",
        "--port",
        "{port}",
    )
    return _node("supergateway/dist/index.js", *usual, "--outputTransport", *options)


def _mcp_proxy(*options: str) -> Callable[[int], Sequence[str]]:
    usual = ("--port", "{port}", "--log-level", "ERROR")
    server = (SDK1, "--", "-m", "mcp_server_time")
    return _of(SDK1, "-m", "mcp_proxy", *usual, *options, *server)


def _fastmcp(python: Path, what: Path) -> Callable[[int], Sequence[str]]:
    options = ("--transport", "http", "--host", "127.0.0.1", "--port", "{port}", "--no-banner")
    return _of(python, "-m", "fastmcp.cli", "run", what, *options)


def _go_sdk(*options: str) -> Callable[[int], Sequence[str]]:
    return _of(GO / "go-sdk", "-http", "127.0.0.1:{port}", *options)


def _of(*command: str | Path) -> Callable[[int], Sequence[str]]:
    return lambda port: [str(part).replace("{port}", str(port)) for part in command]


SERVERS = (
    ForeignServer(
        "everything", "typescript-sdk", _node(EVERYTHING, "streamableHttp", PORT="{port}")
    ),
    ForeignServer(
        "everything-sse", "typescript-sdk", _node(EVERYTHING, "sse", PORT="{port}"), "/sse", "sse"
    ),
    # It starts a process for each request, and this one for each session.
    ForeignServer("supergateway", "supergateway", _supergateway("streamableHttp")),
    ForeignServer(
        "supergateway-stateful", "supergateway", _supergateway("streamableHttp", "--stateful")
    ),
    ForeignServer("supergateway-ws", "supergateway", _supergateway("ws"), "/message", "websocket"),
    ForeignServer("supergateway-sse", "supergateway", _supergateway("sse"), "/sse", "sse"),
    ForeignServer("mcp-proxy", "python-sdk-1", _mcp_proxy()),
    ForeignServer("mcp-proxy-stateless", "python-sdk-1", _mcp_proxy("--stateless")),
    ForeignServer("mcp-proxy-sse", "python-sdk-1", _mcp_proxy(), "/sse", "sse"),
    ForeignServer("fastmcp-2", "fastmcp-2", _fastmcp(SDK1, BRIDGE)),
    ForeignServer("fastmcp-4", "fastmcp-4", _fastmcp(FASTMCP4, _HERE / "greeter.py")),
    ForeignServer(
        "mcp-go", "mcp-go", _of("/usr/bin/env", "CONFORMANCE_ADDR=127.0.0.1:{port}", GO / "mcp-go")
    ),
    ForeignServer("go-sdk", "go-sdk", _go_sdk("-stateless=false"), "/"),
    ForeignServer("go-sdk-stateless", "go-sdk", _go_sdk(), "/"),
)


class ForeignProcess:
    """One that runs; ``url`` is that of its MCP endpoint."""

    def __init__(self, server: ForeignServer, port: int, process: LocalProcess) -> None:
        self.server = server
        self.process = process
        scheme = "ws" if server.transport == "websocket" else "http"
        self.url = f"{scheme}://127.0.0.1:{port}{server.path}"


@asynccontextmanager
async def running(server: ForeignServer, folder: Path) -> AsyncIterator[ForeignProcess]:
    """Starts it, waits until it listens, and ends it with all that it started."""
    port = ports.draw()
    program, *arguments = server.command(port.number)
    process = LocalProcess(program, folder / f"{server.name}.log")
    started = ForeignProcess(server, port.number, process)
    await process.start(arguments)
    try:
        # Any answer will do: what it is asked opens no session.
        nothing = f"http://127.0.0.1:{port.number}/nothing-here"
        await until_answering(process, nothing, _START_SECONDS, f"{server.name} listening")
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await process.terminate(3.0)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.close()
        port.release()
