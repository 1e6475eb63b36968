"""What the tools find, within which budget, and what they say of bad arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest
from mcp import Client as McpClient

from mcp_discovery.facade.mcp.tool import InvalidArgumentsError, read_arguments
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.wire import modern
from tests.facade.tools.test_tools import BUY, ODD, FaultyStore, find

TOOLS = ("find_servers", "find_tools", "describe_tool")


async def post(ask: Client, id: str, *tools: dict[str, Any], **more: Any) -> None:
    reply = await ask("POST", "/servers", leased(id, document={"tools": list(tools)}, **more))
    assert reply.status == 201, reply.body


@pytest.fixture
async def filled(ask: Client) -> Client:
    """Three replicas of which one is odd, another server with a tool of the same name, and one
    that is down."""
    catalog = {"tags": ["shop"], "title": "Products", "description": "The catalog of a shop."}
    await post(ask, "a", find(), BUY, version="1.2.0", **catalog)
    await post(ask, "b", find(), BUY, version="1.2.0", **catalog)
    await post(ask, "c", find(limit={"type": "integer"}), BUY, **catalog)
    await post(ask, "x", ODD, name="exchange", tags=["money"])
    health = {"status": "down", "reason": "it fell"}
    await post(ask, "z", {"name": "gone", "inputSchema": {}}, name="lost", health=health)
    return ask


async def call(ask: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured answer, which the tool's own schema and text agree with."""
    reply = await modern(ask, "tools/call", {"name": tool, "arguments": arguments})
    result = reply.json["result"]
    assert "isError" not in result, result
    told: dict[str, Any] = result["structuredContent"]
    assert orjson.loads(result["content"][0]["text"]) == told
    listed = (await modern(ask, "tools/list")).json["result"]["tools"]
    schema = next(each["outputSchema"] for each in listed if each["name"] == tool)
    jsonschema.Draft202012Validator(schema).validate(told)
    return told


async def fault(ask: Client, tool: str, arguments: Any) -> str:
    """The sentence of an answer that is none."""
    reply = await modern(ask, "tools/call", {"name": tool, "arguments": arguments})
    result = reply.json["result"]
    assert (reply.status, result["isError"]) == (200, True)
    assert "structuredContent" not in result
    sentence: str = result["content"][0]["text"]
    return sentence


async def test_every_tool_is_described_for_those_who_only_have_its_definition(
    ask: Client,
) -> None:
    for tool in (await modern(ask, "tools/list")).json["result"]["tools"]:
        assert tool["title"] == tool["annotations"]["title"]
        assert tool["annotations"]["readOnlyHint"] is True
        assert len(tool["description"]) > 100
        for key in ("inputSchema", "outputSchema"):
            jsonschema.Draft202012Validator.check_schema(tool[key])
        assert tool["inputSchema"]["additionalProperties"] is False
        for name, rule in tool["inputSchema"]["properties"].items():
            assert rule["description"].endswith("."), name


# -- find_servers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, ["x", "a", "b", "c"]),
        ({"tags": ["shop"]}, ["a", "b", "c"]),
        ({"tags": ["SHOP", "money"]}, ["x", "a", "b", "c"]),
        ({"tags": ["shop", "money"], "match": "all"}, []),
        ({"tool": ["find_product", "buy"]}, ["a", "b", "c"]),
        ({"capability": ["find_product"]}, ["a", "b", "c"]),
        ({"name": ["exchange"]}, ["x"]),
        ({"status": ["down"]}, ["z"]),
        ({"status": ["all"]}, ["x", "z", "a", "b", "c"]),
        ({"status": ["healthy", "down"], "name": ["lost"]}, ["z"]),
        ({"version": "^1.2"}, ["a", "b"]),
        ({"transport": ["sse"]}, []),
        ({"q": "catalog shop"}, ["a", "b", "c"]),
        ({"q": "catalog money", "match": "all"}, []),
        ({"q": "what sells catalogs for money"}, ["x", "a", "b", "c"]),
        ({"q": None, "tags": None, "limit": 1}, ["x"]),
    ],
)
async def test_servers_are_found(
    filled: Client, arguments: dict[str, Any], found: list[str]
) -> None:
    told = await call(filled, "find_servers", **arguments)
    assert [each["id"] for each in told["servers"]] == found
    assert told["matched"] == (4 if "limit" in arguments else len(found))
    assert ("note" in told) == (not found or "limit" in arguments)


async def test_servers_are_found_by_their_skills(ask: Client) -> None:
    entry = {"uri": "skill://refunds/SKILL.md", "frontmatter": {"name": "refunds"}}
    await ask("POST", "/servers", leased("a", document={"skills": [entry]}))
    await ask("POST", "/servers", leased("b", capabilities=["refunds"]))
    (told,) = (await call(ask, "find_servers", skill=["refunds"]))["servers"]
    assert (told["id"], told["skills"]) == ("a", ["refunds"])
    told = (await call(ask, "find_servers", capability=["refunds"]))["servers"]
    assert [each["id"] for each in told] == ["a", "b"]
    assert "skills" not in told[1]
    nothing = await call(ask, "find_servers", skill=["refund"])
    assert "did you mean 'refunds'?" in nothing["note"]


async def test_a_server_says_what_is_needed_to_use_it(filled: Client) -> None:
    told = await call(filled, "find_servers", name=["products"], version="1.2.0", limit=1)
    assert told["servers"] == [
        {
            "id": "a",
            "name": "products",
            "title": "Products",
            "description": "The catalog of a shop.",
            "url": "http://127.0.0.1:9/a",
            "transport": "streamable-http",
            "version": "1.2.0",
            "tags": ["shop"],
            "status": "healthy",
            "tools": 2,
        }
    ]
    (lost,) = (await call(filled, "find_servers", status=["down"]))["servers"]
    assert (lost["status"], lost["reason"]) == ("down", "it fell")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tags": ["shopp"]}, "No server has the tag 'shopp'; did you mean 'shop'?"),
        ({"tool": ["find_produkt"]}, "did you mean 'find_product'?"),
        ({"capability": ["nobody"]}, "No server has the tool, resource, prompt or skill 'nobody'."),
        ({"name": ["lost"]}, "status ['all']"),
        ({"name": ["products"], "tags": ["money"], "status": ["all"]}, "Use fewer filters"),
    ],
)
async def test_who_finds_nothing_is_told_what_to_change(
    filled: Client, arguments: dict[str, Any], words: str
) -> None:
    assert words in (await call(filled, "find_servers", **arguments))["note"]


async def test_an_empty_list_says_so(ask: Client) -> None:
    for tool in TOOLS[:2]:
        assert (await call(ask, tool))["note"] == "No server is registered at all."


# -- find_tools -------------------------------------------------------------------------------


def pairs(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each["name"], each["server"]) for each in told["tools"]]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, ["buy@exchange", "buy@products", "find_product@products"]),
        ({"server": ["exchange"]}, ["buy@exchange"]),
        ({"tags": ["shop"]}, ["buy@products", "find_product@products"]),
        ({"status": ["down"]}, ["gone@lost"]),
        ({"q": "find"}, ["find_product@products"]),
        ({"q": "find a product"}, ["find_product@products", "buy@products"]),
        ({"q": "buys number"}, ["buy@products", "buy@exchange"]),
        ({"q": "exchange"}, ["buy@exchange"]),
        ({"q": "findProduct nonsense"}, ["find_product@products", "buy@products"]),
        ({"q": "nonsense"}, []),
    ],
)
async def test_tools_are_ranked_by_words(
    filled: Client, arguments: dict[str, Any], found: list[str]
) -> None:
    told = await call(filled, "find_tools", **arguments)
    assert [f"{name}@{server}" for name, server in pairs(told)] == found
    assert told["matched"] == len(found)
    assert "cut" not in told


async def test_an_item_carries_what_is_asked_for(filled: Client) -> None:
    for detail, members in (
        (None, {"name", "server", "why", "title", "description"}),
        ("names", {"name", "server"}),
        ("full", {"name", "server", "why", "title", "description", "inputSchema"}),
    ):
        told = await call(filled, "find_tools", q="find", detail=detail)
        assert told["tools"][0].keys() == members
    # As most of its replicas spell it.
    assert told["tools"][0]["inputSchema"] == find()["inputSchema"]


async def test_what_could_not_be_read_is_said() -> None:
    async with FaultyStore() as store:
        async with served(store) as first:
            await post(first, "a", BUY)
        store.fails = True
        async with served(store) as ask:  # which has read nothing yet
            told = await call(ask, "find_tools", q="buy")
            assert pairs(told) == [("buy", "products")]
            assert "could not be read" in told["note"]
            told = await call(ask, "describe_tool", name="buy")
            assert told["unknown"] == ["a"]
            assert "definition" not in told
            assert "not known" in told["note"]


# -- describe_tool ----------------------------------------------------------------------------


async def test_a_tool_is_described_with_all_its_variants(filled: Client) -> None:
    told = await call(filled, "describe_tool", name="find_product")
    assert told == {
        "name": "find_product",
        "definition": find(),
        "servers": ["products"],
        "instances": ["a", "b", "c"],
        "consistent": False,
        "variants": [
            {"servers": ["products"], "instances": ["a", "b"], "differs": []},
            {
                "servers": ["products"],
                "instances": ["c"],
                "differs": ["inputSchema"],
                "definition": find(limit={"type": "integer"}),
            },
        ],
    }


async def test_which_server_is_meant(filled: Client) -> None:
    told = await call(filled, "describe_tool", name="buy")
    assert (told["servers"], told["consistent"]) == (["exchange", "products"], False)
    assert "say which one with server" in told["note"]
    for server, definition in (("products", BUY), ("exchange", ODD), ("x", ODD), ("b", BUY)):
        told = await call(filled, "describe_tool", name="buy", server=server)
        assert (told["definition"], told["consistent"]) == (definition, True)
        assert "note" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "find_produkt"}, "did you mean 'find_product'? find_tools finds"),
        ({"name": "buy", "server": "lost"}, "no server 'lost' offers a tool 'buy'; these do: ex"),
        ({"name": "gone"}, "cannot be used now: lost is down (it fell)"),
        ({}, "the argument 'name' is missing"),
    ],
)
async def test_a_tool_that_cannot_be_described(
    filled: Client, arguments: dict[str, Any], words: str
) -> None:
    assert words in await fault(filled, "describe_tool", arguments)


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("find_servers", {"tag": ["a"]}, "there is no argument 'tag'; did you mean 'tags'? use q,"),
        ("find_servers", {"tags": "shop"}, "tags must be an array, not 'shop'"),
        ("find_servers", {"tags": [1]}, "tags[0] must be a string, not 1"),
        ("find_servers", {"tags": [""]}, "tags[0] is empty"),
        ("find_servers", {"tags": ["x"] * 65}, "tags may have 64 items at most"),
        ("find_servers", {"tags": ["x" * 257]}, "tags[0] is over 256 characters"),
        ("find_servers", {"match": "al"}, "match cannot be 'al'; did you mean 'all'?"),
        ("find_servers", {"status": ["helthy"]}, "did you mean 'healthy'? use healthy, degraded"),
        ("find_servers", {"limit": 0}, "limit must be from 1 to 200, not 0"),
        ("find_servers", {"limit": True}, "limit must be a whole number, not true"),
        ("find_servers", {"limit": 1.5}, "limit must be a whole number, not 1.5"),
        ("find_servers", {"version": "one"}, "write for example '>=1.2,<2'"),
        ("find_servers", {"q": "!?"}, "which has no word"),
        ("find_servers", {"q": "a" * 4001}, "q is over 4,000 characters"),
        ("find_servers", {"q": {}}, "q must be a string, not an object"),
        ("find_tools", {"detail": "schema"}, "detail cannot be 'schema'; use names, summary, full"),
        ("find_tools", {"max_tokens": 10}, "max_tokens must be from 500 to 200,000, not 10"),
    ],
)
async def test_bad_arguments(ask: Client, tool: str, arguments: dict[str, Any], words: str) -> None:
    assert words in await fault(ask, tool, arguments)


@pytest.mark.parametrize("tool", ["find_servers", "find_tools"])
async def test_what_is_read_is_what_the_schema_says(ask: Client, tool: str) -> None:
    """Whatever the listed schema refuses is refused, and the other way round."""
    listed = (await modern(ask, "tools/list")).json["result"]["tools"]
    schema = next(each["inputSchema"] for each in listed if each["name"] == tool)
    validator = jsonschema.Draft202012Validator(schema)
    values: list[Any] = ["", "all", "healthy", 0, 1, 5.5, True, [], ["x"], [1], ["healthy"], {}]
    for name in (*schema["properties"], "other"):
        for value in values:
            try:
                read_arguments(schema, {name: value})
            except InvalidArgumentsError:
                fits = False
            else:
                fits = True
            assert fits == validator.is_valid({name: value}), (name, value)


async def test_the_sdk_validates_what_is_answered(filled: Client) -> None:
    async with McpClient(f"{filled.url}/mcp") as client:
        await client.list_tools()  # from here on it holds answers against their schemas
        assert not (await client.call_tool("find_servers", {})).is_error
        assert not (await client.call_tool("find_tools", {})).is_error
        assert not (await client.call_tool("describe_tool", {"name": "buy"})).is_error
        assert (await client.call_tool("describe_tool", {})).is_error
