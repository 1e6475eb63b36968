"""A filter that is added to the table works everywhere, with no other change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mcp_discovery import Discovery
from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.cli.main import command_line
from mcp_discovery.client.source import CatalogSource
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.app import OPERATIONS
from mcp_discovery.facade.http.openapi import document
from mcp_discovery.query.filters import FILTERS, Filter
from mcp_discovery.query.query import Query
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern

REGION = Filter(
    "region",
    "In one of these regions.",
    lambda instance: (instance.record.metadata.get("region"),),
)


@pytest.fixture
async def store() -> AsyncIterator[EmbeddedStore]:
    async with EmbeddedStore() as found:
        yield found


@pytest.fixture
async def ask(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A facade whose table has the filter ``region``: a server in ``eu``, one in ``us``, and one
    that does not say."""
    monkeypatch.setitem(FILTERS, REGION.name, REGION)
    async with served(store) as client:
        for id, metadata in (("a", {"region": "eu"}), ("b", {"region": "us"}), ("c", {})):
            more = {"metadata": metadata, "capabilities": {"tools": [f"tool-{id}"]}}
            assert (await client("POST", "/servers", leased(id, **more))).status == 201
            await client.until_status(id, "healthy")
        yield client


async def test_the_list_is_filtered_and_values_share_no_response(ask: Client) -> None:
    for _ in range(2):
        for region, ids in (("eu", ["a"]), ("us", ["b"]), ("eu,us", ["a", "b"]), ("asia", [])):
            assert (await ask("GET", f"/servers?region={region}")).ids == ids
    assert (await ask("GET", "/servers")).ids == ["a", "b", "c"]
    pages = [(await ask("GET", f"/servers?limit=1&region={each}")) for each in ("eu,us", "us,eu")]
    cursors = {each.json["nextCursor"] for each in pages}
    assert len(cursors) == 1
    reply = await ask("GET", f"/servers?region=eu&cursor={cursors.pop()}")
    assert (reply.status, reply.json["type"].rpartition(":")[2]) == (400, "bad-cursor")


async def test_explain_names_it(ask: Client) -> None:
    excluded = (await ask("GET", "/servers?region=eu&explain=true")).json["excluded"]
    assert {each["id"]: each["filters"] for each in excluded} == {"b": ["region"], "c": ["region"]}


async def test_openapi_describes_it_and_an_unknown_one_is_still_refused(ask: Client) -> None:
    described = (await ask("GET", "/openapi.json")).json
    assert described == document(OPERATIONS)
    for path in ("/servers", "/events", "/tools", "/tools/{name}", "/sd/prometheus"):
        parameters = {each["name"]: each for each in described["paths"][path]["get"]["parameters"]}
        assert parameters["region"]["description"] == REGION.help
    assert "region" in described["components"]["schemas"]["DiscoverFilters"]["properties"]
    assert (await ask("GET", "/servers?regoin=eu")).json["nearest"] == "region"


async def test_a_long_poll_and_a_stream_wait_for_it(ask: Client) -> None:
    first = await ask("GET", "/servers?region=eu")
    index = first.headers["X-Discovery-Revision"]
    waiting = asyncio.ensure_future(ask("GET", f"/servers?region=eu&wait=30s&index={index}"))
    async with ask.events("?region=eu") as events:
        assert [each["id"] for each in (await events.next()).data["servers"]] == ["a"]
        more = {"metadata": {"region": "us"}}
        await ask("POST", "/servers", leased("d", **more))
        await ask.until_status("d", "healthy")
        assert not waiting.done()
        more = {"metadata": {"region": "eu"}}
        await ask("POST", "/servers", leased("e", **more))
        assert (await waiting).ids == ["a", "e"]
        assert (await events.next()).data["id"] == "e"


async def test_tools_are_filtered(ask: Client) -> None:
    found = (await ask("GET", "/tools?region=us")).json["tools"]
    assert [each["name"] for each in found] == ["tool-b"]
    assert (await ask("GET", "/tools/tool-b?region=us")).status == 200
    assert (await ask("GET", "/tools/tool-b?region=eu")).status == 404


async def test_connections_are_discovered_by_it(ask: Client) -> None:
    for wanted, ids in (("eu", ["a"]), (["eu", "us"], ["a", "b"])):
        body = {"filters": {"region": wanted}}
        found = (await ask("POST", "/connections/discover", body)).json["connections"]
        assert [each["id"] for each in found] == ids
    refused = await ask("POST", "/connections/discover", {"filters": {"region": 1}})
    assert (refused.status, refused.json["field"]) == (422, "filters.region")


async def test_models_find_servers_by_it(ask: Client) -> None:
    listed = (await modern(ask, "tools/list")).json["result"]["tools"]
    schema = next(each["inputSchema"] for each in listed if each["name"] == "find_servers")
    assert REGION.help in schema["properties"]["region"]["description"]
    for regions, ids in ((["eu"], ["a"]), (["eu", "us"], ["a", "b"])):
        given = {"name": "find_servers", "arguments": {"region": regions}}
        result = (await modern(ask, "tools/call", given)).json["result"]["structuredContent"]
        assert [each["id"] for each in result["servers"]] == ids
    given = {"name": "find_servers", "arguments": {"region": ["uss"]}}
    result = (await modern(ask, "tools/call", given)).json["result"]["structuredContent"]
    assert result["note"] == "No server has the region 'uss'; did you mean 'us'?"


async def test_the_client_selects_by_it_over_a_facade_and_over_a_store(
    ask: Client, store: EmbeddedStore
) -> None:
    async with Discovery(ask.url) as discovery:
        assert [each.id for each in await discovery.servers(region="eu")] == ["a"]
        assert [each.id for each in await discovery.connect(region=["eu", "us"])] == ["a", "b"]
        with pytest.raises(InvalidInputError, match="did you mean 'region'"):
            await discovery.servers(regoin="eu")
    async with Catalog(store) as catalog, Discovery(CatalogSource(catalog)) as discovery:
        assert [each.id for each in await discovery.servers(region="us")] == ["b"]
        # From the index: the view has it, and looks at no other instance.
        assert sorted(catalog.view.keys("region")) == ["eu", "us"]
        assert catalog.view.narrowest(Query(region="us")) == [("region", "us")]


async def test_the_shell_has_an_option_for_it(ask: Client) -> None:
    servers: Any = get_command(command_line("servers"))
    assert "--region" in {flag for each in servers.commands["servers"].params for flag in each.opts}
    command = ("servers", "--facade", ask.url, "--region", "eu", "--json")
    result = await asyncio.to_thread(CliRunner().invoke, command_line("servers"), command)
    assert result.exit_code == 0
    assert '"id":"a"' in result.output
    assert '"id":"b"' not in result.output


def test_a_name_that_is_in_no_row_is_refused() -> None:
    with pytest.raises(TypeError, match="no_filter"):
        Query(no_filter="eu")
