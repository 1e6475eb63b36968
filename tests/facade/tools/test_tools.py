"""Tools across servers."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import StoreUnavailableError
from tests.facade.harness import Client, leased, served
from tests.stores.waiting import until


def find(description: str = "Finds a product by its words.", **schema: Any) -> dict[str, Any]:
    properties = {"query": {"type": "string"}} | schema
    return {
        "name": "find_product",
        "title": "Find",
        "description": description,
        "inputSchema": {"type": "object", "properties": properties},
    }


BUY = {
    "name": "buy",
    "description": "Buys what was found; product and number.",
    "inputSchema": {"type": "object"},
}
ODD = {"name": "buy", "description": "Buys.", "inputSchema": {"type": "object", "minProperties": 1}}


async def post(ask: Client, id: str, *tools: dict[str, Any], **more: Any) -> None:
    reply = await ask("POST", "/servers", leased(id, document={"tools": list(tools)}, **more))
    assert reply.status == 201, reply.body


@pytest.fixture
async def filled(ask: Client) -> Client:
    """Three replicas of which one is odd, another server with a tool of the same name, and one
    that is down."""
    await post(ask, "a", find(), BUY, tags=["shop"])
    await post(ask, "b", find(), BUY, tags=["shop"])
    await post(ask, "c", find(limit={"type": "integer"}), BUY, tags=["shop"])
    await post(ask, "x", ODD, name="exchange", tags=["money"])
    await post(ask, "z", {"name": "gone", "inputSchema": {}}, health={"status": "down"})
    return ask


def names(reply: Any) -> list[str]:
    return [each["name"] for each in reply.json["tools"]]


@pytest.mark.slow
async def test_who_is_up_for_long_enough_is_found_without_a_change(filled: Client) -> None:
    """What the clock decides is not remembered with the list."""
    asked = "/tools?min_uptime=2s"
    assert names(await filled("GET", asked)) == []

    async def found() -> bool:
        return names(await filled("GET", asked)) == ["buy", "find_product"]

    await until(found, timeout=10, what="two seconds of uptime")


async def test_every_tool_of_the_matching_servers_is_listed_once(filled: Client) -> None:
    told = (await filled("GET", "/tools")).json
    assert told["totalTools"] == 2
    assert told["unread"] == 0
    assert told["tools"] == [
        {
            "name": "buy",
            "description": BUY["description"],
            "servers": 2,
            "providers": 4,
            "instances": ["a", "b", "c", "x"],
            "variants": 2,
        },
        {
            "name": "find_product",
            "title": "Find",
            "description": "Finds a product by its words.",
            "servers": 1,
            "providers": 3,
            "instances": ["a", "b", "c"],
            "variants": 2,
        },
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?tags=money", ["buy"]),
        ("?tags=nothing", []),
        ("?name=exchange", ["buy"]),
        ("?status=all", ["buy", "find_product", "gone"]),
        ("?status=down", ["gone"]),
        ("?tool=find_product", ["find_product"]),
        ("?limit=1", ["buy"]),
        ("?q=product", ["find_product", "buy"]),
        ("?q=prod", ["find_product", "buy"]),
        ("?q=product+buys", ["buy", "find_product"]),
        ("?q=product+buys&match=all", ["buy"]),
        ("?q=FindProduct&match=all", ["find_product"]),
        ("?q=unheard", []),
    ],
)
async def test_filters_and_words(filled: Client, query: str, found: list[str]) -> None:
    reply = await filled("GET", f"/tools{query}")
    assert reply.status == 200, reply.body
    assert names(reply) == found


async def test_the_total_is_of_all_that_match(filled: Client) -> None:
    told = (await filled("GET", "/tools?limit=1")).json
    assert (len(told["tools"]), told["totalTools"]) == (1, 2)


async def test_schemas_stand_in_the_list_when_they_are_asked_for(filled: Client) -> None:
    told = (await filled("GET", "/tools?schema=true&tags=shop")).json["tools"]
    assert [each["inputSchema"] for each in told] == [BUY["inputSchema"], find()["inputSchema"]]


async def test_odd_replicas_are_named(filled: Client) -> None:
    told = (await filled("GET", "/tools/find_product")).json
    assert told["consistent"] is False
    assert told["odd"] == ["c"]
    assert told["inconsistentServers"] == ["products"]
    assert (told["servers"], told["providers"]) == (["products"], 3)
    first, second = told["variants"]
    assert (first["instances"], second["instances"]) == (["a", "b"], ["c"])
    assert (first["differs"], second["differs"]) == ([], ["inputSchema"])
    assert first["tool"] == find()
    assert first["schema"] == find()["inputSchema"]
    assert first["digest"] != second["digest"]


async def test_another_server_with_a_tool_of_that_name_makes_no_replica_odd(filled: Client) -> None:
    told = (await filled("GET", "/tools/buy")).json
    assert told["consistent"] is False
    assert told["odd"] == ["x"]
    assert told["inconsistentServers"] == []
    assert [each["servers"] for each in told["variants"]] == [["products"], ["exchange"]]
    told = (await filled("GET", "/tools/buy?name=products")).json
    assert (told["consistent"], told["odd"]) == (True, [])


async def test_the_order_of_members_makes_no_variant(ask: Client) -> None:
    await post(ask, "a", BUY)
    await post(ask, "b", dict(reversed(BUY.items())))
    assert (await ask("GET", "/tools/buy")).json["consistent"] is True


async def test_names_alone_say_nothing_of_a_schema(ask: Client) -> None:
    await post(ask, "a", BUY)
    await ask("POST", "/servers", leased("b", capabilities=["buy", "sell"]))
    told = (await ask("GET", "/tools/buy")).json
    assert (told["consistent"], told["unknown"], told["instances"]) == (True, ["b"], ["a", "b"])
    told = (await ask("GET", "/tools?q=sell")).json
    assert told["tools"] == [
        {
            "name": "sell",
            "servers": 1,
            "providers": 1,
            "instances": ["b"],
            "variants": 0,
            "server": "products",
            "why": "matched: sell (name); 1 of 1 word",
        }
    ]


@pytest.mark.parametrize(
    "name",
    ["a/b", "a b", "größe", "100%", "a%2Fb", "x{y}", "a?b#c", "..x", "a+b", "\U0001f600", "'\""],
)
async def test_names_with_odd_characters(ask: Client, name: str) -> None:
    await post(ask, "a", {"name": name, "inputSchema": {}})
    reply = await ask.raw(f"/tools/{quote(name, safe='')}")
    assert reply.status == 200, (name, reply.body)
    assert reply.json["name"] == name


async def test_a_tool_that_nobody_offers(filled: Client) -> None:
    reply = await filled("GET", "/tools/find_produkt")
    assert reply.status == 404
    assert reply.json["nearest"] == "find_product"
    assert (await filled("GET", "/tools/gone")).status == 404
    assert (await filled("GET", "/tools/gone?status=down")).status == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "from 1 to 10000"),
        ("limit=x", "from 1 to 10000"),
        ("schema=maybe", "true, false"),
        ("stat=all", "'status'"),
        ("q=a%00b", "control characters"),
        ("q=a&q=b", "give q once"),
    ],
)
async def test_bad_parameters(ask: Client, query: str, words: str) -> None:
    reply = await ask("GET", f"/tools?{query}")
    assert reply.status == 400
    assert words in reply.json["detail"]


async def test_what_did_not_change_is_not_sent_again(filled: Client) -> None:
    for path in ("/tools", "/tools/buy"):
        tag = (await filled("GET", path)).headers["ETag"]
        reply = await filled("GET", path, headers={"If-None-Match": tag})
        assert (reply.status, reply.body) == (304, b"")
    await post(filled, "d", BUY)
    assert (await filled("GET", "/tools", headers={"If-None-Match": tag})).status == 200


class FaultyStore(EmbeddedStore):
    """A store that cannot give documents, or not in time."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.fails = False

    async def document(self, digest: str) -> CapabilityDocument:
        if self.fails:
            raise StoreUnavailableError(self.url, "the documents cannot be read")
        if self.slow:
            await asyncio.Event().wait()
        return await super().document(digest)


@pytest.mark.parametrize("fault", ["slow", "fails"])
@pytest.mark.slow
async def test_what_cannot_be_read_is_said_and_not_invented(fault: str) -> None:
    async with FaultyStore() as store:
        async with served(store) as first:
            await post(first, "a", BUY)
        setattr(store, fault, True)
        async with served(store) as ask:  # which has read nothing yet
            told = (await ask("GET", "/tools?schema=true")).json
            assert told["unread"] == 1
            assert told["tools"] == [
                {"name": "buy", "servers": 1, "providers": 1, "instances": ["a"], "variants": 0}
            ]
            detail = (await ask("GET", "/tools/buy")).json
            assert (detail["variants"], detail["unknown"], detail["unread"]) == ([], ["a"], 1)
            setattr(store, fault, False)
            assert (await ask("GET", "/tools/buy")).json["unread"] == 0
