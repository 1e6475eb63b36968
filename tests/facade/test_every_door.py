"""One search behind every door: whoever asks, however, gets the same in the same order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from mcp_discovery import Discovery
from mcp_discovery.adapters.embedded import EmbeddedStore
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern
from tests.programs import command
from tests.stores.waiting import until

SERVERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "sky": (
        "Weather for every place on earth.",
        {
            "get_forecast": "Tells the weather of the coming days in a city.",
            "get_alerts": "Weather warnings that are in force in a region.",
        },
    ),
    "shop": (
        "Products of a shop, their prices and what is in stock.",
        {
            "search_products": "Finds products by words.",
            "check_stock": "Says how many of a product are in stock.",
        },
    ),
    "travel": (
        "Plans trips.",
        {
            "book_hotel": "Books a hotel room in a city.",
            "find_flights": "Finds flights; delays for bad weather are told.",
        },
    ),
    "issues": (
        "Issues of a software project on GitHub.",
        {
            "create_issue": "Opens a new issue in a repository.",
            "search_issues": "Finds issues by words.",
        },
    ),
}
QUESTIONS = (
    "What is the weather tomorrow in Oslo?",
    "is there a kettle in stock, and what does it cost",
    "open an issue on github",
    "find words",
    "forcast",
    "book me a hotel and flights",
    "city",
)


@pytest.fixture(scope="module", params=["none", "wordllama"])
async def doors(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """A facade with some servers, one of them not well, by words alone and with a model."""
    async with EmbeddedStore() as store, served(store, semantic=request.param) as ask:
        for name, (description, tools) in SERVERS.items():
            document = {"tools": [{"name": t, "description": d} for t, d in tools.items()]}
            more: dict[str, Any] = {"description": description, "document": document}
            more |= {"health": {"status": "degraded"}} if name == "travel" else {}
            reply = await ask("POST", "/servers", leased(name, name=name, **more))
            assert reply.status == 201, reply.body

        async def loaded() -> bool:
            semantic = (await ask("GET", "/status")).json.get("semantic", {"state": "ready"})
            return bool(semantic["state"] == "ready")

        await until(loaded, timeout=60, what="the model being loaded")
        yield ask


async def called(ask: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    reply = await modern(ask, "tools/call", {"name": tool, "arguments": arguments})
    told: dict[str, Any] = reply.json["result"]["structuredContent"]
    return told


async def lines(ask: Client, *arguments: str) -> list[Any]:
    ended = await command(*arguments, "--facade", ask.url, "--json", timeout=30)
    assert ended.code == 0, ended
    return [json.loads(line) for line in ended.out.splitlines()]


def whys(found: list[Any]) -> list[tuple[str, str]]:
    return [(each["name"], each["why"]) for each in found]


@pytest.mark.parametrize("match", ["any", "all"])
@pytest.mark.parametrize("text", QUESTIONS)
async def test_servers(doors: Client, text: str, match: str) -> None:
    asked = {"q": text, "match": match, "status": "healthy,degraded"}
    listed = (await doors("GET", f"/servers?{urlencode(asked)}")).json["servers"]
    names = [each["name"] for each in listed]
    assert match == "all" or names
    assert names == sorted(names, key=lambda name: name == "travel")  # it is not well
    told = await called(doors, "find_servers", q=text, match=match, status=["healthy", "degraded"])
    assert whys(told["servers"]) == whys(listed)
    definition = {"q": text, "match": match, "filters": {"status": ["healthy", "degraded"]}}
    assert (await doors("PUT", "/queries/same", definition)).status < 300
    named = (await doors("GET", "/queries/same")).json["servers"]
    assert [each["name"] for each in named] == names
    if match == "any":
        wanted = {"text": text, "filter": {"health": ["healthy", "degraded"]}}
        found = (await doors("POST", "/api/ard/search", {"query": wanted})).json["results"]
        assert [each["identifier"].rpartition(":")[2] for each in found] == names
        query = urlencode({"search": text, "version": "latest"})
        registry = (await doors("GET", f"/v0.1/servers?{query}")).json["servers"]
        assert [each["server"]["name"].partition("/")[2] for each in registry] == names


@pytest.mark.parametrize("match", ["any", "all"])
@pytest.mark.parametrize("text", QUESTIONS)
async def test_tools(doors: Client, text: str, match: str) -> None:
    asked = {"q": text, "match": match, "status": "healthy,degraded"}
    listed = (await doors("GET", f"/tools?{urlencode(asked)}")).json["tools"]
    assert match == "all" or listed
    told = await called(doors, "find_tools", q=text, match=match, status=["healthy", "degraded"])
    assert whys(told["tools"]) == whys(listed)
    async with Discovery(doors.url) as d:
        found = await d.find(text, match=match)  # type: ignore[arg-type]
        assert [(each.own_name, each.why) for each in found] == whys(listed)
        assert [each.server for each in found] == [each["server"] for each in listed]


@pytest.mark.slow
@pytest.mark.parametrize("text", QUESTIONS[:2])
async def test_the_shell(doors: Client, text: str) -> None:
    asked = urlencode({"q": text, "status": "healthy"})
    listed = (await doors("GET", f"/servers?{asked}")).json["servers"]
    assert whys(await lines(doors, "servers", "-q", text)) == whys(listed)
    tools = (await doors("GET", f"/tools?{asked}")).json["tools"]
    assert whys(await lines(doors, "tools", *text.split())) == whys(tools)
