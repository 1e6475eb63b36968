"""What ``find_tools`` costs of a model's window, and that it is enough to call what was found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import orjson
import pytest

from mcp_discovery.facade.mcp import tool_answer
from mcp_discovery.tokens import BYTES, token_counter
from tests.catalogues import by_server, example
from tests.facade.harness import Client, leased, served
from tests.facade.mcp.test_calling import Direct
from tests.facade.mcp.test_tools import call, post
from tests.facade.mcp.wire import modern

QUESTIONS = (
    "what is the weather forecast for the cloud",
    "send an email from the office",
    "which exchange rate does the office get",
    "export the spreadsheet that is in the cloud",
)


def length(told: Any) -> int:
    """The tokens of an answer as the model reads it."""
    return token_counter().count(orjson.dumps(told).decode())


@pytest.fixture(params=[527, 10_000], scope="module")
async def many(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Client, int]]:
    """A facade with so many tools, and how many."""
    async with served(caller=Direct("http://127.0.0.1:9/mcp"), mcp_call_tool=True) as ask:
        for number, (name, tools) in enumerate(by_server(request.param, 50).items()):
            tags = [f"tag-{number % 7}", "tools"]
            await post(ask, name, *tools, name=name, tags=tags)
        yield ask, request.param


async def test_the_first_turn_takes_no_more_however_many_tools_there_are(
    many: tuple[Client, int],
) -> None:
    ask, number = many
    discovered = (await modern(ask, "server/discover")).json["result"]
    listed = (await modern(ask, "tools/list")).json["result"]["tools"]
    # Models are given these members of a tool.
    read = [{key: each[key] for key in ("name", "description", "inputSchema")} for each in listed]
    assert length([discovered["instructions"], read]) <= 2_000
    for arguments in ({}, {"detail": "full"}, {"limit": 500, "detail": "names"}):
        told = await call(ask, "find_tools", **arguments)
        assert length(told) == told["tokens"] <= 2_000
        assert told["countedBy"] == token_counter().name
        assert told["matched"] == number


async def test_a_call_is_valid_after_a_question(many: tuple[Client, int]) -> None:
    ask, _ = many
    for question in QUESTIONS:
        told = await call(ask, "find_tools", q=question)
        assert told["tools"] and length(told) == told["tokens"] <= 2_000
        best = told["tools"][0]
        read = await call(
            ask, "find_tools", q=best["name"], server=[best["server"]], detail="full", limit=1
        )
        (found,) = read["tools"]
        assert found["name"] == best["name"]
        described = await call(ask, "describe_tool", name=best["name"], server=best["server"])
        schema = described["definition"]["inputSchema"]
        assert found["inputSchema"] == schema
        jsonschema.Draft202012Validator(schema).validate(example(schema))


async def test_groups_say_how_to_narrow(many: tuple[Client, int]) -> None:
    ask, number = many
    told = await call(ask, "find_tools")
    assert next(iter(told)) == "groups"
    groups = told["groups"]
    assert groups["tags"]["tools"] == number
    assert all(count <= 50 for count in groups["servers"].values())
    assert list(groups["servers"].values()) == sorted(groups["servers"].values(), reverse=True)
    assert "give server or tags, as groups has them" in told["note"]
    tag, counted = list(groups["tags"].items())[1]
    narrowed = await call(ask, "find_tools", tags=[tag])
    assert narrowed["matched"] == counted
    # With words, only where thousands match.
    told = await call(ask, "find_tools", q="what it answers has the fields")
    assert told["matched"] == number and ("groups" in told) == (number >= tool_answer.MANY)
    assert length(told) == told["tokens"] <= 2_000
    assert "groups" not in await call(ask, "find_tools", q="patent", server=["server-0"])


async def test_groups_are_of_what_the_filters_leave(many: tuple[Client, int]) -> None:
    ask, _ = many
    told = await call(ask, "find_tools", server=["server-0", "server-1"], limit=5)
    assert told["groups"]["servers"] == {"server-0": 50, "server-1": 50}
    assert told["groups"]["tags"] == {"tools": 100, "tag-0": 50, "tag-1": 50}


async def test_the_budget_is_kept_and_used(ask: Client) -> None:
    described = [
        {"name": f"tool_{n:02}", "description": "word " * 40, "inputSchema": {"type": "object"}}
        for n in range(50)
    ]
    await post(ask, "many", *described)
    for budget in (500, 1_000, 1_999):
        told = await call(ask, "find_tools", q="word", max_tokens=budget, limit=500)
        assert (told["cut"], told["matched"]) == ("max_tokens", 50)
        assert (
            f"{50 - len(told['tools'])} more match; add words to q, or raise max_tokens."
            in (told["note"])
        )
        assert length(told) == told["tokens"] <= budget
        assert told["tokens"] > budget - 100  # no more is left out than must be
    told = await call(ask, "find_tools", q="word", limit=7)
    assert (len(told["tools"]), told["cut"]) == (7, "limit")
    told = await call(ask, "find_tools", max_tokens=200_000, limit=500)
    assert len(told["tools"]) == 50 and not told.keys() & {"cut", "groups", "note"}


async def test_the_first_tool_is_never_left_out(ask: Client) -> None:
    long = {f"parameter_{n}": {"type": "string", "description": "x" * 40} for n in range(100)}
    schema = {"type": "object", "properties": long}
    await post(ask, "a", {"name": "huge", "description": "Does it.", "inputSchema": schema})
    told = await call(ask, "find_tools", q="huge", detail="full", max_tokens=500)
    (shown,) = told["tools"]
    assert shown.keys() == {"name", "server", "why", "description"}
    assert told["matched"] == 1 and "told as detail=summary" in told["note"]
    told = await call(ask, "find_tools", q="huge", detail="full", max_tokens=9_000)
    assert told["tools"][0]["inputSchema"] == schema and "note" not in told


async def test_a_summary_has_the_beginning_of_a_long_description(ask: Client) -> None:
    text = "Says what it does. " + "And more. " * 10_000
    await post(ask, "a", {"name": "talker", "description": text, "inputSchema": {}})
    told = await call(ask, "find_tools", q="talker")
    described = told["tools"][0]["description"]
    assert described.startswith("Says what it does. And more.") and described.endswith(" …")
    assert len(described) <= 240


async def test_without_a_tokenizer_bytes_are_the_bound(
    ask: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_answer, "token_counter", lambda: BYTES)
    text = "Converts a file to another format, and says what was lost. " * 3
    await post(ask, "a", *({"name": f"t{n}", "description": text} for n in range(30)))
    told = await call(ask, "find_tools", q="converts")
    assert told["countedBy"] == "UTF-8 bytes, an upper bound"
    assert len(orjson.dumps(told)) < told["tokens"] + 1 <= 2_001
    assert length(told) < told["tokens"]
    assert len(told["tools"]) >= 5


async def test_a_leased_server_without_tags_has_a_group_of_its_own(ask: Client) -> None:
    for name in ("one", "two"):
        assert (
            await ask(
                "POST",
                "/servers",
                leased(name, name=name, document={"tools": [{"name": "a"}, {"name": name}]}),
            )
        ).status == 201
    told = await call(ask, "find_tools", limit=3)
    assert told["groups"] == {"servers": {"one": 2, "two": 2}, "tags": {}}
