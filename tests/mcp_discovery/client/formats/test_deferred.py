"""Deferred tools: what each API is given at first, and what a search brings."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mcp_discovery.client.formats import DeferredToolList, parse_call, render_error
from mcp_discovery.client.formats.deferred import question_of
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import InvalidInputError, UnknownToolError
from mcp_discovery.tokens import token_counter
from tests.mcp_discovery.client.formats.schemas import tool

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORECAST = tool(CITY, "forecast", server="weather", description="Tomorrow's weather.")
RADAR = tool(CITY, "radar", server="weather", description="Rain on a map.")
PAY = tool({"type": "object"}, "pay", server="bank", description="Pays a bill.")
TOOLS = [FORECAST, PAY, RADAR]
ABOUT = {"weather": "What the weather\nwill be.", "bank": ""}


def search_call(**more: Any) -> dict[str, Any]:
    """OpenAI's item for a search that the agent is to make."""
    arguments = {"query": "rain"}
    call = {"type": "tool_search_call", "call_id": "c1", "execution": "client"}
    return call | {"id": "ts_1", "status": "completed", "arguments": arguments} | more


def test_anthropic_reads_a_search_and_defers_the_tools() -> None:
    payload = DeferredToolList(TOOLS, "anthropic", about=ABOUT)
    search, *deferred = payload
    assert search["name"] == "search_tools" and "defer_loading" not in search
    assert search["input_schema"]["required"] == ["query"]
    assert search["description"].endswith(
        "They are of these servers:\nbank\nweather: What the weather will be."
    )
    assert deferred[0] == {
        "name": "forecast",
        "description": "Tomorrow's weather.",
        "input_schema": CITY,
        "defer_loading": True,
    }
    assert [each["name"] for each in deferred] == ["forecast", "pay", "radar"]
    assert all(each["defer_loading"] is True for each in deferred)
    assert payload.visible == [search]
    assert payload.tokens == token_counter().count(orjson.dumps([search]).decode())


def test_anthropic_may_search_itself() -> None:
    payload = DeferredToolList(TOOLS, "anthropic", search="server")
    assert payload[0] == {
        "type": "tool_search_tool_bm25_20251119",
        "name": "tool_search_tool_bm25",
    }
    assert payload.visible == payload[:1] and len(payload) == 4


def test_a_search_for_anthropic_is_answered_with_references() -> None:
    payload = DeferredToolList(TOOLS, "anthropic")
    use = {"type": "tool_use", "id": "t1", "name": "search_tools", "input": {"query": "rain"}}
    call = parse_call(use)
    assert question_of(call) == ("rain", 5)
    assert payload.answer(call, [RADAR, FORECAST]) == {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [
            {"type": "tool_reference", "tool_name": "radar"},
            {"type": "tool_reference", "tool_name": "forecast"},
        ],
    }
    (nothing,) = payload.answer(call, [])["content"]
    assert nothing["type"] == "text" and "other words" in nothing["text"]


def test_what_was_found_stays_when_it_is_gone() -> None:
    payload = DeferredToolList([PAY], "anthropic", found=[RADAR])
    assert [each["name"] for each in payload[1:]] == ["radar", "pay"]


def test_openai_reads_a_search_alone() -> None:
    payload = DeferredToolList(TOOLS, "openai", about=ABOUT)
    (search,) = payload
    assert (search["type"], search["execution"]) == ("tool_search", "client")
    assert search["parameters"]["required"] == ["query"]
    assert "weather: What the weather will be." in search["description"]
    assert set(payload.names) == {"forecast", "pay", "radar"}


def test_a_search_for_openai_is_answered_with_namespaces() -> None:
    payload = DeferredToolList(TOOLS, "openai", about=ABOUT, strict=True)
    call = parse_call(search_call())
    answer = payload.answer(call, [RADAR, PAY, FORECAST])
    assert {key: answer[key] for key in ("type", "call_id", "execution", "status")} == {
        "type": "tool_search_output",
        "call_id": "c1",
        "execution": "client",
        "status": "completed",
    }
    weather, bank = answer["tools"]
    assert (weather["type"], weather["name"]) == ("namespace", "weather")
    assert weather["description"] == "What the weather will be."
    assert bank["description"] == "1 tool"  # OpenAI requires one
    assert [each["name"] for each in weather["tools"]] == ["radar", "forecast"]
    assert weather["tools"][1] == {
        "type": "function",
        "name": "forecast",
        "description": "Tomorrow's weather.",
        "parameters": CITY | {"additionalProperties": False},
        "strict": True,
        "defer_loading": True,
    }
    assert payload.restore("radar", {"city": "Bergen"}) == {"city": "Bergen"}
    with pytest.raises(UnknownToolError):
        payload.restore("sonar", {})


def test_openai_may_search_itself() -> None:
    payload = DeferredToolList(TOOLS, "openai", about=ABOUT, search="server")
    weather, bank, search = payload
    assert search == {"type": "tool_search"}
    assert [each["name"] for each in weather["tools"]] == ["forecast", "radar"]
    assert all(each["defer_loading"] for each in (*weather["tools"], *bank["tools"]))
    # The names and descriptions of namespaces are what the model reads at first.
    assert payload.visible == [
        {key: value for key, value in each.items() if key != "tools"} for each in payload
    ]
    with pytest.raises(InvalidInputError, match="execution 'client'"):
        parse_call(search_call(execution="server"))


def test_a_search_that_says_nothing() -> None:
    call = parse_call(search_call(arguments={"query": " "}))
    with pytest.raises(InvalidInputError, match="query is missing"):
        question_of(call)
    assert render_error(call, "query is missing")["tools"] == []
    for limit, wanted in ((3, 3), (500, 20), (0, 1), (True, 5), ("9", 5)):
        call = parse_call(search_call(arguments={"query": "rain", "limit": limit}))
        assert question_of(call) == ("rain", wanted)


def test_no_tool_takes_the_name_of_the_search() -> None:
    rival = tool(CITY, "search_tools", server="weather")
    payload = DeferredToolList([rival], "anthropic")
    names = [each["name"] for each in payload]
    assert names[0] == "search_tools" and names[1].startswith("search_tools_")
    assert payload.tool(names[1]) == rival


def many(number: int, servers: int) -> list[Tool]:
    """Tools with texts of usual length."""
    about = "Looks up what is known of the thing with this number, and of what belongs to it."
    return [
        tool(CITY, f"look_up_{number}", server=f"server-{number % servers}", description=about)
        for number in range(number)
    ]


@pytest.mark.parametrize(("number", "servers"), [(527, 70), (10_000, 1_000), (10_000, 10_000)])
@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_the_first_turn_stays_within_its_budget(number: int, servers: int, format: Any) -> None:
    tools = many(number, servers)
    about = {each.server: each.description for each in tools}
    payload = DeferredToolList(tools, format, about=about)
    text = orjson.dumps([each for each in payload if not each.get("defer_loading")]).decode()
    assert payload.tokens == token_counter().count(text) <= 2_000
    assert "server-0" in text
    if servers > 100:
        assert " more" in text
    assert len(payload) <= 10_000
    if format == "anthropic" and number == 10_000:
        (note,) = payload.notes
        assert "1 more are left out" in note.said


def test_openai_is_told_where_the_namespaces_alone_are_too_long() -> None:
    payload = DeferredToolList(many(2_000, 500), "openai", search="server")
    assert payload.tokens > 2_000
    (note,) = payload.notes
    assert note.path == "tools" and "let the agent search" in note.said


@pytest.mark.parametrize("search", ["client", "server"])
def test_the_budget_is_kept_exactly(search: Any) -> None:
    tools = many(300, 20)
    about = {each.server: "What it is for. " * 8 for each in tools}
    whole = DeferredToolList(tools, "openai", search=search, about=about, max_tokens=10_000)
    for budget in (whole.tokens, whole.tokens - 1):
        payload = DeferredToolList(tools, "openai", search=search, about=about, max_tokens=budget)
        assert payload.tokens <= budget and payload.notes == ()
        assert (payload.visible == whole.visible) == (budget == whole.tokens)


def test_what_is_the_same_is_not_converted_anew() -> None:
    odd = tool({"type": "object", "properties": {"a b": {"type": "string"}}}, "odd")
    before = DeferredToolList([*TOOLS, odd], "anthropic")
    changed = tool(CITY, "radar", server="weather", description="Rain and snow.")
    after = DeferredToolList([FORECAST, PAY, changed, odd], "anthropic", before=before)
    assert after[1]["input_schema"] is before[1]["input_schema"]
    assert after[3]["description"] == "Rain and snow."
    assert after.notes == before.notes
    assert after.restore("odd", {"a_b": "x"}) == {"a b": "x"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "gemini"}, "no deferred tools; give format='openai' or 'anthropic'"),
        ({"format": "openai", "api": "chat"}, "give api='responses'"),
        ({"format": "openai", "search": "cliant"}, "did you mean 'client'"),
        ({"format": "anthropic", "strict": True}, "strict"),
        ({"format": "anthropic", "max_tokens": 50}, "max_tokens=50 is less than the search alone"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        DeferredToolList(TOOLS, **options)
