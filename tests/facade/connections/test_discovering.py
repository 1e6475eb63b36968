"""Discovery: filters, and each strategy of load balancing over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.facade.connections.bodies import discovered, files, loaded, register
from tests.facade.harness import Client, leased


async def test_what_is_offered_and_what_is_not(ask: Client) -> None:
    slow = {"status": "degraded", "reason": "slow"}
    await ask("POST", "/servers", leased("well"))
    await ask("POST", "/servers", leased("slow", health=slow))
    await ask("POST", "/servers", leased("down", health={"status": "down", "reason": "refused"}))
    await register(ask, files(id="stdio"))
    await register(ask, files(id="idle", status="idle"))
    assert await discovered(ask, {}) == ["stdio", "well"]
    # Asked for all that are active, a degraded one is the last resort, whatever its name.
    active = {"filters": {"status": "active"}}
    assert await discovered(ask, active) == ["stdio", "well", "slow"]
    for strategy in ("random", "weighted", "round-robin", "power-of-two", "least-loaded"):
        order = await discovered(ask, active | {"loadBalancing": {"strategy": strategy}})
        assert order[-1] == "slow", strategy
    assert await discovered(ask, {"filters": {"status": ["idle", "error"]}}) == ["idle", "down"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"owner": "me"}, ["one"]),
        ({"owner": ["me", "you"]}, ["one", "two"]),
        ({"zone": "eu-1"}, ["one"]),
        ({"name": "git-mcp"}, ["two"]),
        ({"tags": "fast"}, ["one", "two"]),
        ({"tags": ["fast", "near"], "match": "all"}, ["one"]),
        ({"version": "^1.2"}, ["one"]),
        ({"version": ">=1.2 <3"}, ["one", "two"]),
        ({"protocol": "http"}, []),
        ({"protocol": ["http", "stdio"]}, ["one", "two"]),
        ({"minUptime": 3600}, []),
        ({"minUptime": 0}, ["one", "two"]),
    ],
)
async def test_filters(ask: Client, filters: dict[str, Any], expected: list[str]) -> None:
    here = {"owner": "me", "zone": "eu-1", "tags": ["fast", "near"], "version": "1.2.3"}
    await register(ask, files(id="one", **here))
    there = {"owner": "you", "zone": "us-1", "tags": ["fast"], "version": "2.0.0"}
    await register(ask, files(id="two", name="git-mcp", **there))
    assert await discovered(ask, {"filters": filters}) == expected


async def test_all_capabilities_are_needed(ask: Client) -> None:
    await register(ask, files(id="both"))
    await register(ask, files(id="one", capabilities=["read_file"]))
    assert await discovered(ask, {"capabilities": ["read_file"]}) == ["both", "one"]
    assert await discovered(ask, {"capabilities": ["read_file", "write_file"]}) == ["both"]
    reply = await ask("POST", "/connections/discover", {"capabilities": ["fly"]})
    assert reply.json == {"connections": [], "totalMatching": 0, "loadBalanced": False}


async def test_no_body_asks_for_all(ask: Client) -> None:
    id = await register(ask, files())
    assert (await ask("POST", "/connections/discover")).json["connections"][0]["id"] == id


async def test_loads_order_and_the_most_is_kept_to(ask: Client) -> None:
    for id, active in (("a", 18), ("b", 2), ("c", 10)):
        await loaded(ask, id, active)
    await ask("POST", "/servers", leased("unknown"))
    wish: dict[str, Any] = {"loadBalancing": {"strategy": "least-loaded"}}
    assert await discovered(ask, wish) == ["b", "c", "unknown", "a"]
    wish["loadBalancing"]["maxConnections"] = 2
    reply = (await ask("POST", "/connections/discover", wish)).json
    assert [each["id"] for each in reply["connections"]] == ["b", "c"]
    assert reply["totalMatching"] == 4
    assert (await ask("POST", "/connections/discover", {"loadBalancing": {}})).json[
        "strategy"
    ] == "least-loaded"
    everything = (await ask("POST", "/connections/discover", {})).json["connections"]
    assert [each.get("load") for each in everything] == [0.9, 0.1, 0.5, None]


async def test_round_robin_for_each_query(ask: Client) -> None:
    for id in ("a", "b", "c"):
        await register(ask, files(id=id))
    wish = {"loadBalancing": {"strategy": "round-robin", "maxConnections": 1}}
    turns = [await discovered(ask, wish) for _ in range(4)]
    assert turns == [["a"], ["b"], ["c"], ["a"]]
    other = wish | {"capabilities": ["read_file"]}
    assert await discovered(ask, other) == ["a"]
    assert await discovered(ask, wish) == ["b"]


async def test_a_key_finds_the_same_one(ask: Client) -> None:
    for number in range(5):
        await register(ask, files(id=f"c{number}"))

    async def first(key: str) -> str:
        wish = {"strategy": "consistent-hash", "key": key, "maxConnections": 1}
        (id,) = await discovered(ask, {"loadBalancing": wish})
        return id

    keys = [f"user-{number}" for number in range(20)]
    before = {key: await first(key) for key in keys}
    assert len(set(before.values())) > 1
    gone = before[keys[0]]
    await ask("DELETE", f"/connections/{gone}")
    for key in keys:
        found = await first(key)
        assert found == before[key] if before[key] != gone else found != gone
