"""An A2A agent is shown to those who ask for agents, and to nobody who asks for MCP servers."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from mcp_discovery.adapters.dns_names import dns_names, server_in
from mcp_discovery.adapters.remote import RemoteStore
from mcp_discovery.adapters.store import Snapshot
from mcp_discovery.client import Discovery
from mcp_discovery.errors import InvalidInputError, InvalidRecordError
from mcp_discovery.query.filters import FILTERS
from mcp_discovery.query.query import Query
from mcp_discovery.record import Record
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern

ORIGIN = "http://127.0.0.1:9"


async def both(ask: Client) -> None:
    agent = {**leased("agent"), "kind": "agent", "name": "travel", "url": ORIGIN}
    agent["capabilities"] = {"skills": ["trip"]}
    server = leased("server", capabilities=["book"], name="travel")
    for body in (server, agent):
        answer = await ask("POST", "/servers", body)
        assert answer.status == 201, answer.body


async def test_lists_are_of_servers_unless_a_kind_is_asked_for(ask: Client) -> None:
    await both(ask)
    for query, wanted in (
        ("", ["server"]),
        ("?status=all", ["server"]),
        ("?kind=server", ["server"]),
        ("?kind=agent", ["agent"]),
        ("?kind=all", ["agent", "server"]),
        ("?kind=agent,server", ["agent", "server"]),
        ("?name=travel", ["server"]),
        ("?transport=a2a", []),
        ("?transport=a2a&kind=all", ["agent"]),
    ):
        assert (await ask("GET", f"/servers{query}")).ids == wanted, query
    refused = await ask("GET", "/servers?kind=robot")
    assert refused.status == 400 and "server, agent, all" in refused.json["detail"]
    entry = (await ask("GET", "/servers/agent")).json
    assert (entry["kind"], entry["transport"], entry["url"]) == ("agent", "a2a", ORIGIN)
    assert (await ask("GET", "/servers/server")).json["kind"] == "server"


async def test_nobody_is_given_an_agent_for_a_server(ask: Client) -> None:
    await both(ask)
    listed = (await ask("GET", "/v0.1/servers")).json["servers"]
    assert len(listed) == 1
    cards = (await ask("GET", "/.well-known/ai-catalog.json")).json["entries"]
    assert ORIGIN not in str(cards)
    connections = (await ask("GET", "/connections")).json
    assert [each["id"] for each in connections["connections"]] == ["server"]
    assert (connections["total"], connections["filtered"]) == (1, 1)
    for filters, found in (({}, "server"), ({"kind": "agent"}, "agent")):
        answer = await ask("POST", "/connections/discover", {"filters": filters})
        assert [each["id"] for each in answer.json["connections"]] == [found]
    figures = (await ask("GET", "/registry/stats")).json
    assert (figures["connections"]["total"], figures["connections"]["active"]) == (1, 1)
    shares = (await ask("GET", "/load-balancing/distribution")).json["connections"]
    assert [each["id"] for each in shares] == ["server"]
    offered = (await ask("GET", "/capabilities")).json["capabilities"]
    assert [each["name"] for each in offered] == ["book"]
    targets = (await ask("GET", "/sd/prometheus")).json
    assert [each["labels"]["__meta_mcp_id"] for each in targets] == ["server"]
    found = (
        await modern(ask, "tools/call", {"name": "find_servers", "arguments": {"status": ["all"]}})
    ).json["result"]["structuredContent"]
    assert [each["id"] for each in found["servers"]] == ["server"]
    pages = (await modern(ask, "resources/list")).json["result"]["resources"]
    assert not [each for each in pages if each["name"] == "agent"]
    async with ask.events() as events:
        first = await events.next()
        assert [each["id"] for each in first.data["servers"]] == ["server"]
    async with ask.events("?kind=agent") as events:
        first = await events.next()
        assert [each["id"] for each in first.data["servers"]] == ["agent"]
        await ask("DELETE", "/servers/agent")
        gone = (await events.next()).data
        assert (gone["id"], gone["server"]) == ("agent", None)


async def test_the_library_follows_servers_and_lists_agents(ask: Client) -> None:
    await both(ask)
    async with Discovery(ask.url, report=False) as found:
        assert [each.record.id for each in await found.servers()] == ["server"]
        assert [each.record.id for each in await found.servers(kind="agent")] == ["agent"]
        assert [each.record.id for each in await found.connect()] == ["server"]
        with pytest.raises(InvalidInputError, match="follows MCP servers"):
            await found.connect(kind="agent")
        [agent] = await found.servers(kind="agent")
        assert not found.allows(agent)


async def test_a_facade_in_front_of_another_has_the_agents_too(ask: Client) -> None:
    await both(ask)
    async with RemoteStore(ask.url) as store, aclosing(store.watch()) as news:
        first = await anext(news)
        assert isinstance(first, Snapshot) and first.instances.keys() == {"agent", "server"}


async def test_a_facade_of_before_agents_is_watched_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(FILTERS, "kind")
    async with served() as old:
        await old("POST", "/servers", leased("server"))
        assert (await old("GET", "/servers?kind=all")).status == 400
        async with RemoteStore(old.url) as store, aclosing(store.watch()) as news:
            first = await anext(news)
            assert isinstance(first, Snapshot) and first.instances.keys() == {"server"}


def test_what_is_asked_of_a_facade_names_no_filter_for_its_default() -> None:
    assert Query().params == ()
    assert Query(kind="agent", status=()).params == (("status", "all"), ("kind", "agent"))
    assert Query(kind=()).params == (("kind", "all"),)


def test_no_name_in_dns_leads_to_an_agent_that_a_server_could_have() -> None:
    record = Record.parse(
        {"name": "travel", "kind": "agent", "tags": ["shop"], "endpoint": {"url": ORIGIN}}
    )
    names = dns_names(record)
    assert names == ["travel.agent", "_travel.agent"]
    assert server_in(names[0]) == "travel"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"kind": "agent", "endpoint": {"url": ORIGIN, "transport": "sse"}}, "transport 'a2a'"),
        ({"endpoint": {"url": ORIGIN, "transport": "a2a"}}, "transport 'a2a'"),
        ({"kind": "robot", "endpoint": {"url": ORIGIN}}, "'server' or 'agent'"),
        (
            {"kind": "agent", "endpoint": {"url": ORIGIN}, "capabilities": {"tools": ["a"]}},
            "no tools",
        ),
        # What server.json, cards and hosts' files have no word for.
        ({"endpoint": {"url": ORIGIN, "transport": "sse"}, "auth": {"type": "other"}}, "bearer"),
    ],
)
def test_a_record_is_of_one_kind(more: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRecordError, match=why):
        Record.parse({"name": "travel"} | more)


def test_a_record_of_before_agents_is_a_servers() -> None:
    assert Record.parse({"name": "a", "endpoint": {"url": ORIGIN}}).kind == "server"
