"""An MCP server whose answers are given byte for byte, for what no SDK can be made to send.

It speaks both eras over streamable HTTP (with JSON or with an event stream), HTTP with SSE and
WebSocket. The tool ``say`` answers what :attr:`VerbatimServer.answer` makes of the request's id;
``read`` answers with a text at once, or after :attr:`VerbatimServer.pause`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from mcp_discovery.client.source import Everything, News, Source, Wanted
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DocumentNotFoundError
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder, Instance, Lease
from mcp_discovery.record import Record

#: The forms in which it answers a call.
FORMS = ("json", "events", "sse", "websocket")
#: A part of an answer: one that is sent piece by piece need not be in memory as a whole.
Parts = Iterable[bytes]


class VerbatimServer:
    """One such server; ``form`` is one of :data:`FORMS`."""

    def __init__(self, form: str, *, legacy: bool = True) -> None:
        self.form = form
        self.legacy = legacy
        self.answer: Callable[[Any], bytes | Parts] = lambda id: result(id, "said")
        self.status = 200
        self.pause = 0.0
        self.encoding: str | None = None
        #: The tools that were called, in their order.
        self.calls: list[str] = []
        self.url = ""
        self._streams: dict[str, asyncio.Queue[bytes | Parts]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answers(self, message: dict[str, Any]) -> bytes | Parts | None:
        """The answer to a message; ``None``: to a notification."""
        id, method = message.get("id"), message.get("method")
        if id is None:
            return None
        match method:
            case "initialize":
                return reply(id, {"protocolVersion": "2025-06-18", **_ABOUT})
            case "server/discover" if not self.legacy:
                return reply(id, {"supportedVersions": ["2026-07-28"], **_ABOUT, **_MODERN})
            case "tools/list":
                tools = [_tool("say"), _tool("read", readOnlyHint=True)]
                return reply(id, {"tools": tools, **({} if self.legacy else _MODERN)})
            case "tools/call":
                name = message["params"]["name"]
                self.calls.append(name)
                if name == "say":
                    return self.answer(id)
                await asyncio.sleep(self.pause)
                return result(id, "read")
        return reply(id, {}) if method == "ping" else b""

    async def http(self, request: web.Request) -> web.StreamResponse:
        """Streamable HTTP."""
        if request.method != "POST":
            return web.Response(status=405)
        message = orjson.loads(await request.read())
        answer = await self.answers(message)
        if answer is None:
            return web.Response(status=202)
        said = message["method"] == "tools/call" and message["params"]["name"] == "say"
        events = self.form == "events" and said
        kind = "text/event-stream" if events else "application/json"
        response = web.StreamResponse(
            status=self.status if said else 200, headers={"Content-Type": kind}
        )
        if said and self.encoding is not None:
            response.headers["Content-Encoding"] = self.encoding
        await response.prepare(request)
        for part in _framed(answer) if events else _parts(answer):
            await response.write(part)
        return response

    async def sse(self, request: web.Request) -> web.StreamResponse:
        """The stream of HTTP with SSE."""
        key = f"s{len(self._streams)}"
        waiting = self._streams[key] = asyncio.Queue()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"event: endpoint\ndata: /messages?key={key}\n\n".encode())
        while True:
            for part in _framed(await waiting.get()):
                await response.write(part)

    async def messages(self, request: web.Request) -> web.Response:
        """The messages to that stream."""
        message = orjson.loads(await request.read())
        waiting = self._streams[request.query["key"]]

        async def put() -> None:
            answer = await self.answers(message)
            if answer is not None:
                waiting.put_nowait(answer)

        self._spawn(put())
        return web.Response(status=202, text="Accepted")

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Messages as text frames."""
        socket = web.WebSocketResponse(protocols=["mcp"])
        await socket.prepare(request)

        async def send(message: dict[str, Any]) -> None:
            answer = await self.answers(message)
            if answer is not None and not socket.closed:
                await socket.send_str(b"".join(_parts(answer)).decode())

        async for frame in socket:
            if frame.type is WSMsgType.TEXT:
                self._spawn(send(orjson.loads(frame.data)))
        return socket

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def source(self) -> ListedServer:
        """A list in which it is the only server."""
        transport = self.form if self.form in ("sse", "websocket") else "streamable-http"
        return ListedServer(self.url, transport, legacy=self.legacy)


class ListedServer(Source):
    """A list of one server that answers MCP."""

    name = "a list of one"

    def __init__(self, url: str, transport: str, *, legacy: bool) -> None:
        era = {"era": "legacy"} if legacy else {"era": "modern", "versions": ["2026-07-28"]}
        record = Record.model_validate(
            {
                "name": "verbatim",
                "endpoint": {"transport": transport, "url": url},
                "capabilities": {"tools": ["say", "read"]},
                "protocol": era,
            }
        )
        now = datetime.now(UTC)
        lease = Lease(Holder("nobody", "nowhere", "sidecar"), ttl=10.0, reap_after=60.0)
        self._instance = Instance(record, Health(Status.HEALTHY, "answers", now, now), lease)

    async def servers(self, wanted: Wanted) -> list[Instance]:
        return [self._instance]

    async def watch(self, wanted: Wanted) -> AsyncGenerator[News, None]:
        yield Everything({self._instance.id: self._instance})
        await asyncio.Event().wait()

    async def document(self, digest: str) -> CapabilityDocument:
        raise DocumentNotFoundError(digest)


_ABOUT = {"capabilities": {"tools": {}}, "serverInfo": {"name": "verbatim", "version": "1.0.0"}}
_MODERN = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


def _tool(name: str, **hints: bool) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": hints}


def reply(id: Any, content: Any) -> bytes:
    """The answer with a result."""
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "result": content})


def result(id: Any, text: str) -> bytes:
    """The result of a tool."""
    content = [{"type": "text", "text": text}]
    return reply(id, {"resultType": "complete", "content": content})


def failed(id: Any, error: str) -> bytes:
    """The answer with an error, which is JSON."""
    return b'{"jsonrpc":"2.0","id":%s,"error":%s}' % (orjson.dumps(id), error.encode())


def _parts(answer: bytes | Parts) -> Parts:
    return (answer,) if isinstance(answer, bytes) else answer


def _framed(answer: bytes | Parts) -> Iterable[bytes]:
    yield b"event: message\r\ndata: "
    yield from _parts(answer)
    yield b"\r\n\r\n"


@asynccontextmanager
async def verbatim(form: str, *, legacy: bool = True) -> AsyncIterator[VerbatimServer]:
    """Such a server, on a port of its own."""
    server = VerbatimServer(form, legacy=legacy)
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/mcp", server.http)
    app.router.add_get("/sse", server.sse)
    app.router.add_post("/messages", server.messages)
    app.router.add_get("/ws", server.websocket)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        server.url = {
            "sse": f"http://127.0.0.1:{port}/sse",
            "websocket": f"ws://127.0.0.1:{port}/ws",
        }.get(form, f"http://127.0.0.1:{port}/mcp")
        yield server
    finally:
        await runner.cleanup()
