"""A command that speaks stdio, over a WebSocket to its bridge."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
from mcp import Client
from mcp.client.client import ConnectMode
from mcp_types import ElicitResult

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.client.attempt import Exchanges
from mcp_discovery.client.streams import websocket_transport
from mcp_discovery.health import Status
from tests.browser import chromium
from tests.foreign.socket_client import (
    INITIALIZE,
    INITIALIZED,
    ask_in_page,
    by_python,
    by_typescript,
    call,
)
from tests.sidecar.harness import Seen, sidecar
from tests.stores.tls import Tls
from tests.stores.waiting import bounded, until

pytestmark = pytest.mark.slow

#: The tests' server of the gateway, over stdio.
SERVES = "from collections import Counter; from tests.facade.gateway.server import build"
COMMAND = (sys.executable, "-c", f"{SERVES}; build('a', Counter()).run('stdio')")
ASKS = (sys.executable, "-m", "tests.sidecar.bridge.asking_server")
ERAS: tuple[ConnectMode, ...] = ("auto", "legacy")


@asynccontextmanager
async def bridged(
    store: EmbeddedStore, seen: Seen, command: tuple[str, ...] = COMMAND, **more: Any
) -> AsyncIterator[str]:
    """The bridge's address as one of a WebSocket."""
    async with sidecar(store, "", command=command, name="gate", **more):
        found = await seen.until_status(Status.HEALTHY, within=15)
        yield str(found.record.endpoint.url).replace("http", "ws", 1)


def children() -> int:
    """How many processes run below this one."""
    return len(psutil.Process(os.getpid()).children(recursive=True))


async def until_there_are(number: int) -> None:
    async def ended() -> bool:
        return children() == number

    await until(ended, timeout=10, what="the process of the session having ended")


def over_socket(url: str, mode: ConnectMode, **more: Any) -> Client:
    transport = websocket_transport(url, None, Exchanges(), limit=2**26)
    return Client(transport, mode=mode, **more)


@pytest.mark.parametrize("mode", ERAS)
async def test_both_eras(store: EmbeddedStore, seen: Seen, mode: ConnectMode) -> None:
    steps: list[float] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with bridged(store, seen) as url, over_socket(url, mode) as client:
        given = {"count": 3, "pause": 0.01}
        told = await bounded(client.call_tool("steps", given, progress_callback=progress), 10)
        assert told.content[0].text == "a"  # type: ignore[union-attr]
        assert steps == [1, 2, 3]
        text = "ü" * 1_000_000
        told = await bounded(client.call_tool("echo", {"text": text}), 20)
        assert told.content[0].text == text  # type: ignore[union-attr]
        call = asyncio.create_task(client.call_tool("hang", {}))
        await asyncio.sleep(0.1)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        told = await bounded(client.call_tool("whoami", {}), 10)
        assert not told.is_error


async def test_a_session_of_its_own_ends_with_its_socket(store: EmbeddedStore, seen: Seen) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"sure": True})

    async with bridged(store, seen, ASKS, sessions="each") as url:
        before = children()
        async with over_socket(url, "legacy", elicitation_callback=elicited) as client:
            told = await bounded(client.call_tool("confirm", {}), 10)
            assert told.content[0].text == "accept"  # type: ignore[union-attr]
            assert children() > before

        await until_there_are(before)


async def test_the_python_sdks_client_of_1_x(store: EmbeddedStore, seen: Seen) -> None:
    async with bridged(store, seen) as url:
        found = await by_python(url, "steps", count=3, pause=0.01)
        assert (found["server"]["name"], found["steps"]) == ("gate", [1, 2, 3])


async def test_the_typescript_sdks_client(store: EmbeddedStore, seen: Seen) -> None:
    async with bridged(store, seen, ASKS) as url:
        found = await by_typescript(url, "confirm")
        assert found["server"]["name"] == "asking"
        assert found["result"]["content"][0]["text"] == "accept"


async def test_what_is_no_socket_of_mcp(store: EmbeddedStore, seen: Seen) -> None:
    async with bridged(store, seen) as url, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await http.ws_connect(url, protocols=("chat",))
        assert error.value.status == 400
        async with http.ws_connect(url, protocols=("mcp",)) as ws:
            await ws.send_str("no JSON")
            assert orjson.loads((await ws.receive()).data)["error"]["code"] == -32700
            await ws.send_json({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            reply = orjson.loads((await ws.receive()).data)
            assert (reply["id"], reply["error"]["code"]) == (1, -32600)
            assert "send initialize first" in reply["error"]["message"]


async def test_a_browsers_socket(store: EmbeddedStore, seen: Seen) -> None:
    async with bridged(store, seen) as url, chromium() as browser:
        page = await browser.new_page()
        await page.goto(url.replace("ws", "http", 1))  # a page of the bridge's own origin
        echo = call(2, "tools/call", name="echo", arguments={"text": "ü" * 200_000})
        hello = call(1, "initialize", **INITIALIZE)
        told = await ask_in_page(page, url, hello, INITIALIZED, echo)
        assert told["protocol"] == "mcp"
        assert told["found"][1]["result"]["content"][0]["text"] == "ü" * 200_000
        await page.goto("about:blank")  # whose origin is nobody's
        assert (await ask_in_page(page, url, hello))["code"] == 1006


async def status_of(url: str, **more: Any) -> int:
    """The HTTP status with which a handshake is refused."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await http.ws_connect(url, protocols=("mcp",), **more)
        return error.value.status


async def asked(ws: aiohttp.ClientWebSocketResponse, id: int, method: str, **params: Any) -> Any:
    await ws.send_json(call(id, method, **params))
    return orjson.loads((await bounded(ws.receive(), 10)).data)


async def test_who_may_come_in(store: EmbeddedStore, seen: Seen, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first\nsecond\n")
    mine = {"Authorization": "Bearer second"}
    async with (
        bridged(store, seen, ASKS, bridge_token_file=str(tokens)) as url,
        aiohttp.ClientSession(headers=mine) as http,
    ):
        assert await status_of(url) == 401
        assert await status_of(url, headers=mine, origin="https://evil.example.com") == 403
        assert await status_of(url, headers={**mine, "Host": "evil.example.com"}) == 421
        async with http.ws_connect(url, protocols=("mcp",)) as ws:
            assert (await asked(ws, 1, "initialize", **INITIALIZE))["result"]
            tokens.write_text("first\n")

            async def refused() -> bool:
                reply = await asked(ws, 2, "ping")
                return "send Authorization" in str(reply.get("error"))

            await until(refused, timeout=10, what="the token counting no more")


async def test_a_session_ends_for_a_client_with_a_certificate(
    store: EmbeddedStore, seen: Seen, tmp_path: Path
) -> None:
    tls = Tls(tmp_path)
    settings = {
        "bridge_cert": str(tls.server.cert_file),
        "bridge_key": str(tls.server.key_file),
        "bridge_client_ca": str(tls.ca_file),
    }

    async with (
        bridged(store, seen, ASKS, sessions="each", **settings) as url,
        aiohttp.ClientSession() as http,
    ):
        assert url.startswith("wss://")
        before = children()
        assert await status_of(url, ssl=tls.client_context(with_certificate=False)) == 401
        async with http.ws_connect(url, protocols=("mcp",), ssl=tls.client_context()) as ws:
            assert (await asked(ws, 1, "initialize", **INITIALIZE))["result"]
            assert children() > before
            connection = ws._response.connection
            assert connection is not None and connection.transport is not None
            connection.transport.abort()

        await until_there_are(before)
