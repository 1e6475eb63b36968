"""A list of which the store's credentials hide a part is marked wherever it is served.

What a real Consul hides and how that is noticed is tested with its adapter; here the catalog is
told so, at moments that a test can choose.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import aiohttp

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Snapshot
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.state import FACADE
from tests.facade.harness import Client, leased
from tests.programs import command

WHY = "the token may not read some nodes: grant that"


def tell(catalog: Catalog, why: str | None) -> None:
    """The list as it is, and that this is only a part of it."""
    instances = {entry.id: entry.instance for entry in catalog.view}
    catalog.apply(Snapshot(instances, why))


@asynccontextmanager
async def facade() -> AsyncIterator[tuple[Client, Catalog]]:
    async with EmbeddedStore() as store:
        app = create_app(store)
        async with serving(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
            catalog = app[FACADE].catalog
            await catalog.ready()
            yield Client(url, session), catalog


async def test_each_answer_says_so() -> None:
    async with facade() as (ask, catalog):
        await ask("POST", "/servers", leased("a"))
        tell(catalog, WHY)
        for path in ("/servers", "/ready", "/status", "/tools", "/capabilities"):
            assert (await ask("GET", path)).json["partial"] == WHY, path
        assert (await ask("GET", "/status")).json["status"] == "degraded"
        listed = await ask("GET", "/v0.1/servers")
        assert listed.json["metadata"]["partial"] == WHY
        assert "mcp_discovery_partial 1.0" in (await ask("GET", "/metrics")).body.decode()
        report = await command("doctor", "--facade", ask.url)
        assert report.code == 1
        assert WHY in report.out
        assert WHY in (await command("servers", "--facade", ask.url)).err
        tell(catalog, None)
        assert "partial" not in (await ask("GET", "/servers")).json
        assert "mcp_discovery_partial 0.0" in (await ask("GET", "/metrics")).body.decode()


async def test_readers_are_told_when_it_changes() -> None:
    async with facade() as (ask, catalog), ask.events() as events:
        first = await events.next()
        assert "partial" not in first.data
        tell(catalog, WHY)
        again = await events.next()
        assert (again.name, again.data["partial"]) == ("snapshot", WHY)
        assert again.data["startedOver"] == WHY
        async with open_store(ask.url) as remote, aclosing(remote.watch()) as news:
            listed = await anext(news)
            assert isinstance(listed, Snapshot)
            assert listed.partial == WHY
            tell(catalog, None)
            listed = await anext(news)
            assert isinstance(listed, Snapshot)
            assert listed.partial is None
