"""Server cards and the AI catalog."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from mcp_discovery.facade.registry.cards import catalog as catalog_of
from mcp_discovery.facade.registry.identifiers import identifier, registry_name
from mcp_discovery.facade.registry.server_json import Addresses
from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, leased, served
from tests.facade.registry.fleet import SERVER_CARD, Fleet, instance
from tests.facade.registry.test_api import fill, posted

CARD = "application/mcp-server-card+json"


async def catalog(ask: Client) -> list[dict[str, Any]]:
    reply = await ask("GET", "/.well-known/ai-catalog.json")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/ai-catalog+json"
    assert reply.json["specVersion"] == "1.0"
    entries: list[dict[str, Any]] = reply.json["entries"]
    assert len({each["identifier"] for each in entries}) == len(entries)
    return entries


async def test_each_entry_of_the_catalog_leads_to_a_card(ask: Client) -> None:
    await fill(
        ask,
        posted("weather", "1.0.0", tags=["eu"], protocol={"versions": ["2025-11-25"]}),
        posted("weather", "1.1.0", auth={"type": "bearer"}, icons=[{"src": "https://e.x/i.png"}]),
        posted("files", url=None, command="npx"),
        leased("c1", name="clash", registryName="com.a/clash"),
        leased("c2", name="clash", registryName="com.b/clash"),
        leased("c3", name="weather", registryName="a.local/x", url=None, command="npx"),
    )
    entries = await catalog(ask)
    assert [each["identifier"] for each in entries] == [
        "urn:air:mcp-discovery.github.io:mcp:facade",
        "urn:air:a.com:mcp:clash",
        "urn:air:b.com:mcp:clash",
        "urn:air:example.com:mcp:weather",
    ]
    names = []
    for each in entries:
        assert each["type"] == CARD
        assert each["url"].startswith(ask.url)
        reply = await ask.raw(each["url"].removeprefix(ask.url))
        assert reply.status == 200, each["url"]
        assert reply.headers["Content-Type"] == CARD
        SERVER_CARD.validate(reply.json)
        names.append(reply.json["name"])
        assert urlsplit(reply.json["remotes"][0]["url"]).scheme == "http"
    own, *others = names
    assert own == "io.github.mcp-discovery/facade"
    assert others == ["com.a/clash", "com.b/clash", "com.example/weather"]


async def test_a_card_says_who_and_where_and_nothing_of_tools(ask: Client) -> None:
    await fill(
        ask,
        posted("weather", "1.0.0", protocol={"versions": ["2025-11-25", "2026-07-28"]}),
        posted("weather", "1.1.0", capabilities=["forecast"], title="Weather"),
        posted("files", url=None, command="npx"),
    )
    latest = (await ask("GET", "/servers/weather/server-card")).json
    assert latest == {
        "$schema": "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json",
        "name": "com.example/weather",
        "description": "Weather",
        "version": "1.1.0",
        "title": "Weather",
        "remotes": [{"type": "streamable-http", "url": "http://127.0.0.1:9/weather-1-1-0"}],
    }
    assert (await ask.raw("/servers/com.example%2Fweather/server-card")).json == latest
    old = (await ask("GET", "/servers/weather-1-0-0/server-card?v=1")).json
    assert old["version"] == "1.0.0"
    assert old["remotes"][0]["supportedProtocolVersions"] == ["2025-11-25", "2026-07-28"]
    local = (await ask("GET", "/servers/files/server-card")).json
    SERVER_CARD.validate(local)
    assert "remotes" not in local
    absent = await ask("GET", "/servers/absent/server-card")
    assert absent.status == 404
    assert absent.headers["Content-Type"] == "application/problem+json"


async def test_the_catalog_follows_the_list(ask: Client) -> None:
    assert len(await catalog(ask)) == 1
    await fill(ask, posted("weather"))
    assert len(await catalog(ask)) == 2
    await ask("DELETE", "/servers/weather-1-0-0")
    assert len(await catalog(ask)) == 1


async def test_urls_are_those_of_the_request_unless_there_is_a_public_one() -> None:
    async with served(allowed_hosts=("mcp.example",)) as ask:
        for host, status in (
            *(("mcp.example:81", 200), ("[::1]:80", 200)),
            *(("a b", 421), ("a/b", 421)),
        ):
            reply = await ask("GET", "/.well-known/ai-catalog.json", headers={"Host": host})
            assert reply.status == status, host
            if status == 200:
                assert reply.json["entries"][0]["url"] == f"http://{host}/mcp/server-card"
    async with served(public_url="https://mcp.example.com/up/") as other:
        reply = await other("GET", "/.well-known/ai-catalog.json", headers={"Host": "[::1]:1"})
        (own,) = reply.json["entries"]
        assert own["url"] == "https://mcp.example.com/up/mcp/server-card"
        card = (await other("GET", "/mcp/server-card")).json
        SERVER_CARD.validate(card)
        assert card["remotes"][0]["url"] == "https://mcp.example.com/up/mcp"
        assert "2026-07-28" in card["remotes"][0]["supportedProtocolVersions"]


async def test_the_catalog_says_who_runs_it_and_repeats_no_card() -> None:
    async with served(public_url="https://mcp.example.com/up") as ask:
        await fill(ask, posted("weather", title="Weather"), leased("a", name="files"))
        whole = (await ask("GET", "/.well-known/ai-catalog.json")).json
        assert whole["host"] == {
            "displayName": "mcp.example.com",
            "identifier": "mcp.example.com",
            "documentationUrl": "https://mcp.example.com/up/docs",
        }
        assert [each["identifier"] for each in whole["entries"]] == [
            "urn:air:mcp.example.com:facade:mcp",
            "urn:air:example.com:mcp:weather",
            "urn:air:mcp.example.com:local:files",
        ]
        for each in whole["entries"]:
            assert not each.keys() & {"displayName", "description", "version"}
        assert (
            await ask.raw("/servers/urn:air:example.com:agent:weather/server-card")
        ).status == 404
        for urn in ("urn:air:mcp.example.com:local:files", "URN:AI:mcp.example.com:local:files"):
            assert (await ask.raw(f"/servers/{urn}/server-card")).json["name"] == "local/files"


async def test_agents_are_in_the_catalog() -> None:
    async with served(public_url="https://mcp.example.com") as ask:
        url = "https://agents.example.org/travel/"
        agent = {
            "kind": "agent",
            "name": "travel",
            "url": url,
            "registryName": "org.example/travel",
        }
        await fill(ask, leased("a", **agent), leased("b", name="travel"))
        before = await catalog(ask)
        assert [(each["identifier"], each["type"], each["url"]) for each in before[1:]] == [
            (
                "urn:air:mcp.example.com:local:travel",
                CARD,
                "https://mcp.example.com/servers/travel/server-card",
            ),
            (
                "urn:air:example.org:agent:travel",
                "application/a2a-agent-card+json",
                "https://mcp.example.com/servers/org.example%2Ftravel/agent-card",
            ),
        ]
        await ask("DELETE", "/servers/a")
        assert len(await catalog(ask)) == 2


async def test_who_has_a_card_or_the_catalog_asks_whether_it_is_the_same(ask: Client) -> None:
    await fill(ask, posted("weather"), leased("a", name="files"))
    for path, fresh in (
        ("/.well-known/ai-catalog.json", 60),
        ("/servers/weather/server-card", 60),
        ("/servers/urn:ai:example.com:mcp:weather/server-card", 60),
        ("/mcp/server-card", 3600),
    ):
        first = await ask.raw(path)
        caching = {"Cache-Control": f"public, max-age={fresh}", "ETag": first.headers["ETag"]}
        again = await ask("GET", path, headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status, again.status, again.body) == (200, 304, b"")
        for reply in (first, again):
            assert {name: reply.headers[name] for name in caching} == caching
            assert "Authorization" in reply.headers["Vary"]
    before = (await ask.raw("/.well-known/ai-catalog.json")).headers["ETag"]
    await ask("DELETE", "/servers/weather-1-0-0")
    after = await ask("GET", "/.well-known/ai-catalog.json", headers={"If-None-Match": before})
    assert after.status == 200


async def test_what_one_caller_sees_is_kept_by_no_cache_that_many_share(tmp_path: Path) -> None:
    async with guarded(tmp_path, {"anonymous": "reader"}) as ask:
        for headers, shared in (({}, "public"), (bearer("reader"), "private")):
            reply = await ask("GET", "/.well-known/ai-catalog.json", headers=headers)
            assert reply.headers["Cache-Control"] == f"{shared}, max-age=60"


async def test_a_catalog_of_thousands_leaves_the_event_loop_to_others() -> None:
    fleet = Fleet(*(instance(f"i{n}", name=f"s{n}", registryName=f"a.b/s{n}") for n in range(3000)))
    listed = fleet.index.latest()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    body = await catalog_of(listed, "http://x", "")
    task.cancel()
    assert len(orjson.loads(body)["entries"]) == 3001
    assert turns > 1


@pytest.mark.parametrize(
    ("name", "urn"),
    [
        ("com.example/weather", "urn:air:example.com:mcp:weather"),
        ("io.github.user/a.b_c-d", "urn:air:user.github.io:mcp:a.b_c-d"),
        ("local/x", "urn:air:local:mcp:x"),
    ],
)
def test_identifiers(name: str, urn: str) -> None:
    assert identifier(name) == urn
    assert registry_name(urn) == name
    assert registry_name(urn.replace("urn:air:", "urn:ai:")) == name


@pytest.mark.parametrize("other", ["", "weather", "com.example/weather", "urn:air:a", "urn:x:a:b"])
def test_what_is_no_identifier(other: str) -> None:
    assert registry_name(other) is None


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://mcp.example.com/up", "mcp.example.com"),
        ("https://MCP.example.com:8443", "mcp.example.com"),
        ("http://127.0.0.1:4000", ""),
        ("http://[::1]:4000", ""),
        ("http://facade:4000", ""),
        (None, ""),
    ],
)
def test_the_domain_of_a_facade(url: str | None, domain: str) -> None:
    assert Addresses.parse("instance", url).domain == domain
