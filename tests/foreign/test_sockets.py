"""MCP over WebSocket with clients of others: the TypeScript SDK's, and a browser's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page

from tests.browser import chromium
from tests.facade.gateway.conftest import replicas
from tests.facade.harness import Client, served
from tests.foreign.socket_client import by_python, by_typescript

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


def socket_url(ask: Client) -> str:
    return f"{ask.url.replace('http', 'ws', 1)}/gateway/gate/mcp"


def call(id: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def ask_in_page(page: Page, url: str, *messages: Any, protocol: str = "mcp") -> Any:
    return await page.evaluate(ASK, [url, protocol, *messages])


@pytest.mark.parametrize("client", [by_typescript, by_python])
async def test_the_sdks_own_clients(client: Callable[..., Awaitable[dict[str, Any]]]) -> None:
    async with served(gateway=True) as ask, replicas(ask, "a"):
        found = await client(socket_url(ask), "steps", count=3, pause=0.01)
        assert found["server"] == {"name": "gate", "version": "1.2.3"}
        assert "whoami" in found["tools"]
        assert found["result"]["content"][0]["text"] == "a"
        assert found["steps"] == [1, 2, 3]


async def test_a_question_to_the_typescript_sdks_client() -> None:
    async with served(gateway=True) as ask, replicas(ask, "a"):
        found = await by_typescript(socket_url(ask), "confirm")
        assert found["result"]["content"][0]["text"] == "accept"


@pytest.mark.slow
async def test_a_browsers_socket() -> None:
    async def page_of(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>page</title>", content_type="text/html")

    async with served(gateway=True) as ask, replicas(ask, "a"), chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"{ask.url}/docs")
        url = socket_url(ask)
        told = await ask_in_page(
            *(page, url, call(1, "initialize", **INITIALIZE)),
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            call(2, "tools/call", name="echo", arguments={"text": "ü" * 200_000}),
        )
        assert told["protocol"] == "mcp"
        assert told["found"][0]["result"]["serverInfo"]["name"] == "gate"
        assert told["found"][1]["result"]["content"][0]["text"] == "ü" * 200_000
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        told = await ask_in_page(page, url, call(1, "tools/call", name="whoami", _meta=meta))
        assert told["found"][0]["result"]["content"][0]["text"] == "a"
        assert (await ask_in_page(page, url, protocol="chat"))["code"] == 1006
        # A page of another origin is not let in.
        app = web.Application()
        app.router.add_get("/", page_of)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            assert (await ask_in_page(page, url, call(1, "ping")))["code"] == 1006
        finally:
            await runner.cleanup()
