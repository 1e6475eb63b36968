"""Who may come in to a bridge: by host and page, by token and by certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance
from mcp_discovery.sidecar.run import INVALID_INPUT, PORT_IN_USE
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.sidecar.bridge.test_line import COMMAND
from tests.sidecar.harness import Seen, sidecar
from tests.stores.tls import Tls
from tests.stores.waiting import until

HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@asynccontextmanager
async def bridged(store: EmbeddedStore, seen: Seen, **settings: Any) -> AsyncIterator[Instance]:
    async with sidecar(store, "", command=COMMAND, name="counter", **settings):
        yield await seen.until_status(Status.HEALTHY, within=15)


async def post(
    url: str, headers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            url, json=INITIALIZE, headers=HEADERS | (headers or {}), ssl=tls or True
        ) as response,
    ):
        return response.status, await response.json()


@pytest.mark.slow
async def test_hosts_and_pages(store: EmbeddedStore, seen: Seen) -> None:
    async with bridged(store, seen, allowed_hosts=("memory.example.com",)) as found:
        url = str(found.record.endpoint.url)
        assert (await post(url))[0] == 200
        assert (await post(url, {"Host": "memory.example.com:80"}))[0] == 200
        status, answer = await post(url, {"Host": "evil.example.com"})
        assert status == 421
        assert "start it with --allowed-host" in answer["error"]["message"]
        status, answer = await post(url, {"Origin": "https://evil.example.com"})
        assert status == 403
        assert "may not ask here" in answer["error"]["message"]
        assert (await post(url, {"Sec-Fetch-Site": "cross-site"}))[0] == 403
        assert (await post(url, {"Origin": url.removesuffix("/mcp")}))[0] == 200
        assert found.record.auth.type == "none"


@pytest.mark.slow
async def test_tokens_are_followed_and_the_record_says_that_one_is_wanted(
    store: EmbeddedStore, seen: Seen, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first\nsecond\n")
    async with bridged(store, seen, bridge_token_file=str(tokens)) as found:
        assert found.record.auth.type == "bearer"
        assert found.health.reason == "answers MCP"
        url = str(found.record.endpoint.url)
        for token in "first", "second":
            assert (await post(url, {"Authorization": f"Bearer {token}"}))[0] == 200
        for wrong in ({}, {"Authorization": "Bearer third"}, {"Authorization": "Basic first"}):
            status, answer = await post(url, wrong)
            assert status == 401
            assert "send Authorization: Bearer" in answer["error"]["message"]
        tokens.write_text("third\n")

        async def is_third() -> bool:
            return (await post(url, {"Authorization": "Bearer third"}))[0] == 200

        await until(is_third, timeout=10, what="the new token")
        assert (await post(url, {"Authorization": "Bearer first"}))[0] == 401
        # The sidecar's own way in does not depend on the file.
        assert (await seen.until_status(Status.HEALTHY, within=5)).id == found.id


@pytest.mark.slow
async def test_certificates_of_clients(store: EmbeddedStore, seen: Seen, tmp_path: Path) -> None:
    tls = Tls(tmp_path)
    settings = {
        "bridge_cert": str(tls.server.cert_file),
        "bridge_key": str(tls.server.key_file),
        "bridge_client_ca": str(tls.ca_file),
    }
    async with bridged(store, seen, **settings) as found:
        url = str(found.record.endpoint.url)
        assert url.startswith("https://")
        assert (found.record.auth.type, found.health.reason) == ("mtls", "answers MCP")
        assert (await post(url, tls=tls.client_context(with_certificate=False)))[0] == 401
        assert (await post(url, tls=tls.client_context()))[0] == 200


async def test_a_server_is_not_shown_to_everybody_by_mistake(
    store: EmbeddedStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with sidecar(store, "", command=COMMAND, listen="0.0.0.0:0") as running:
        assert await running.code(within=10) == INVALID_INPUT
    assert "could call the server's tools; give --bridge-token-file" in caplog.text
    assert "started" not in caplog.text  # no process was


async def test_a_port_that_is_taken(store: EmbeddedStore, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with sidecar(store, "", command=COMMAND, listen=f"127.0.0.1:{port}") as running:
            assert await running.code(within=15) == PORT_IN_USE
    assert f"cannot listen on 127.0.0.1:{port} for MCP" in caplog.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"listen": "8000"}, "no HOST:PORT"),
        ({"bridge_cert": "a.pem"}, "give both --bridge-cert and --bridge-key"),
        ({"bridge_client_ca": "a.pem"}, "needs TLS"),
        ({"url": "http://h/mcp", "bridge_open": True}, "--bridge-open is for a command"),
        ({"url": "http://h/mcp", "listen": "127.0.0.1:1"}, "--listen is for a command"),
        ({"transport": "sse"}, "leave out --transport sse, or give its --url"),
        ({"kind": "agent"}, "an A2A agent speaks HTTP: give --url"),
        ({"server_token": "x"}, "leave out --server-token"),
        ({"url": "http://h/mcp", "transport": "stdio"}, "and no --url"),
        ({"sessions": "some"}, "is none of auto, shared, each"),
    ],
)
def test_bad_input_is_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        SidecarSettings(**({"command": COMMAND} | given))


def test_stdio_is_what_a_command_without_a_url_speaks() -> None:
    assert SidecarSettings(command=COMMAND, transport="stdio").bridged


@pytest.mark.parametrize(
    ("content", "says"), [("", "holds no token"), ("ä\n", "token 1"), (None, "cannot read")]
)
async def test_a_file_of_tokens_that_cannot_be_used(
    store: EmbeddedStore,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    content: str | None,
    says: str,
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)
    async with sidecar(store, "", command=COMMAND, bridge_token_file=str(file)) as running:
        assert await running.code(within=10) == INVALID_INPUT
    assert says in caplog.text
