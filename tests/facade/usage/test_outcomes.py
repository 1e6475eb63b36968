"""``POST /connections/{id}/outcome``: what clients report of their calls."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.state import FACADE
from tests.facade.harness import QUICK, Client, leased


@pytest.mark.parametrize("path", ["/connections/a/outcome", "/servers/a/outcome"])
async def test_an_outcome_is_counted(path: str) -> None:
    async with EmbeddedStore() as store:
        app = create_app(store, QUICK)
        async with serving(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
            await app[FACADE].catalog.ready()
            ask = Client(url, session)
            body = leased("a", capabilities=["find", "sell"])
            assert (await ask("POST", "/servers", body)).status == 201
            reply = await ask("POST", path, {"latency": 120, "success": True, "capability": "find"})
            assert (reply.status, reply.body) == (204, b"")
            assert (await ask("POST", path, {"success": False, "error": "timed out"})).status == 204
            usage = app[FACADE].usage
            figures = usage.instance("a", None)
            assert figures.requests == 2
            assert figures.latency == pytest.approx(0.12)  # milliseconds come in
            assert figures.p95 == pytest.approx(0.12, rel=0.05)
            assert figures.error_rate == 0.5
            assert figures.rate == 2.0
            assert usage.capability("find").requests == 1
            assert usage.capability("sell").requests == 0
            assert usage.whole().requests == 2


async def test_an_unknown_server_is_not_found(ask: Client) -> None:
    for path in ("/connections/nobody/outcome", "/servers/nobody/outcome"):
        reply = await ask("POST", path, {"latency": 1, "success": True})
        assert reply.status == 404
        assert reply.json["type"].endswith(":unknown-server")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "success"),
        ({"latency": 5}, "success"),
        ({"success": "yes"}, "success"),
        ({"success": 1}, "success"),
        ({"success": True, "latency": -1}, "latency"),
        ({"success": True, "latency": 3_600_001}, "latency"),
        ({"success": True, "latency": "5"}, "latency"),
        ({"success": True, "latency": True}, "latency"),
        (b'{"success": true, "latency": 1e308}', "latency"),
        ({"success": True, "capability": ""}, "capability"),
        ({"success": True, "capability": "x" * 257}, "capability"),
        ({"success": True, "capability": 5}, "capability"),
        ({"success": False, "error": "x" * 501}, "error"),
        ({"success": True, "latencyMs": 5}, "latencyMs"),
    ],
)
async def test_what_cannot_be_true_is_refused(ask: Client, body: Any, field: str) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["find"]))
    reply = await ask("POST", "/connections/a/outcome", body)
    assert reply.status == 422
    assert reply.json["field"] == field
    assert reply.json["type"].endswith(":invalid-outcome")
    assert "milliseconds" in reply.json["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nonsense", b'{"success": NaN}', b'{"a": "\\ud800"}']
)
async def test_what_is_no_json_object_is_refused(ask: Client, body: bytes) -> None:
    await ask("POST", "/servers", leased("a"))
    assert (await ask("POST", "/connections/a/outcome", body)).status == 400


async def test_a_capability_that_is_not_offered_is_refused(ask: Client) -> None:
    await ask("POST", "/servers", leased("a", capabilities=["find_product"]))
    told = {"success": True, "capability": "find_products"}
    reply = await ask("POST", "/connections/a/outcome", told)
    assert reply.status == 422
    assert "did you mean 'find_product'?" in reply.json["detail"]


async def test_of_one_that_lists_nothing_any_name_is_taken(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    told = {"success": True, "capability": "find"}
    assert (await ask("POST", "/connections/a/outcome", told)).status == 204
    told["capability"] = "fi\x00nd"
    assert (await ask("POST", "/connections/a/outcome", told)).status == 422


async def test_a_parameter_is_refused(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    assert (await ask("POST", "/connections/a/outcome?latency=5", {"success": True})).status == 400
