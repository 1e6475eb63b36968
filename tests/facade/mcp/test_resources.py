"""Servers and documents as resources: pages, contents, and what is told of their changes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import orjson
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.mcp.resources import PAGE
from tests.facade.harness import QUICK, Client, leased, served
from tests.facade.mcp.wire import PREFIX, Legacy, enveloped, message, modern, told
from tests.stores.waiting import until

SERVERS = "mcp-discovery://servers"
LIST_CHANGED = "notifications/resources/list_changed"
UPDATED = "notifications/resources/updated"
TOOL = {"name": "buy", "inputSchema": {"type": "object"}}


async def post(ask: Client, id: str, **more: Any) -> None:
    reply = await ask("POST", "/servers", leased(id, **more))
    assert reply.status in (200, 201), reply.body


async def listed(ask: Client) -> list[list[dict[str, Any]]]:
    """The resources, page for page."""
    pages: list[list[dict[str, Any]]] = []
    params: dict[str, Any] = {}
    while True:
        result = (await modern(ask, "resources/list", params)).json["result"]
        pages.append(result["resources"])
        if "nextCursor" not in result:
            return pages
        params = {"cursor": result["nextCursor"]}


async def text(ask: Client, uri: str) -> bytes:
    """What a resource holds."""
    result = (await modern(ask, "resources/read", {"uri": uri})).json["result"]
    (content,) = result["contents"]
    assert (content["uri"], content["mimeType"]) == (uri, "application/json")
    found: str = content["text"]
    return found.encode()


# -- listing and reading ----------------------------------------------------------------------


async def test_servers_and_documents_are_listed_and_read(ask: Client) -> None:
    await post(ask, "b", title="Products", description="A shop's.", document={"tools": [TOOL]})
    await post(ask, "a", health={"status": "down", "reason": "it fell"})
    ((first, a, b, *documents),) = await listed(ask)
    assert (first["uri"], a["uri"], b["uri"]) == (SERVERS, f"{SERVERS}/a", f"{SERVERS}/b")
    assert (b["name"], b["title"], b["description"]) == ("b", "Products", "A shop's.")
    digest = (await ask("GET", "/servers/b")).json["capabilities"]["digest"]
    uri = f"mcp-discovery://documents/{digest}"
    assert uri in [each["uri"] for each in documents]
    assert all(each["mimeType"] == "application/json" for each in (first, a, b, *documents))
    for resource, path in (
        (SERVERS, "/servers?status=all"),
        (f"{SERVERS}/a", "/servers/a"),
        (uri, f"/documents/{digest}"),
    ):
        found, same = orjson.loads(await text(ask, resource)), (await ask("GET", path)).json
        for each in (*found.get("servers", [found]), *same.get("servers", [same])):
            each.pop("lastSeen", None)
        assert found == same
    reply = await modern(ask, "resources/read", {"uri": f"mcp-discovery://documents/{digest}"})
    assert reply.json["result"]["ttlMs"] > 3_600_000


async def test_templates_say_how_resources_are_named(ask: Client) -> None:
    await post(ask, "a", document={"tools": [TOOL]})
    told = (await modern(ask, "resources/templates/list")).json["result"]["resourceTemplates"]
    uris = [each["uriTemplate"] for each in told]
    assert uris == [f"{SERVERS}/{{id}}", "mcp-discovery://documents/{digest}"]
    assert orjson.loads(await text(ask, uris[0].format(id="a")))["id"] == "a"


async def test_pages_stay_right_while_the_list_changes() -> None:
    async with EmbeddedStore() as store, served(store) as ask:
        ids = [f"s{number:03}" for number in range(2 * PAGE + 5)]
        for id in ids:
            await post(ask, id, document={"tools": [TOOL | {"title": id}]} if id < "s300" else None)
        pages = await listed(ask)
        assert [len(page) for page in pages[:-1]] == [PAGE] * (len(pages) - 1)
        uris = [each["uri"] for page in pages for each in page]
        assert len(set(uris)) == len(uris)
        assert uris[: len(ids) + 1] == [SERVERS, *(f"{SERVERS}/{id}" for id in ids)]
        assert len(uris) - len(ids) - 1 >= 300
        first = (await modern(ask, "resources/list")).json["result"]
        for id in (ids[0], ids[PAGE - 2]):  # both were on the first page, the latter as its last
            await ask("DELETE", f"/servers/{id}")
        params = {"cursor": first["nextCursor"]}
        second = (await modern(ask, "resources/list", params)).json["result"]["resources"]
        assert second[0]["uri"] == f"{SERVERS}/{ids[PAGE - 1]}"


@pytest.mark.parametrize("count", [PAGE - 2, PAGE - 1, PAGE, PAGE + 1])
async def test_a_page_that_servers_fill_just_so(ask: Client, count: int) -> None:
    for number in range(count):
        await post(ask, f"s{number:03}", document={"tools": [TOOL]})
    uris = [each["uri"] for page in await listed(ask) for each in page]
    assert len(uris) == len(set(uris)) == 1 + count + 1


# -- changes ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_modern_client_hears_of_what_it_asked_for(ask: Client) -> None:
    await post(ask, "a")
    wanted = {
        "toolsListChanged": True,
        "resourcesListChanged": True,
        "resourceSubscriptions": [f"{SERVERS}/a", f"{SERVERS}/later"],
    }
    meta = {f"{PREFIX}subscriptionId": "sub"}
    body, headers = enveloped("subscriptions/listen", {"notifications": wanted}, id="sub")
    async with told(ask, "POST", body, headers) as stream:
        acknowledged = await stream.next()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        del wanted["toolsListChanged"]  # they never change
        assert acknowledged["params"] == {"notifications": wanted, "_meta": meta}
        await ask("POST", "/servers/a/drain")
        assert await stream.next() == {
            "jsonrpc": "2.0",
            "method": UPDATED,
            "params": {"uri": f"{SERVERS}/a", "_meta": meta},
        }
        await post(ask, "later")
        heard = [await stream.next(), await stream.next()]
        assert {each["method"] for each in heard} == {LIST_CHANGED, UPDATED}
        assert all(each["params"]["_meta"] == meta for each in heard)
        await post(ask, "other", health={"status": "degraded", "reason": "x"})
        assert (await stream.next())["method"] == LIST_CHANGED


@pytest.mark.slow
async def test_a_stream_on_which_nothing_happens_is_kept_open() -> None:
    async with served(ping=0.2) as ask:
        client = await Legacy.begun(ask)
        body, headers = enveloped("subscriptions/listen", {"notifications": {}})
        async with client.stream() as legacy, told(ask, "POST", body, headers) as stream:
            await stream.next()
            for each in (legacy, stream):
                with pytest.raises(TimeoutError):
                    await each.next(1.0)
                assert each.comments > 0


async def test_only_what_was_asked_for_is_told(ask: Client) -> None:
    body, headers = enveloped(
        "subscriptions/listen", {"notifications": {"resourceSubscriptions": [SERVERS]}}
    )
    async with told(ask, "POST", body, headers) as stream:
        await stream.next()
        await post(ask, "a")
        assert (await stream.next())["params"]["uri"] == SERVERS
        with pytest.raises(TimeoutError):
            await stream.next(1.2)


@pytest.mark.slow
async def test_many_changes_are_told_once_a_second(ask: Client) -> None:
    body, headers = enveloped(
        "subscriptions/listen", {"notifications": {"resourcesListChanged": True}}
    )
    async with told(ask, "POST", body, headers) as stream:
        await stream.next()
        began = time.monotonic()
        posted = 0

        async def churn() -> None:
            nonlocal posted
            while True:
                posted += 1
                await post(ask, f"s{posted}")

        churning = asyncio.create_task(churn())
        for _ in range(4):
            assert (await stream.next())["method"] == LIST_CHANGED
        assert time.monotonic() - began > 2.99  # three pauses of a second
        churning.cancel()
        await asyncio.gather(churning, return_exceptions=True)
        assert posted > 20


@pytest.mark.slow
async def test_a_legacy_client_subscribes_and_unsubscribes(ask: Client) -> None:
    client = await Legacy.begun(ask)
    for id in ("a", "b"):
        await client.result("resources/subscribe", {"uri": f"{SERVERS}/{id}"})
    await client.result("resources/unsubscribe", {"uri": f"{SERVERS}/b"})
    await post(ask, "a")  # no stream is open yet: it is kept
    await post(ask, "b")
    async with client.stream() as stream:
        heard = []
        with pytest.raises(TimeoutError):
            while True:
                heard.append(await stream.next(1.5))
        assert {"jsonrpc": "2.0", "method": LIST_CHANGED} in heard
        updated = [each["params"] for each in heard if each["method"] == UPDATED]
        assert updated == [{"uri": f"{SERVERS}/a"}]


async def test_a_session_has_one_stream_and_another_once_that_is_gone(ask: Client) -> None:
    client = await Legacy.begun(ask)
    async with client.stream():
        reply = await ask("GET", "/mcp", headers=client.headers)
        assert (reply.status, reply.json["error"]["code"]) == (409, -32600)

    async def again() -> bool:
        async with ask.session.get(f"{ask.url}/mcp", headers=client.headers) as response:
            return response.status == 200

    await until(again, timeout=30, what="a second stream")


async def test_a_client_that_left_is_forgotten(ask: Client) -> None:
    body, headers = enveloped(
        "subscriptions/listen", {"notifications": {"resourcesListChanged": True}}
    )

    async def streams(count: int) -> bool:
        figures = (await ask("GET", "/metrics")).body.decode()
        return f"mcp_discovery_mcp_streams {count}.0" in figures

    async with told(ask, "POST", body, headers) as stream:
        await stream.next()
        assert await streams(1)
    await until(lambda: streams(0), timeout=30, what="no streams")


async def test_too_many_subscriptions(ask: Client) -> None:
    uris = [f"{SERVERS}/s{number}" for number in range(1001)]
    params = {"notifications": {"resourceSubscriptions": uris}}
    assert (await modern(ask, "subscriptions/listen", params)).status == 400
    client = await Legacy.begun(ask)
    for uri in uris[:-1]:
        await client.result("resources/subscribe", {"uri": uri})
    reply = await client.send(message("resources/subscribe", {"uri": uris[-1]}))
    assert reply.json["error"]["code"] == -32602
    await client.result("resources/subscribe", {"uri": uris[0]})  # which it has


async def test_streams_end_with_the_facade_and_modern_ones_are_told() -> None:
    async with EmbeddedStore() as store, aiohttp.ClientSession() as session:
        app = create_app(store, QUICK)
        async with serving(app, "127.0.0.1", 0) as url:
            ask = Client(url, session)
            client = await Legacy.begun(ask)
            legacy = client.stream()
            body, headers = enveloped(
                "subscriptions/listen", {"notifications": {"resourcesListChanged": True}}, id=5
            )
            modern = told(ask, "POST", body, headers)
            first, second = await legacy.__aenter__(), await modern.__aenter__()
            await second.next()
            began = time.monotonic()
        assert time.monotonic() - began < QUICK.shutdown_timeout
        with pytest.raises(EOFError):
            await first.next()
        answer = await second.next()
        assert answer["id"] == 5
        assert answer["result"]["_meta"][f"{PREFIX}subscriptionId"] == 5
        assert answer["result"]["resultType"] == "complete"
        with pytest.raises(EOFError):
            await second.next()
        await legacy.__aexit__(None, None, None)
        await modern.__aexit__(None, None, None)
