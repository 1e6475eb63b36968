"""An A2A agent that can be made to answer badly, as no real one can be on request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

NOT_FOUND = {"code": -32001, "message": "Task not found"}
SKILL = {
    "id": "book",
    "name": "Book a trip",
    "description": "Books trains, hotels and flights.",
    "tags": ["travel", "Booking & more"],
    "examples": ["Book me a train to Lyon tomorrow"],
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def interface(url: str, binding: str = "JSONRPC") -> dict[str, str]:
    """An interface of a card."""
    return {"url": url, "protocolBinding": binding, "protocolVersion": "1.0"}


class ScriptedAgent:
    """Serves ``card`` and answers for no task; ``rpc``, ``rest`` and ``card_handler`` replace what
    it does. ``seen`` are the requests: method, path and headers."""

    def __init__(self) -> None:
        self.port = 0
        self.card: dict[str, Any] = {}
        self.etag = True
        self.error: dict[str, Any] | None = NOT_FOUND
        self.method = "GetTask"
        self.rpc: Handler | None = None
        self.card_handler: Handler | None = None
        self.card_path = "/.well-known/agent-card.json"
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def counted(self, status: int) -> int:
        """How many requests were answered with that status."""
        return self.statuses.count(status)

    def usual_card(self, **more: Any) -> dict[str, Any]:
        """A card of A2A 1.0 with one interface of JSON-RPC."""
        return {
            "name": "Travel Agent",
            "description": "Plans and books journeys.",
            "version": "1.2.0",
            "supportedInterfaces": [interface(f"{self.url}/rpc")],
            "capabilities": {"streaming": True},
            "defaultInputModes": ["text/plain"],
            "defaultOutputModes": ["text/plain"],
            "skills": [SKILL],
        } | more

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path, dict(request.headers)))
        response = await self._answer(request)
        self.statuses.append(response.status)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == self.card_path:
            return await (self.card_handler or self._card)(request)
        if request.method == "POST" and request.path == "/rpc":
            return await (self.rpc or self._rpc)(request)
        if request.path.startswith("/rest/tasks/"):
            detail = {"reason": "TASK_NOT_FOUND", "domain": "a2a-protocol.org"}
            return web.json_response({"error": {"code": 404, "details": [detail]}}, status=404)
        return web.Response(status=404, text="Not Found")

    async def _card(self, request: web.Request) -> web.StreamResponse:
        body = orjson.dumps(self.card)
        if not self.etag:
            return web.Response(body=body, content_type="application/json")
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=body, content_type="application/json", headers={"ETag": tag})

    async def _rpc(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        known = message["method"] == self.method
        error = self.error if known else {"code": -32601, "message": "Method not found"}
        outcome = {"result": {"id": "t", "status": {}}} if error is None else {"error": error}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"]} | outcome)


def replies(status: int = 200, **response: Any) -> Handler:
    """Answers so."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, **response)

    return handler


async def hangs(_: web.Request) -> web.StreamResponse:
    """Answers after longer than anybody waits."""
    await asyncio.sleep(30.0)
    return web.Response()


@asynccontextmanager
async def scripted_agent(port: int = 0) -> AsyncIterator[ScriptedAgent]:
    """A living agent, on a port of its own."""
    agent = ScriptedAgent()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", agent._handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        agent.port = runner.addresses[0][1]
        agent.card = agent.usual_card()
        yield agent
    finally:
        await runner.cleanup()
