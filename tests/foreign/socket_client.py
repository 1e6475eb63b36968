"""Clients of others over a WebSocket: the TypeScript SDK's, the Python SDK's up to 1.x, a page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
from playwright.async_api import Page

from tests.foreign.programs import NODE, NPM, SDK1

#: What a page does: it opens a socket, asks, and tells what came, or with which code it was closed.
ASK = """async ([url, protocol, ...messages]) => {
  const socket = new WebSocket(url, protocol);
  return await new Promise((resolve) => {
    const found = [];
    socket.onopen = () => messages.forEach((each) => socket.send(JSON.stringify(each)));
    socket.onmessage = ({data}) => {
      const message = JSON.parse(data);
      if ("id" in message) found.push(message);
      if (found.length === messages.filter((each) => "id" in each).length) {
        socket.onclose = null;
        socket.close(1000);
        resolve({protocol: socket.protocol, found});
      }
    };
    socket.onclose = ({code}) => resolve({code, found});
  });
}"""
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "page", "version": "1"},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_PYTHON = """
import asyncio, json, sys
from mcp import ClientSession
from mcp.client.websocket import websocket_client

async def main(url, tool, given):
    async with websocket_client(url) as streams, ClientSession(*streams) as session:
        server = (await session.initialize()).serverInfo
        tools = [each.name for each in (await session.list_tools()).tools]
        steps = []
        async def progress(progress, total, message):
            steps.append(progress)
        result = await session.call_tool(tool, json.loads(given), progress_callback=progress)
        told = {"server": server.model_dump(exclude_none=True), "tools": tools, "steps": steps}
        print(json.dumps({**told, "result": result.model_dump(mode="json", by_alias=True)}))

asyncio.run(main(*sys.argv[1:]))
"""


async def by_typescript(url: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """What the TypeScript SDK's client tells; see ``socket_client.cjs``."""
    script = Path(__file__).parent / "socket_client.cjs"
    return await _told("/usr/bin/env", f"NODE_PATH={NPM}", NODE, script, url, tool, arguments)


async def by_python(url: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """The same of the Python SDK's client, which had WebSocket until 2.0."""
    return await _told(SDK1, "-c", _PYTHON, url, tool, arguments)


async def _told(*command: str | Path | dict[str, Any]) -> dict[str, Any]:
    *program, arguments = command
    client = await asyncio.create_subprocess_exec(
        *map(str, program),
        orjson.dumps(arguments).decode(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await client.communicate()
    assert client.returncode == 0, errors.decode()
    found: dict[str, Any] = orjson.loads(said)
    return found


def call(id: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def ask_in_page(page: Page, url: str, *messages: Any, protocol: str = "mcp") -> Any:
    return await page.evaluate(ASK, [url, protocol, *messages])
