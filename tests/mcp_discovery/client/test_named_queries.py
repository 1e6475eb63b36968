"""The library asks by the name of a query, of a facade and of a store itself, and follows it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mcp_discovery import Discovery
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade import create_app
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.query.definition import QueryDefinition
from tests.facade.harness import QUICK, served
from tests.records import document, record
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until

DEFINITION: dict[str, Any] = {
    "filters": {"tags": "pay"},
    "zone": "x",
    "fallbacks": [{"filters": {"tags": ["spare"]}}],
}


@pytest.fixture(params=["facade", "consul", "etcd"])
def shared(request: pytest.FixtureRequest) -> ConsulServer | EtcdServer | None:
    """A store that the library reads itself; ``None``: it asks a facade."""
    if request.param == "facade":
        return None
    server: ConsulServer | EtcdServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
async def place(
    shared: ConsulServer | EtcdServer | None, namespace: str
) -> AsyncIterator[tuple[Store, str]]:
    """A store to register in, and the URL that the library is given."""
    if shared is None:
        async with EmbeddedStore() as own, served(own) as ask:
            yield own, ask.url
        return
    url = f"{shared.store_url}/{namespace}"
    async with open_store(url) as store:
        yield store, url


async def _keep(store: Store, definition: dict[str, Any]) -> None:
    await store.put_query("pay", QueryDefinition.model_validate(definition).encode())


async def _registered(store: Store, id: str, tag: str, zone: str) -> Registration:
    one = record(id, name=id, tags=[tag], zone=zone)
    return await store.register(one, document("t"), ttl=60, reap_after=120)


@asynccontextmanager
async def _followed(discovery: Discovery, zone: str | None = None) -> AsyncIterator[Any]:
    """Waits until the servers that are followed are these."""

    async def are(*wanted: str) -> None:
        async def there() -> bool:
            found = [each.id for each in await discovery.connect(query="pay", zone=zone)]
            return found == sorted(wanted)

        await until(there, timeout=15, what=f"following {wanted}")

    yield are


async def test_a_named_query_is_asked_and_followed(place: tuple[Store, str]) -> None:
    store, url = place
    a = await _registered(store, "a", "pay", "x")
    b = await _registered(store, "b", "pay", "y")
    await _registered(store, "c", "spare", "y")
    await _keep(store, DEFINITION)
    async with Discovery(url, hold=0.2) as discovery:

        async def listed() -> bool:
            return len(await discovery.servers()) == 3

        await until(listed, timeout=15, what="all being listed")
        assert [each.id for each in await discovery.servers(query="pay")] == ["a", "b"]
        found = await discovery.servers(query="pay", zone="y")
        assert [each.id for each in found] == ["b", "a"]
        async with _followed(discovery) as are, _followed(discovery, zone="y") as there:
            await are("a")  # of its zone alone, while there is any
            await there("b")
            await a.heartbeat(Health(Status.DOWN, "broken"))
            await are("b")
            await b.deregister()
            await are("c")
            await a.heartbeat(healthy())
            await are("a")
            await _keep(store, {"filters": {"tags": "spare"}})
            await are("c")
            await there("c")


async def test_words_find_the_best_first(place: tuple[Store, str]) -> None:
    store, url = place
    await _registered(store, "ledger", "payments", "x")
    await _registered(store, "payments", "pay", "x")
    await _registered(store, "weather", "sky", "x")
    await _keep(store, {"q": "who takes payments?", "fallbacks": [{}]})
    async with Discovery(url) as discovery:

        async def listed() -> bool:
            return len(await discovery.servers()) == 3

        await until(listed, timeout=15, what="all being listed")
        found = [each.id for each in await discovery.servers(query="pay")]
        assert found == ["payments", "ledger"]
        again = await store.put_query("pay", b'{"q":"sky"}')
        assert again is not None

        async def other() -> bool:
            return [each.id for each in await discovery.servers(query="pay")] == ["weather"]

        await until(other, timeout=15, what="the other question")


async def test_what_a_name_cannot_be_is_said(place: tuple[Store, str]) -> None:
    store, url = place
    await _keep(store, {"strategy": "consistent-hash"})
    async with Discovery(url) as discovery:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"query": "pya"}, "no query 'pya'; did you mean 'pay'?"),
            ({"query": "No name"}, "is no name of a query"),
            ({"query": "pay", "tags": "x"}, "leave out tags"),
            ({"query": "pay"}, "key is missing"),
            ({"query": "pay", "zone": ["x"]}, "no string"),
        ]
        for asked, problem in cases:
            for call in (discovery.servers, discovery.connect):
                with pytest.raises(InvalidInputError) as refused:
                    await call(**asked)
                assert problem in str(refused.value)
        assert await discovery.servers(query="pay", key="me") == []


async def test_a_facade_that_goes_and_comes_is_followed_on() -> None:
    async with EmbeddedStore() as store:
        await _registered(store, "a", "pay", "x")
        await _keep(store, DEFINITION)
        async with served(store) as first:
            port = int(first.url.rpartition(":")[2])
            discovery = Discovery(first.url, hold=0.2)
            await discovery.__aenter__()
            assert [each.id for each in await discovery.connect(query="pay")] == ["a"]
        try:

            async def stale() -> bool:
                return discovery.stale_since is not None

            await until(stale, timeout=30, what="the list being stale")
            assert [each.id for each in await discovery.connect(query="pay")] == ["a"]
            runner = web.AppRunner(create_app(store, QUICK))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
            await _registered(store, "b", "pay", "x")

            async def both() -> bool:
                found = await discovery.connect(query="pay")
                return discovery.stale_since is None and len(found) == 2

            await until(both, timeout=30, what="following on")
            await runner.cleanup()
        finally:
            await discovery.__aexit__()


async def test_facades_that_differ_are_not_asked_without_pause() -> None:
    """Two facades behind one URL that have other lists, as while one of them is cut off."""
    asked = 0
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        urls = []
        for id in ("a", "b"):
            store = await stack.enter_async_context(EmbeddedStore())
            await _keep(store, DEFINITION)
            await _registered(store, id, "pay", "x")
            urls.append((await stack.enter_async_context(served(store))).url)

        async def in_turn(request: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            headers = {n: v for n, v in request.headers.items() if n == "If-None-Match"}
            url = urls[asked % 2] + request.path_qs
            async with http.get(url, headers=headers) as found:
                tag = {"ETag": found.headers["ETag"]} if "ETag" in found.headers else {}
                return web.json_response(body=await found.read(), status=found.status, headers=tag)

        app = web.Application()
        app.router.add_get("/{path:.*}", in_turn)
        balancer = await stack.enter_async_context(TestServer(app))
        async with Discovery(str(balancer.make_url(""))) as discovery:
            changes = await stack.enter_async_context(aclosing(discovery.watch(query="pay")))
            began = time.monotonic()
            seen = [(await anext(changes)).kind for _ in range(9)]
        assert seen.count("added") >= 5  # each takes what the other has as a change
        assert asked <= 2 + (time.monotonic() - began) / 0.2
