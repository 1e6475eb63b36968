"""A slash too many leads to where it is meant to, and never to another host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from mcp import Client as McpClient
from yarl import URL

from tests.facade.harness import Client, leased, served
from tests.servers.process import odd

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
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
async def ask() -> AsyncIterator[Client]:
    """A client of a facade with a gateway and one server."""
    async with served(gateway=True) as client:
        assert (await client("POST", "/servers", leased("p1"))).status == 201
        yield client


async def target(ask: Client, method: str, raw: str) -> tuple[int, str | None]:
    """Status and Location of a request whose target goes out as it is written."""
    host, port = ask.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {raw} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    lines = (await reader.read()).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    writer.close()
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers.get("location")


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("/servers/", "/servers"),
        ("//servers", "/servers"),
        ("/servers//?limit=1&tags=a%2Cb", "/servers?limit=1&tags=a%2cb"),
        ("/servers/p1/", "/servers/p1"),
        ("/v0.1/servers/", "/v0.1/servers"),
        ("//v0.1//servers", "/v0.1/servers"),
        (
            "/v0.1/servers/local%2Fproducts//versions/",
            "/v0.1/servers/local%2fproducts/versions",
        ),
        ("/api/platform/servers/", "/api/platform/servers"),
        ("/connections/", "/connections"),
        ("/.well-known/ai-catalog.json/", "/.well-known/ai-catalog.json"),
        ("//openapi.json", "/openapi.json"),
        ("/health/", "/health"),
    ],
)
async def test_pages_are_redirected(ask: Client, asked: str, location: str) -> None:
    for method in ("GET", "HEAD"):
        assert await target(ask, method, asked) == (308, location)
    assert (await ask.raw(asked)).status == 200


@pytest.mark.parametrize(
    "asked",
    [
        "//elsewhere.example",
        "//elsewhere.example/",
        "//elsewhere.example/%2e%2e",
        "/\\elsewhere.example/",
        "/%5Celsewhere.example/",
        "///elsewhere.example//servers/",
        "/nothing/",
        "//nothing",
        "/servers/p1/nothing/",
        "/v0.1//nothing",
        "/gateway//mcp/",
    ],
)
async def test_what_is_nowhere_is_nowhere_with_more_slashes(ask: Client, asked: str) -> None:
    for method in ("GET", "POST"):
        assert await target(ask, method, asked) == (404, None)


@pytest.mark.parametrize("asked", ["http://elsewhere.example//servers", "//servers/p1/\\.."])
async def test_a_location_is_a_path_of_this_host(ask: Client, asked: str) -> None:
    status, location = await target(ask, "GET", asked)
    assert status in (308, 404, 421)
    assert location is None or (location[0] == "/" and location[1] not in "/\\")


async def test_an_encoded_slash_is_none(ask: Client) -> None:
    assert (await ask.raw("/servers%2F")).status == 404
    assert (await ask.raw("/servers/p1%2F")).status == 404


async def test_behind_a_proxy_that_takes_a_prefix_away() -> None:
    async with served(public_url="https://example.com/discovery/") as ask:
        assert await target(ask, "GET", "/servers/") == (308, "/discovery/servers")


async def test_a_registry_error_has_its_shape(ask: Client) -> None:
    reply = await ask.raw("//v0.1/servers/nothing")
    assert reply.status == 404
    assert set(reply.json) == {"error"}


async def test_what_changes_something_is_served(ask: Client) -> None:
    assert (await ask("POST", "/servers/", leased("p2"))).status == 201
    assert (await ask("POST", "//servers/p2//heartbeat/", {})).status in (200, 204)
    assert (await ask("DELETE", "/servers/p2/")).status == 204
    assert (await ask("PATCH", "/v0.1/servers/")).status == 405
    options = await ask("OPTIONS", "/servers/")
    assert options.status == 204
    assert "POST" in options.headers["Allow"]


async def test_streams_are_served(ask: Client) -> None:
    async with ask.events("/", Accept="text/event-stream") as events:
        assert (await events.next()).name == "snapshot"
    async with ask.session.ws_connect(f"{ask.url}/registry/stream/") as socket:
        await socket.close()


@pytest.mark.parametrize("path", ["/mcp/", "//mcp", "/gateway/odd/mcp/", "//gateway//odd//mcp"])
async def test_mcp_is_served(ask: Client, path: str) -> None:
    async with odd("--era", "legacy") as server:
        body = leased("odd1", name="odd", url=server.url)
        assert (await ask("POST", "/servers", body)).status == 201
        where = URL(ask.url + path, encoded=True)
        async with ask.session.post(where, json=INITIALIZE, headers=ACCEPT) as response:
            assert response.status == 200, await response.text()
            session = response.headers["Mcp-Session-Id"]
        headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
        listening = {"Accept": "text/event-stream", **headers}
        async with ask.session.get(where, headers=listening, allow_redirects=False) as response:
            assert response.status == 200, await response.text()
        async with ask.session.delete(where, headers=headers) as response:
            assert response.status in (200, 202, 204)


@pytest.mark.parametrize("path", ["/mcp/", "//mcp/"])
async def test_a_client_of_the_sdk(ask: Client, path: str) -> None:
    async with McpClient(ask.url + path) as client:
        assert (await client.list_tools()).tools
