"""Large bodies: values are counted first, one is parsed at a time, their memory is bounded."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.http import body as bodies
from mcp_discovery.facade.http.body import LARGE_BODIES
from tests.facade.harness import QUICK, Client
from tests.records import document

#: Below the limit of 1 MiB, and 25 MB of lists.
_MANY = b'{"name": "a", "url": "http://127.0.0.1:1/mcp", "x": [' + b"[]," * 340_000 + b"[]]}"
_DIGEST = "0" * 64
_RPC = b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": [' + b"{}," * 99_999


@pytest.fixture
async def facade() -> AsyncIterator[tuple[web.Application, Client]]:
    async with EmbeddedStore() as store:
        app = create_app(store, QUICK)
        async with serving(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
            yield app, Client(url, session)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize(
    ("method", "path", "data"),
    [
        ("POST", "/servers", _MANY),
        ("PUT", "/servers/a", _MANY),
        ("POST", "/connections", _MANY),
        ("POST", "/connections/discover", _MANY),
        ("POST", "/registry/import", b"[" + b"[]," * 1_100_000 + b"[]]"),
        ("PUT", f"/documents/{_DIGEST}", b'{"tools": [' + b"{}," * 300_000 + b"{}]}"),
        ("POST", "/mcp", _RPC + b"{}]}}"),
    ],
)
async def test_many_small_values_are_refused_before_they_are_made(
    facade: tuple[web.Application, Client], method: str, path: str, data: bytes, coding: str
) -> None:
    app, ask = facade
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if coding == "gzip":
        data = gzip.compress(data)
        headers["Content-Encoding"] = "gzip"
    reply = await ask(method, path, data, headers=headers)
    assert reply.status == 413, reply.body
    assert b"JSON values" in reply.body
    assert app[LARGE_BODIES].held == 0


async def test_what_is_in_hand_is_bounded_and_let_go(
    facade: tuple[web.Application, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ask = facade
    large = document("find", filler=2**20)
    path, small = f"/documents/{large.digest}", document("find")
    assert (await ask("PUT", path, large.canonical)).status == 204
    assert app[LARGE_BODIES].held == 0
    monkeypatch.setattr(bodies, "_MOST_HELD", 2**19)
    refused = await ask("PUT", path, large.canonical)
    assert refused.status == 503
    assert refused.json["type"] == "urn:mcp-discovery:problem:too-many-large-bodies"
    assert int(refused.headers["Retry-After"]) >= 1
    assert app[LARGE_BODIES].held == 0
    assert (await ask("PUT", f"/documents/{small.digest}", small.canonical)).status == 204


async def test_one_is_parsed_at_a_time_and_small_ones_pass(
    facade: tuple[web.Application, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, ask = facade
    monkeypatch.setattr(bodies, "_WAIT", 0.05)
    large, small = document("find", filler=2**20), document("find")
    async with app[LARGE_BODIES].turn():
        for data in (large.canonical, gzip.compress(large.canonical)):
            assert (await ask("PUT", f"/documents/{large.digest}", data)).status == 503
        for data in (small.canonical, gzip.compress(small.canonical)):
            assert (await ask("PUT", f"/documents/{small.digest}", data)).status == 204
    assert (await ask("PUT", f"/documents/{large.digest}", large.canonical)).status == 204


async def test_an_answer_of_ten_thousand_servers_can_be_sent_back(ask: Client) -> None:
    """What an export has for each is far below the values that an import may hold."""
    new = {"id": "a", "name": "a", "url": "http://127.0.0.1:1/mcp", "tags": ["x"] * 60}
    data = orjson.dumps({"connections": [new | {"id": f"a-{n}"} for n in range(10_000)]})
    reply = await ask("POST", "/registry/import?dryRun=true", data)
    assert reply.status == 200, reply.body[:300]
