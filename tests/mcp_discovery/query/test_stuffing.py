"""Who stuffs texts with words does not pass a tool whose name and first sentence answer."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.query.search_fields import MOST_WORDS
from mcp_discovery.query.words import words
from tests.mcp_discovery.query.test_index import Filled, tool

#: Tools that answer, and what is asked of them.
HONEST: Mapping[str, tuple[str, str]] = {
    "get_weather_forecast": (
        "Tells the weather forecast for a city.",
        "What will the weather forecast for Oslo be tomorrow?",
    ),
    "send_email": (
        "Sends an email to one or more people.",
        "please send an email to my boss and tell him that I am ill",
    ),
    "search_flights": (
        "Finds flights between two airports.",
        "find flights from Berlin to Lisbon",
    ),
    "convert_currency": (
        "Converts an amount from one currency to another.",
        "convert 100 dollars to another currency",
    ),
}
WORDS = [word for _, text in HONEST.values() for word, _ in words(text)]
_CHANCE = random.Random(7)
DICTIONARY = [
    *{
        "".join(_CHANCE.choices(string.ascii_lowercase, k=_CHANCE.randint(4, 9)))
        for _ in range(2000)
    }
]
ALL = " ".join(WORDS)
MIXED = " ".join([*WORDS, *DICTIONARY])
HIDDEN = ALL.replace("e", "e\u200b").replace("a", "a\u00ad")

STUFFED: Mapping[str, dict[str, Any]] = {
    "repeated": tool("helper", f"{ALL} " * 200),
    "a dictionary": tool("helper", MIXED),
    "a sentence first": tool("helper", f"Does what you want. {MIXED}"),
    "name": tool("_".join(WORDS[:24]), "Does it."),
    "repeated name": tool("_".join([*WORDS, *WORDS])[:256], "Does it."),
    "title": tool("helper") | {"title": f"{ALL} " * 50},
    "names of parameters": tool("helper", "Does it.", **dict.fromkeys(WORDS, ""))
    | {"title": "Helper"},
    "texts of parameters": tool("helper", "Does it.", **{f"p{n}": MIXED for n in range(100)}),
    "choices": {
        "name": "helper",
        "inputSchema": {"properties": {"it": {"type": "string", "enum": WORDS * 1000}}},
    },
    "nested": {
        "name": "helper",
        "inputSchema": {
            "properties": {"a": {"properties": {each: {"description": ALL} for each in WORDS}}}
        },
    },
    "characters that are not seen": tool("helper", f"{HIDDEN} " * 200),
    "letters that look alike": tool("helper", f"{ALL} ".replace("e", "\u0435") * 200),
    "one long word": tool("helper", "weather" * 150_000),
    "a long text": tool("helper", f"{ALL} " * 10_000),
    "combining characters": tool("helper", "e\u0301\u0316" * 100_000 + ALL),
    "everything": tool("_".join(WORDS[:20]), MIXED, **dict.fromkeys(WORDS, MIXED)) | {"title": ALL},
}
SERVERS: Mapping[str, dict[str, Any]] = {
    "description": {"description": f"{ALL} " * 20},
    "a dictionary": {"description": MIXED[:4000]},
    "tags": {"tags": sorted({each.lower() for each in WORDS})[:64]},
    "title": {"title": ALL[:200]},
    "name": {"name": "-".join(WORDS)[:63].rstrip("-")},
    "everything": {
        "name": "-".join(WORDS)[:63].rstrip("-"),
        "title": ALL[:200],
        "description": f"{ALL} " * 20,
        "tags": sorted({each.lower() for each in WORDS})[:64],
    },
}


def honest() -> Filled:
    """An index with the honest, one server for each, and some others."""
    filled = Filled()
    for number, (name, (description, _)) in enumerate(HONEST.items()):
        filled.put(f"h{number}", tool(name, description), name=f"server-{number}")
    others = (tool(f"{word}_it", f"Will {word} it.") for word in DICTIONARY[:40])
    filled.put("others", *others, name="others")
    return filled


@pytest.mark.parametrize("kind", STUFFED)
def test_stuffed_tools_stay_behind(kind: str) -> None:
    filled = honest()
    filled.put("stuffed", STUFFED[kind], name="stuffed")
    for name, (_, question) in HONEST.items():
        assert filled.tools(question)[0] == name
        assert filled.servers(question)[0].startswith("h")


@pytest.mark.parametrize("kind", SERVERS)
def test_stuffed_servers_stay_behind(kind: str) -> None:
    filled = honest()
    filled.put("stuffed", tool("helper", "Does it."), **{"name": "stuffed", **SERVERS[kind]})
    for name, (_, question) in HONEST.items():
        assert filled.tools(question)[0] == name
        assert filled.servers(question)[0].startswith("h")


def test_a_hundred_stuffed_tools_do_not_push_the_answer_out() -> None:
    filled = honest()
    many = (tool(f"helper_{number}", MIXED) for number in range(100))
    filled.put("stuffed", *many, name="stuffed", description=ALL)
    for name, (_, question) in HONEST.items():
        assert filled.tools(question)[0] == name


@pytest.mark.parametrize(
    "make",
    [
        lambda: tool("x", " ".join(f"word{number}" for number in range(100_000))),
        lambda: tool("x") | {"title": " ".join(f"w{number}" for number in range(50_000))},
        lambda: tool("x", "", **{f"parameter{number}": "a b c" for number in range(20_000)}),
        lambda: {"name": "x", "inputSchema": {"properties": {"y": {"enum": ["a"] * 10**6}}}},
        lambda: tool("x", "商品" * 500_000),
    ],
)
def test_what_one_tool_costs_is_bounded(make: Callable[[], dict[str, Any]]) -> None:
    given = make()
    index = Filled()
    began = time.process_time()
    index.put("a", given)
    assert time.process_time() - began < 2.0
    postings = sum(map(len, index.corpus.postings.values()))
    # The tool's own, those of its name while its document is read, and the server's.
    assert postings < 3 * MOST_WORDS
    assert all(len(word) <= 40 for word in index.corpus.postings)


def test_a_question_of_a_megabyte_is_read_in_part() -> None:
    index = SearchIndex(Corpus())
    began = time.process_time()
    for text in ("word " * 200_000, "w" * 10**6, "商品" * 500_000, "e\u0301\u0316" * 300_000):
        index.tools(Question(text))
    assert time.process_time() - began < 1.0
