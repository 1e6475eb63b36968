"""An MCP server with faults on demand, for what the SDK cannot be made to do.

``python -m tests.servers.odd [--port 0] [--era both] [--tools 3] …`` prints
``listening on 127.0.0.1:PORT``. Every option can be changed while it runs by
``POST /control {"delay": 2, "fail": 503, …}``; ``GET /control`` tells the options and what was
counted. See ``Options`` for what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from aiohttp import WSMsgType, web

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
SKILLS = "io.modelcontextprotocol/skills"


DRIP = 0.2
"""Seconds between two bytes of an answer that drips: with any answer it adds up to a time-out."""
STREAM_POLL = 0.05
"""Seconds between two looks whether a stream was ended by a request to the control endpoint."""


@dataclass(frozen=True)
class Options:
    """What the server does; all of it can be changed while it runs."""

    era: str = "both"  # modern, legacy or both
    stateful: bool = True  # legacy: sessions, and 404 for those it does not know
    body: str = "json"  # legacy answers: json or sse
    tools: int = 3
    resources: int = 1
    prompts: int = 1
    skills: int = -1  # below 0, the extension is not declared
    choosy: bool = False  # it is declared to clients alone that declare it, too
    page: int = 50  # items on a page
    description: str = "counts"  # of every tool and skill; change it to change the schemas
    version: str = "1.0.0"
    instructions: str = "Odd on demand."
    delay: float = 0.0  # seconds before each answer
    delay_method: str = ""  # only this method is delayed, hangs or fails
    fail: int = 0  # HTTP status instead of an answer
    error: int = 0  # JSON-RPC error code instead of a result
    hang: bool = False  # accept requests and never answer
    unknown: str = ""  # what a legacy server does to server/discover: mute, close, 500, html, {}
    garbage: bool = False  # answer HTML
    cursor_loop: bool = False  # tools/list goes round in circles
    endless: bool = False  # tools/list never ends
    churn: bool = False  # tools/list is another one at every call
    huge: int = 0  # bytes of padding in each answer, streamed
    drip: bool = False  # a byte of the answer now and then
    close: bool = False  # close the connection instead of answering
    ping: bool = True  # legacy: knows ping
    omit: str = ""  # comma-separated keys left out of initialize and server/discover
    items: str = ""  # JSON list put in front of the tools, for items that are none
    capabilities: str = "tools,resources,prompts"  # that it declares
    streams: bool = True  # offers notification streams
    token: str = ""  # bearer token that every request must bear
    echo_token: bool = False  # repeats the token it was given in the refusal
    redirect: str = ""  # POST to /mcp is sent on to there
    endpoint: str = "/messages?session_id="  # where SSE clients are to post, without their session
    ids: str = ""  # what becomes of requests' ids: parse (as parseInt), string, null, other, batch
    health: int = 200  # status of /health


class OddServer:
    """The application and its state."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.counts: Counter[str] = Counter()
        self.sessions: set[str] = set()
        self.most_sessions = 0
        self.under_way = self.most_under_way = 0  # requests by POST
        self.streams: dict[web.StreamResponse, bool] = {}  # and whether it is modern
        self.sse: dict[str, web.StreamResponse] = {}
        self.sockets: set[web.WebSocketResponse] = set()

    def app(self) -> web.Application:
        """Return the application with all its routes."""
        app = web.Application(client_max_size=2**24)
        for path in ("/mcp", "/mcp/"):
            app.router.add_post(path, self.post)
            app.router.add_get(path, self.get)
            app.router.add_delete(path, self.delete)
        app.router.add_get("/sse", self.open_sse)
        app.router.add_post("/messages", self.post_sse)
        app.router.add_get("/ws", self.websocket)
        app.router.add_get("/health", self.health)
        app.router.add_get("/control", self.told)
        app.router.add_post("/control", self.control)
        return app

    # --- control -------------------------------------------------------------------------

    async def health(self, _: web.Request) -> web.Response:
        self.counts["health"] += 1
        return web.Response(status=self.options.health, text="ok")

    async def told(self, _: web.Request) -> web.Response:
        told = {
            **asdict(self.options),
            "counts": dict(self.counts),
            "sessions": len(self.sessions),
            "most_sessions": self.most_sessions,
            "most_under_way": self.most_under_way,
            "open_streams": len(self.streams) + len(self.sse) + len(self.sockets),
        }
        return web.json_response(told)

    async def control(self, request: web.Request) -> web.Response:
        """Change options; ``exit``, ``notify``, ``forget`` and ``end_streams`` are done at once."""
        wishes: dict[str, Any] = await request.json()
        code = wishes.pop("exit", None)
        notify = wishes.pop("notify", None)
        if wishes.pop("forget", False):
            self.sessions.clear()
        end_streams = wishes.pop("end_streams", False)
        unknown = wishes.keys() - {field.name for field in fields(Options)}
        if unknown:
            return web.json_response({"error": f"unknown: {sorted(unknown)}"}, status=400)
        self.options = replace(self.options, **wishes)
        if notify:
            await self.notify("tools" if notify is True else str(notify))
        if end_streams:
            for stream in list(self.streams):
                await stream.write_eof()
        if code is not None:
            asyncio.get_running_loop().call_later(0.05, os._exit, int(code))
        return await self.told(request)

    async def notify(self, name: str) -> None:
        message = {"jsonrpc": "2.0", "method": f"notifications/{name}/list_changed"}
        modern = {
            **message,
            "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": "listen"}},
        }
        for stream, is_modern in list(self.streams.items()):
            await stream.write(_event(modern if is_modern else message))
        for stream in list(self.sse.values()):
            await stream.write(_event(message))
        for socket in list(self.sockets):
            await socket.send_json(message)

    # --- MCP: what is answered -----------------------------------------------------------

    def answer(self, message: dict[str, Any], modern: bool) -> Any:
        """Return the result or error of one request; None for a notification."""
        answer = self.plain_answer(message, modern)
        if answer is None or not self.options.ids:
            return answer
        id = message["id"]
        match self.options.ids:
            case "parse":
                answer["id"] = id if isinstance(id, int) else None
            case "string":
                answer["id"] = str(id)
            case "null":
                answer["id"] = None
            case "other":
                answer["id"] = 10**9
            case "batch":
                return [{"jsonrpc": "2.0", "method": "notifications/message"}, answer]
        return answer

    def plain_answer(self, message: dict[str, Any], modern: bool) -> dict[str, Any] | None:
        method = str(message.get("method"))
        self.counts[method] += 1
        if "id" not in message:
            return None
        options = self.options
        if options.error and options.delay_method in ("", method):
            return _error(message, options.error, "odd on demand")
        params = message.get("params") or {}
        cursor = params.get("cursor")
        match method:
            case "server/discover" if modern:
                result = self.described({"supportedVersions": [MODERN]}, params)
                result["_meta"] = {
                    "io.modelcontextprotocol/serverInfo": result.pop("serverInfo", None)
                }
            case "initialize" if not modern:
                result = self.described({"protocolVersion": LEGACY}, params)
            case "ping" if not modern and options.ping:
                result = {}
            case "tools/list":
                result = self.tools(cursor)
            case "resources/list":
                listed = [
                    {"uri": f"odd://thing/{n}", "name": f"thing-{n}"}
                    for n in range(options.resources)
                ]
                result = self.paged("resources", listed, cursor)
            case "resources/templates/list":
                result = {
                    "resourceTemplates": [{"uriTemplate": "odd://thing/{n}", "name": "thing"}]
                }
            case "prompts/list":
                listed = [{"name": f"prompt-{n}"} for n in range(options.prompts)]
                result = self.paged("prompts", listed, cursor)
            case "skills/list" if options.skills >= 0:
                result = self.paged(
                    "skills", [self.skill(n) for n in range(options.skills)], cursor
                )
            case "skills/get" if options.skills >= 0:
                listed = [self.skill(n) for n in range(options.skills)]
                named = [each for each in listed if each["uri"] == params.get("uri")]
                if not named:
                    return _error(message, -32602, f"No skill is served at {params.get('uri')}")
                result = {"skill": named[0]}
            case "resources/read":
                contents = [{"uri": params.get("uri"), "text": self.skill_file(params["uri"])}]
                result = {"contents": contents}
            case "tools/call":
                text = json.dumps(params.get("arguments") or {})
                result = {"content": [{"type": "text", "text": text}], "isError": False}
            case _:
                return _error(message, -32601, f"Method not found: {method}")
        if modern:
            result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **result}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def described(self, versions: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        changed = {"listChanged": self.options.streams}
        result = {
            **versions,
            "capabilities": dict.fromkeys(self.options.capabilities.split(","), changed),
            "serverInfo": {"name": "odd", "version": self.options.version},
            "instructions": self.options.instructions,
        }
        known = (params.get("_meta") or {}).get("io.modelcontextprotocol/clientCapabilities")
        declared = (known or params.get("capabilities") or {}).get("extensions") or {}
        if self.options.skills >= 0 and (SKILLS in declared or not self.options.choosy):
            result["capabilities"]["extensions"] = {SKILLS: {}}
        for key in filter(None, self.options.omit.split(",")):
            result.pop(key, None)
        return result

    def skill(self, number: int) -> dict[str, Any]:
        uri = f"skill://odd/skill-{number}/SKILL.md"
        content = self.skill_file(uri).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        about = f"Skill {number} {self.options.description}"
        return {
            "uri": uri,
            "frontmatter": {"name": f"skill-{number}", "description": about},
            "resources": [{"uri": uri, "digest": digest, "size": len(content)}],
        }

    def skill_file(self, uri: str) -> str:
        return f"---\nname: {uri.split('/')[-2]}\n---\n\nHow to: {self.options.description}.\n"

    def tools(self, cursor: str | None) -> dict[str, Any]:
        options = self.options
        listed: list[Any] = json.loads(options.items) if options.items else []
        listed += [
            {
                "name": f"tool-{n}",
                "description": f"Tool {n} {options.description}",
                "inputSchema": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "title": "N"}},
                    "required": ["n"],
                },
            }
            for n in range(options.tools)
        ]
        if options.churn:
            listed.append({"name": f"tool-of-call-{self.counts['tools/list']}"})
        if options.cursor_loop:
            return {"tools": listed[:1], "nextCursor": "again"}
        if options.endless:
            page = int(cursor or 0)
            return {"tools": [{"name": f"tool-{page}"}], "nextCursor": str(page + 1)}
        return self.paged("tools", listed, cursor)

    def paged(self, key: str, listed: list[Any], cursor: str | None) -> dict[str, Any]:
        start = int(cursor or 0)
        end = start + self.options.page
        result: dict[str, Any] = {key: listed[start:end]}
        if end < len(listed):
            result["nextCursor"] = str(end)
        return result

    async def troubled(self, request: web.Request, method: str) -> web.Response | None:
        """Delay, hang or fail as the options say; None when the request may go on."""
        options = self.options
        bearer = request.headers.get("Authorization", "")
        if options.token and bearer != f"Bearer {options.token}":
            if options.echo_token:
                refusal = _error({"id": None}, -32600, f"no use for {bearer}")
                return web.json_response(refusal, status=400)
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        if options.delay_method not in ("", method):
            return None
        if options.close and request.transport is not None:
            request.transport.close()
        if options.hang:
            await asyncio.Event().wait()
        if options.delay:
            await asyncio.sleep(options.delay)
        if options.fail:
            return web.Response(status=options.fail, text="odd on demand")
        if options.garbage:
            return web.Response(text="<html>hello</html>", content_type="text/html")
        return None

    # --- MCP: Streamable HTTP ------------------------------------------------------------

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.counts["POST"] += 1
        self.counts["requests"] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self.posted(request)
        finally:
            self.under_way -= 1

    async def posted(self, request: web.Request) -> web.StreamResponse:
        options = self.options
        if options.redirect and request.path == "/mcp":
            return web.Response(status=307, headers={"Location": options.redirect})
        message = await request.json()
        method = str(message.get("method"))
        if trouble := await self.troubled(request, method):
            return trouble
        modern = request.headers.get("MCP-Protocol-Version", "") >= MODERN
        if modern and options.era == "legacy":
            if method == "server/discover" and options.unknown:
                return await self.stumble(request, message)
            modern = False
        if not modern and options.era == "modern":
            refusal = _error(message, -32022, "Unsupported protocol version")
            refusal["error"]["data"] = {"supported": [MODERN], "requested": LEGACY}
            return web.json_response(refusal, status=400)
        if modern and request.headers.get("Mcp-Method") != method:
            return web.json_response(_error(message, -32020, "headers differ"), status=400)
        if modern and method == "subscriptions/listen":
            return await self.open_stream(request, modern=True, listen=message)
        headers = {}
        if not modern and options.stateful:
            session = request.headers.get("Mcp-Session-Id")
            if method == "initialize":
                session = uuid.uuid4().hex
                self.sessions.add(session)
                self.most_sessions = max(self.most_sessions, len(self.sessions))
                headers["Mcp-Session-Id"] = session
            elif session is None:
                return web.json_response(_error(message, -32600, "no session"), status=400)
            elif session not in self.sessions:
                return web.json_response(_error(message, -32600, "Session not found"), status=404)
        answer = self.answer(message, modern)
        if answer is None:
            return web.Response(status=202)
        return await self.send(request, answer, headers, modern)

    async def stumble(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        match self.options.unknown:
            case "mute":
                await asyncio.Event().wait()
            case "close" if request.transport is not None:
                request.transport.close()
            case "html":
                return web.Response(text="<html>?</html>", content_type="text/html")
            case "{}":
                return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {}})
        return web.Response(status=500)

    async def send(
        self, request: web.Request, answer: Any, headers: dict[str, str], modern: bool
    ) -> web.StreamResponse:
        options = self.options
        if options.huge or options.drip:
            return await self.send_slowly(request, answer, headers)
        if options.body == "sse" and not modern:
            response = web.StreamResponse(headers=headers)
            response.content_type = "text/event-stream"
            await response.prepare(request)
            await response.write(_event(answer))
            await response.write_eof()
            return response
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        status = 404 if modern and error.get("code") == -32601 else 200
        return web.json_response(answer, headers=headers, status=status)

    async def send_slowly(
        self, request: web.Request, answer: Any, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_type = "application/json"
        await response.prepare(request)
        if self.options.drip:
            for byte in json.dumps(answer).encode():
                await response.write(bytes([byte]))
                await asyncio.sleep(DRIP)
        else:
            await response.write(b" " * 8)
            padding = b" " * 2**20
            for _ in range(0, self.options.huge, len(padding)):
                await response.write(padding)
                self.counts["padding"] += len(padding)
            await response.write(json.dumps(answer).encode())
        await response.write_eof()
        return response

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.counts["requests"] += 1
        if trouble := await self.troubled(request, "GET"):
            return trouble
        if not self.options.streams or self.options.era == "modern":
            return web.Response(status=405)
        return await self.open_stream(request, modern=False)

    async def delete(self, request: web.Request) -> web.Response:
        self.counts["DELETE"] += 1
        self.counts["requests"] += 1
        self.sessions.discard(request.headers.get("Mcp-Session-Id", ""))
        return web.Response(status=200)

    async def open_stream(
        self, request: web.Request, *, modern: bool, listen: dict[str, Any] | None = None
    ) -> web.StreamResponse:
        if not self.options.streams:
            refusal = _error(listen or {}, -32601, "Method not found")
            return web.json_response(refusal, status=404)
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        self.streams[response] = modern
        try:
            if listen is not None:
                acknowledged = {
                    "jsonrpc": "2.0",
                    "method": "notifications/subscriptions/acknowledged",
                    "params": {
                        "_meta": {"io.modelcontextprotocol/subscriptionId": listen["id"]},
                        "notifications": listen["params"].get("notifications", {}),
                    },
                }
                await response.write(_event(acknowledged))
            while not response._eof_sent:
                await asyncio.sleep(STREAM_POLL)
        finally:
            self.streams.pop(response, None)
        return response

    # --- MCP: HTTP+SSE and WebSocket -----------------------------------------------------

    async def open_sse(self, request: web.Request) -> web.StreamResponse:
        self.counts["requests"] += 1
        if trouble := await self.troubled(request, "GET"):
            return trouble
        session = uuid.uuid4().hex
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        self.sse[session] = response
        self.most_sessions = max(self.most_sessions, len(self.sse))
        try:
            endpoint = f"{self.options.endpoint}{session}"
            await response.write(f"event: endpoint\r\ndata: {endpoint}\r\n\r\n".encode())
            await asyncio.Event().wait()
        finally:
            self.sse.pop(session, None)
        return response

    async def post_sse(self, request: web.Request) -> web.Response:
        self.counts["requests"] += 1
        stream = self.sse.get(request.query.get("session_id", ""))
        if stream is None:
            return web.Response(status=404)
        message = await request.json()
        if trouble := await self.troubled(request, str(message.get("method"))):
            return trouble
        if answer := self.answer(message, modern=False):
            await stream.write(_event(answer))
        return web.Response(status=202)

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("mcp",))
        await socket.prepare(request)
        self.sockets.add(socket)
        self.most_sessions = max(self.most_sessions, len(self.sockets))
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    self.counts["requests"] += 1
                    message = json.loads(frame.data)
                    if not await self.troubled(request, str(message.get("method"))) and (
                        answer := self.answer(message, modern=False)
                    ):
                        await socket.send_json(answer)
        finally:
            self.sockets.discard(socket)
        return socket


def _error(message: dict[str, Any], code: int, text: str) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": text}
    return {"jsonrpc": "2.0", "id": message.get("id"), "error": error}


def _event(message: Any) -> bytes:
    return f"event: message\r\ndata: {json.dumps(message)}\r\n\r\n".encode()


def _options() -> tuple[argparse.Namespace, Options]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    for field in fields(Options):
        default = field.default
        if isinstance(default, bool):
            parser.add_argument(
                f"--{field.name}", action=argparse.BooleanOptionalAction, default=default
            )
        else:
            parser.add_argument(f"--{field.name}", type=type(default), default=default)
    given = parser.parse_args()
    return given, Options(**{field.name: getattr(given, field.name) for field in fields(Options)})


async def main() -> None:
    """Serve until terminated."""
    given, options = _options()
    runner = web.AppRunner(OddServer(options).app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, given.host, given.port, shutdown_timeout=0.1)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"listening on {host}:{port}", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
