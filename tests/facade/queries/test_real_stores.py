"""Named queries of several facades over one real store, which goes away and comes back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import StoreOptions
from tests.contract.served_facade import ServedFacade
from tests.facade.harness import Client, leased, served
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until


@pytest.fixture(params=["consul", "etcd"])
def store_url(request: pytest.FixtureRequest, namespace: str) -> str:
    """The URL of an empty place in a real store."""
    server: ConsulServer | EtcdServer = request.getfixturevalue(f"{request.param}_server")
    return f"{server.store_url}/{namespace}"


async def _until(ask: Client, path: str, wanted: Any, timeout: float = 10) -> float:
    async def there() -> bool:
        return bool((await ask("GET", path)).json == wanted)

    began = time.monotonic()
    await until(there, timeout=timeout, what=f"{path} being {wanted}")
    return time.monotonic() - began


async def test_what_one_facade_keeps_another_answers(store_url: str) -> None:
    async with (
        open_store(store_url) as first,
        open_store(store_url) as second,
        served(first, settle=5.0) as one,
        served(second, settle=5.0) as two,
    ):
        for id in ("one", "two"):
            assert (await one("POST", "/servers", leased(id, tags=[id]))).status == 201
        assert (await two("GET", "/queries")).json == {"queries": []}
        put = await one("PUT", "/queries/pay", {"filters": {"tags": "one"}})
        assert put.status == 201
        took = await _until(two, "/queries/pay/definition", {"filters": {"tags": "one"}})
        assert took < 5
        reply = await two("GET", "/queries/pay")
        assert (reply.ids, reply.json["answeredBy"]) == (["one"], 0)
        # A poll at one is woken by a change at the other.
        headers = {"If-None-Match": reply.headers["ETag"]}
        tag = {"If-Match": put.headers["ETag"]}
        changed = await two("PUT", "/queries/pay", {"filters": {"tags": "two"}}, headers=tag)
        assert changed.status == 200
        late = await one("PUT", "/queries/pay", {}, headers=tag)
        assert late.status == 412
        polled = await one("GET", "/queries/pay?wait=30s", headers=headers)
        assert (polled.status, polled.ids) == (200, ["two"])
        assert (await one("DELETE", "/queries/pay")).status == 204
        await _until(two, "/queries", {"queries": []})


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_while_the_store_is_away_the_last_known_query_answers_and_says_so(
    kind: str, namespace: str
) -> None:
    server: ConsulServer | EtcdServer = ConsulServer() if kind == "consul" else EtcdServer()
    async with server:
        url = f"{server.store_url}/{namespace}"
        async with (
            open_store(url, StoreOptions(timeout=1.0)) as store,
            served(store, settle=5.0) as ask,
        ):
            assert (await ask("POST", "/servers", leased("a", tags=["one"]))).status == 201
            assert (await ask("PUT", "/queries/pay", {"filters": {"tags": "one"}})).status == 201
            before = await ask("GET", "/queries/pay")
            assert "definitionsStaleSince" not in before.json
            await server.stop()

            async def says_so() -> bool:
                return "definitionsStaleSince" in (await ask("GET", "/queries/pay")).json

            await until(says_so, timeout=20, what="an answer that says that it may be old")
            began = time.monotonic()
            reply = await ask("GET", "/queries/pay")
            assert time.monotonic() - began < 5
            assert (reply.status, reply.ids) == (200, ["a"])
            assert reply.json["definitionsProblem"]
            assert "definitionsStaleSince" in (await ask("GET", "/queries")).json
            for method in ("PUT", "DELETE"):
                refused = await ask(method, "/queries/pay", {"limit": 1})
                assert (refused.status, refused.json["type"]) == (
                    503,
                    "urn:mcp-discovery:problem:store-unavailable",
                )
            await server.start()

            async def is_back() -> bool:
                reply = await ask("GET", "/queries/pay")
                return "definitionsStaleSince" not in reply.json

            await until(is_back, timeout=30, what="an answer that is not old")

            async def takes_it() -> bool:
                return (await ask("PUT", "/queries/pay", {"limit": 1})).status == 200

            await until(takes_it, timeout=30, what="the store taking a change")
            assert (await ask("GET", "/queries/pay/definition")).json == {"limit": 1}


async def test_a_facade_over_a_facade_answers_and_keeps_its_queries() -> None:
    async with ServedFacade() as lower, open_store(lower.url) as store, served(store) as upper:
        assert (await upper("POST", "/servers", leased("a", tags=["one"]))).status == 201
        put = await upper("PUT", "/queries/pay", {"filters": {"tags": "one"}})
        assert put.status == 201
        assert set(await lower.store.queries()) == {"pay"}
        assert (await upper("GET", "/queries/pay")).ids == ["a"]
        tag = {"If-Match": put.headers["ETag"]}
        assert (await upper("PUT", "/queries/pay", {"limit": 2}, headers=tag)).status == 200
        assert (await upper("DELETE", "/queries/pay", headers=tag)).status == 412
        assert (await upper("DELETE", "/queries/pay")).status == 204
        assert await lower.store.queries() == {}
