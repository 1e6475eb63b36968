"""The manifest, and the ways in which a consumer of ARD finds it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.facade.ard.entries import representative_queries
from mcp_discovery.health import Status
from tests.facade.ard.form import MANIFEST
from tests.facade.harness import Client, leased, served
from tests.facade.registry.test_api import fill
from tests.records import record

CARD = "application/mcp-server-card+json"
REGISTRY = "application/ai-registry+json"


async def manifest(ask: Client) -> dict[str, dict[str, Any]]:
    """The entries by their identifier."""
    reply = await ask("GET", "/.well-known/ard.json")
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    MANIFEST.validate(reply.json)
    entries = {each["identifier"]: each for each in reply.json["entries"]}
    assert len(entries) == len(reply.json["entries"])
    return entries


async def test_each_healthy_server_and_the_registry_are_published(ask: Client) -> None:
    queries = ["will it rain tomorrow", "how warm is it in Berlin"]
    await fill(
        ask,
        leased(
            "w-1",
            name="weather",
            registryName="com.example/weather",
            title="Weather",
            description="Forecasts for cities.",
            version="1.2.0",
            tags=["eu"],
            capabilities=["get_forecast"],
            exampleQueries=queries,
            metadata={"team": "sky"},
        ),
        leased("d-1", name="dead", health={"status": "down", "reason": "refused"}),
        leased("c-1", name="command", url=None, command="npx"),
    )
    entries = await manifest(ask)
    assert {urn: each["type"] for urn, each in entries.items()} == {
        "urn:air:mcp-discovery.github.io:registry:facade": REGISTRY,
        "urn:air:mcp-discovery.github.io:mcp:facade": CARD,
        "urn:air:example.com:mcp:weather": CARD,
    }
    weather = entries["urn:air:example.com:mcp:weather"]
    assert weather.pop("updatedAt") <= weather.pop("healthSince")
    context = weather.pop("@context")
    assert context[0] == "https://agenticresourcediscovery.org/context/v1"
    assert {*context[1]} == {"health", "healthReason", "healthSince"}
    assert weather == {
        "identifier": "urn:air:example.com:mcp:weather",
        "displayName": "Weather",
        "type": CARD,
        "description": "Forecasts for cities.",
        "capabilities": ["get_forecast"],
        "representativeQueries": queries,
        "tags": ["eu"],
        "version": "1.2.0",
        "metadata": {"team": "sky"},
        "health": "healthy",
        "healthReason": "says so itself",
        "url": f"{ask.url}/servers/com.example%2Fweather/server-card",
    }
    for each in entries.values():
        if each["type"] == CARD:
            card = await ask.raw(each["url"].removeprefix(ask.url))
            assert (card.status, card.headers["Content-Type"]) == (200, CARD)


async def test_an_agent_is_published_with_its_own_card(ask: Client) -> None:
    await fill(ask, leased("a-1", name="helper", kind="agent", url="http://127.0.0.1:9/helper/"))
    await fill(ask, leased("a-2", name="helper"))
    entries = await manifest(ask)
    assert entries["urn:air:local:agent:helper"]["type"] == "application/a2a-agent-card+json"
    card = entries["urn:air:local:agent:helper"]["url"].removeprefix(ask.url)
    assert card == "/servers/local%2Fhelper/agent-card"
    # It was not read here: it is where the agent has it.
    found = await ask("GET", "/servers/helper/agent-card", allow_redirects=False)
    own = "http://127.0.0.1:9/helper/.well-known/agent-card.json"
    assert (found.status, found.headers["Location"]) == (302, own)
    assert entries["urn:air:local:mcp:helper"]["type"] == CARD
    for urn in ("urn:air:local:agent:helper", "urn:air:local:mcp:helper"):
        assert (await ask("GET", f"/api/ard/agents/{urn}")).json["identifier"] == urn


async def test_the_manifest_follows_health_and_is_revalidated(ask: Client) -> None:
    await fill(ask, leased("w-1", name="weather"))
    first = await ask("GET", "/.well-known/ard.json")
    known = {"If-None-Match": first.headers["ETag"]}
    assert (await ask("GET", "/.well-known/ard.json", headers=known)).status == 304
    ill = {"status": "down", "reason": "refused"}
    assert (await ask("POST", "/servers/w-1/heartbeat", ill)).status < 300
    await ask.until_status("w-1", Status.DOWN)
    assert "urn:air:local:mcp:weather" not in await manifest(ask)
    assert (await ask("GET", "/.well-known/ard.json", headers=known)).status == 200


async def test_the_three_ways_to_the_manifest(ask: Client) -> None:
    there = f"{ask.url}/.well-known/ard.json"
    robots = await ask("GET", "/robots.txt")
    assert robots.headers["Content-Type"] == "text/plain; charset=utf-8"
    lines = robots.body.decode().splitlines()
    assert f"Agentmap: {there}" in lines
    assert "Disallow:" in lines, "everything may be read"
    for path, link in (("/", "./.well-known/ard.json"), ("/docs", ".well-known/ard.json")):
        page = await ask("GET", path)
        assert page.status == 200
        assert f'<link rel="ard" href="{link}">'.encode() in page.body
    assert (await ask("GET", "/")).headers["Link"] == f'<{there}>; rel="ard"'


async def test_below_a_public_url_and_under_its_domain() -> None:
    async with served(public_url="https://mcp.example.com/up/") as ask:
        await fill(ask, leased("w-1", name="weather"))
        entries = await manifest(ask)
        assert entries["urn:air:mcp.example.com:facade:registry"]["url"] == (
            "https://mcp.example.com/up/api/ard/"
        )
        assert "urn:air:mcp.example.com:local:weather" in entries
        robots = await ask("GET", "/robots.txt")
        assert b"Agentmap: https://mcp.example.com/up/.well-known/ard.json" in robots.body


@pytest.mark.parametrize(
    ("fields", "queries"),
    [
        ({"exampleQueries": ["is it there", "how many"]}, ["is it there", "how many"]),
        ({"exampleQueries": [f"ask {n}" for n in range(7)]}, [f"ask {n}" for n in range(5)]),
        (
            {
                "description": "Searches products. It is fast.",
                "capabilities": {"tools": ["searchProducts", "check-stock"]},
            },
            ["Searches products.", "search products", "check stock"],
        ),
        ({"exampleQueries": ["is it there"], "title": "Shop"}, ["is it there", "Shop"]),
        ({}, ["catalog", "what catalog offers"]),
        ({"description": "a" * 4096}, ["a" * 199 + "…", "catalog"]),
        ({"capabilities": {"tools": [f"tool_{n}" for n in range(9)]}}, ["tool 0", "tool 1"]),
    ],
)
def test_two_to_five_questions_whatever_a_server_says(
    fields: dict[str, Any], queries: list[str]
) -> None:
    found = representative_queries(record("a", **({"name": "catalog", "description": ""} | fields)))
    assert found[: len(queries)] == queries
    assert 2 <= len(found) <= 5
