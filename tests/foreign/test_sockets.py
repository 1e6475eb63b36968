"""MCP over WebSocket with clients of others: the TypeScript SDK's, and a browser's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.browser import chromium
from tests.facade.gateway.conftest import replicas
from tests.facade.harness import Client, served
from tests.foreign.socket_client import (
    INITIALIZE,
    INITIALIZED,
    ask_in_page,
    by_python,
    by_typescript,
    call,
)


def socket_url(ask: Client) -> str:
    return f"{ask.url.replace('http', 'ws', 1)}/gateway/gate/mcp"


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
            INITIALIZED,
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
