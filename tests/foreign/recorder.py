"""A reverse proxy that passes MCP on as it comes, and records what was asked of the server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

#: Headers of one connection (RFC 9110, 7.6.1), and those that the proxy's client writes itself.
_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}
)
_SESSION = "Mcp-Session-Id"


@dataclass(slots=True)
class Recorder:
    """What passed. A request is a JSON-RPC request; a stream that is listened on is none."""

    #: When each request came, by ``time.monotonic()``, and its method.
    requests: list[tuple[float, str]] = field(default_factory=list)
    #: HTTP requests that open a stream of notifications.
    streams: int = 0
    opened: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    #: Requests that were not answered yet, and the most at one time.
    under_way: int = 0
    most_under_way: int = 0
    #: Connections of WebSocket and streams of HTTP+SSE: each is a session that is open.
    connected: int = 0

    def methods(self, since: float = 0.0) -> Counter[str]:
        """How often each method was asked since then."""
        return Counter(method for at, method in self.requests if at >= since)

    @property
    def open_sessions(self) -> int:
        """How many sessions nobody has closed."""
        return len(self.opened - self.closed) + self.connected

    def take(self, body: bytes | str) -> int:
        """Records the JSON-RPC requests in ``body``; returns how many they are."""
        try:
            content = orjson.loads(body)
        except ValueError:
            return 0
        messages = content if isinstance(content, list) else [content]
        methods = [each["method"] for each in messages if "method" in each and "id" in each]
        self.requests.extend((time.monotonic(), method) for method in methods)
        return len(methods)


@asynccontextmanager
async def recorded(url: str) -> AsyncIterator[tuple[str, Recorder]]:
    """Yields the URL in whose place that of the server is recorded, and what is recorded."""
    target, recorder = URL(url), Recorder()
    async with aiohttp.ClientSession(
        # No connection is kept: the server may close it at the very moment of its reuse.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    ) as http:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            # The path as it came, so that nothing is spelled anew.
            where = URL(f"{target.scheme}://{target.authority}{request.raw_path}", encoded=True)
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await _websocket(http, where, request, recorder)
            return await _exchange(http, where, request, recorder)

        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield str(target.with_port(runner.addresses[0][1]).with_host("127.0.0.1")), recorder
        finally:
            await runner.cleanup()


async def _exchange(
    http: aiohttp.ClientSession, where: URL, request: web.Request, recorder: Recorder
) -> web.StreamResponse:
    body = await request.read()
    asked = recorder.take(body) if request.method == "POST" else 0
    listens = request.method == "GET"
    recorder.streams += listens
    recorder.under_way += asked
    recorder.most_under_way = max(recorder.most_under_way, recorder.under_way)
    if request.method == "DELETE":
        recorder.closed.add(request.headers.get(_SESSION, ""))
    headers = {k: v for k, v in request.headers.items() if k.lower() not in _OF_THE_CONNECTION}
    connected = 0
    try:
        async with http.request(
            request.method, where, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            if given := answer.headers.get(_SESSION):
                recorder.opened.add(given)
            # The stream of HTTP+SSE is its session.
            connected = listens and answer.status == 200 and _SESSION not in request.headers
            recorder.connected += connected
            passed = {
                k: v for k, v in answer.headers.items() if k.lower() not in _OF_THE_CONNECTION
            }
            response = web.StreamResponse(status=answer.status, headers=passed)
            with suppress(ConnectionResetError):  # the client has left
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
            return response
    finally:
        recorder.under_way -= asked
        recorder.connected -= connected


async def _websocket(
    http: aiohttp.ClientSession, where: URL, request: web.Request, recorder: Recorder
) -> web.StreamResponse:
    protocols = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    protocols = [protocol for protocol in protocols if protocol]
    recorder.connected += 1
    try:
        async with http.ws_connect(where, protocols=protocols) as server:
            client = web.WebSocketResponse(protocols=protocols)
            await client.prepare(request)

            async def there() -> None:
                async for message in client:
                    recorder.take(message.data)
                    await server.send_str(message.data)
                await server.close()

            forward = asyncio.create_task(there())
            try:
                async for message in server:
                    await client.send_str(message.data)
            finally:
                forward.cancel()
                await asyncio.gather(forward, return_exceptions=True)
            await client.close()
            return client
    finally:
        recorder.connected -= 1
