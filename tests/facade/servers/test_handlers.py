"""Reading the list."""

from __future__ import annotations

from typing import Any

import pytest

from tests.facade.harness import Client, leased, served
from tests.records import tool


@pytest.fixture
async def filled(ask: Client) -> Client:
    """A facade with four servers."""
    bodies: list[dict[str, Any]] = [
        leased("a", tags=["products", "stock"], capabilities=["find", "buy"]),
        leased("b", tags=["products"], capabilities={"tools": ["find"], "prompts": ["explain"]}),
        leased("c", tags=["analytics"], name="reports", health={"status": "degraded"}),
        leased("d", tags=["stock"], health={"status": "down", "reason": "refused"}),
    ]
    for body in bodies:
        assert (await ask("POST", "/servers", body)).status == 201
    return ask


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["a", "b"]),
        ("?tags=products,analytics", ["a", "b"]),
        ("?tags=products&tags=analytics&status=all", ["a", "b", "c"]),
        ("?tags=products,stock&match=all", ["a"]),
        ("?tags=Products,STOCK&match=all", ["a"]),
        ("?tags=nothing", []),
        ("?capability=find", ["a", "b"]),
        ("?capability=find&capability=buy", ["a"]),
        ("?capability=explain", ["b"]),
        ("?status=degraded,down", ["d", "c"]),
        ("?status=degraded&status=down", ["d", "c"]),
        ("?status=draining", []),
        ("?status=all", ["a", "b", "d", "c"]),
        ("?status=all&name=reports", ["c"]),
        ("?name=reports", []),
        ("?transport=streamable-http", ["a", "b"]),
        ("?transport=stdio,sse", []),
        ("?status=&tags=&match=", ["a", "b"]),
    ],
)
async def test_filters(filled: Client, query: str, ids: list[str]) -> None:
    reply = await filled("GET", f"/servers{query}")
    assert reply.status == 200
    assert reply.ids == ids


async def test_an_entry_has_the_names_it_was_asked_to_have(ask: Client) -> None:
    posted = {
        "id": "product-catalog",
        "name": "product-catalog",
        "description": "Products – und ihr Bestand 商品",
        "url": "https://products.internal",
        "version": "2.1.0",
        "tags": ["products", "inventory"],
        "auth": {"type": "oauth2", "tokenEndpoint": "https://auth.internal/token"},
        "healthUrl": "https://products.internal/health",
        "title": "Product Catalog",
        "metadata": {"team": "shop"},
        "lease": {"ttl": 30},
    }
    reply = await ask("POST", "/servers", posted)
    assert reply.status == 201
    assert reply.json["id"] == "product-catalog"
    assert reply.headers["Location"] == "/servers/product-catalog"

    (entry,) = (await ask("GET", "/servers?tags=products")).json["servers"]
    said = {key: value for key, value in posted.items() if key not in ("lease", "auth")}
    assert said.items() <= entry.items()
    assert entry["auth"]["tokenEndpoint"] == "https://auth.internal/token"
    assert entry["status"] == "healthy"
    assert entry["lastSeen"].endswith("Z")
    assert entry["registeredAt"].endswith("Z")
    alone = (await ask("GET", "/servers/product-catalog")).json
    assert alone.keys() == entry.keys()
    # What was listed can be sent back as it is.
    assert (await ask("PUT", "/servers/product-catalog", entry)).status == 200


async def test_what_the_server_owns_is_not_the_posters_to_say(ask: Client) -> None:
    body = leased("a", status="down", reason="x", lastSeen="yesterday", since=3, uptime=9)
    assert (await ask("POST", "/servers", body)).status == 201
    entry = (await ask("GET", "/servers/a")).json
    assert entry["status"] == "healthy"
    assert entry["reason"] == "says so itself"


async def test_the_revision_is_told_and_moves(ask: Client) -> None:
    before = (await ask("GET", "/servers")).headers["X-Discovery-Revision"]
    await ask("POST", "/servers", leased("a"))
    after = (await ask("GET", "/servers")).headers["X-Discovery-Revision"]
    assert before.partition(":")[0] == after.partition(":")[0]
    assert int(after.partition(":")[2]) > int(before.partition(":")[2])


async def test_capabilities_are_spelled_as_mcp_spells_them(ask: Client) -> None:
    document = {
        "tools": [tool("find")],
        "resources": [{"uri": "things://all", "name": "things", "mimeType": "text/plain"}],
        "resourceTemplates": [{"uriTemplate": "things://{n}", "name": "thing"}],
        "prompts": [{"name": "explain", "arguments": []}],
        "skills": [{"uri": "skill://refunds/SKILL.md", "frontmatter": {"name": "refunds"}}],
    }
    assert (await ask("POST", "/servers", leased("a", document=document))).status == 201
    told = (await ask("GET", "/servers/a/capabilities")).json
    digest = told.pop("digest")
    assert told == document
    entry = (await ask("GET", "/servers/a")).json
    assert entry["capabilities"] == {
        "tools": ["find"],
        "resources": ["things", "thing"],
        "prompts": ["explain"],
        "skills": ["refunds"],
        "digest": digest,
    }


async def test_head_answers_like_get_without_a_body(ask: Client) -> None:
    await ask("POST", "/servers", leased("a"))
    for path in ("/servers", "/servers/a", "/status", "/health", "/ready", "/events"):
        reply = await ask("HEAD", path)
        assert (reply.status, reply.body) == (200, b""), path


async def test_nothing_is_listed_before_the_first_whole_list() -> None:
    from mcp_discovery.adapters import open_store

    async with open_store("http://127.0.0.1:1") as absent:
        from mcp_discovery.facade import create_app, serving

        async with serving(create_app(absent), "127.0.0.1", 0) as url:
            import aiohttp

            async with aiohttp.ClientSession() as session:
                ask = Client(url, session)
                for path in ("/servers", "/servers/a", "/events", "/ready", "/status"):
                    reply = await ask("GET", path)
                    assert reply.status == 503, path
                    assert int(reply.headers["Retry-After"]) >= 1
                    assert "has not come" in reply.json["detail"]
                assert (await ask("GET", "/health")).status == 200
                reply = await ask("POST", "/servers", leased("a"))
                assert reply.status == 503
                assert reply.json["type"] == "urn:mcp-discovery:problem:store-unavailable"


async def test_a_stale_list_is_served_and_says_so() -> None:
    from mcp_discovery.adapters.embedded import EmbeddedStore
    from tests.stores.waiting import until

    store = EmbeddedStore()
    async with served(store) as ask:
        await ask("POST", "/servers", leased("a"))
        await store.close()

        async def stale() -> bool:
            return "staleSince" in (await ask("GET", "/servers")).json

        await until(stale, timeout=5, what="the list being stale")
        listed = await ask("GET", "/servers")
        assert listed.ids == ["a"]
        assert listed.json["problem"]
        ready = await ask("GET", "/ready")
        assert ready.status == 200
        assert ready.json["staleSince"]
        assert (await ask("GET", "/status")).json["status"] == "degraded"
        refused = await ask("POST", "/servers", leased("b"))
        assert refused.status == 503
        assert refused.headers["Retry-After"]
