"""Plain requests to ``/mcp``, byte for byte as a client of either era sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.facade.harness import Client, Reply

JSON = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
MODERN = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
ENVELOPE = {
    f"{PREFIX}protocolVersion": MODERN,
    f"{PREFIX}clientInfo": {"name": "a test", "version": "1"},
    f"{PREFIX}clientCapabilities": {},
}


def message(method: str, params: Any = None, id: Any = 1) -> dict[str, Any]:
    """A request; a notification where ``id`` is ``None``."""
    told: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        told["id"] = id
    return told if params is None else told | {"params": params}


def enveloped(
    method: str, params: Mapping[str, Any] | None = None, id: Any = 1, **meta: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """A modern request and its headers."""
    given = dict(params or {})
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    if (name := given.get("name", given.get("uri"))) is not None:
        headers["Mcp-Name"] = name
    return message(method, given | {"_meta": ENVELOPE | meta}, id), JSON | headers


async def modern(
    ask: Client, method: str, params: Mapping[str, Any] | None = None, **headers: str
) -> Reply:
    """The answer to a modern request."""
    body, sent = enveloped(method, params)
    return await ask("POST", "/mcp", body, headers=sent | headers)


class Legacy:
    """A legacy client with its session."""

    def __init__(self, ask: Client, id: str, version: str) -> None:
        self.ask = ask
        self.headers = JSON | {"Mcp-Session-Id": id, "MCP-Protocol-Version": version}

    @classmethod
    async def begun(cls, ask: Client, version: str = "2025-11-25", name: str = "a test") -> Legacy:
        """One that has shaken hands."""
        reply = await ask("POST", "/mcp", hello(version, name), headers=JSON)
        assert reply.status == 200, reply.body
        client = cls(ask, reply.headers["Mcp-Session-Id"], version)
        reply = await client.send(message("notifications/initialized", id=None))
        assert (reply.status, reply.body) == (202, b"")
        return client

    async def send(self, body: Any) -> Reply:
        """One POST."""
        return await self.ask("POST", "/mcp", body, headers=self.headers)

    async def result(self, method: str, params: Any = None) -> dict[str, Any]:
        """The result of a request that must go well."""
        reply = await self.send(message(method, params))
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json["result"]
        return found

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Told]:
        """Its stream, until the block ends."""
        async with told(self.ask, "GET", None, self.headers) as stream:
            yield stream


def hello(version: str = "2025-11-25", name: str = "a test") -> dict[str, Any]:
    """An ``initialize``."""
    params = {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": {"name": name, "version": "1"},
    }
    return message("initialize", params)


class Told:
    """The messages of one event stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._buffer = b""
        self.comments = 0

    async def next(self, timeout: float = 30.0) -> dict[str, Any]:
        """The next message; raises EOFError at the end."""
        async with asyncio.timeout(timeout):
            while True:
                while b"\n\n" not in self._buffer:
                    chunk = await self._response.content.readany()
                    if not chunk:
                        raise EOFError
                    self._buffer += chunk
                block, _, self._buffer = self._buffer.partition(b"\n\n")
                if block.startswith(b":"):
                    self.comments += 1
                    continue
                name, _, data = block.partition(b"\ndata: ")
                assert name == b"event: message"
                found: dict[str, Any] = orjson.loads(data)
                return found


@asynccontextmanager
async def told(
    ask: Client, method: str, body: Any, headers: Mapping[str, str]
) -> AsyncIterator[Told]:
    """An answer as a stream, until the block ends."""
    async with ask.session.request(
        method, ask.url + "/mcp", json=body, headers=headers, timeout=aiohttp.ClientTimeout()
    ) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Told(response)
