"""The index with the model of the extra: what it finds by meaning, and what stuffing is worth."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from mcp_discovery.query.corpus import Corpus, Definitions
from mcp_discovery.query.embedding import BUILT_IN, GROUP, Meaning
from mcp_discovery.query.index import SearchIndex, ToolKey
from mcp_discovery.query.question import Question
from mcp_discovery.query.ranking import Ranking
from mcp_discovery.query.wordllama import WordLlama
from tests.records import record

#: Tools whose names and first sentences answer these questions.
HONEST = {
    "what is the weather tomorrow": ("get_forecast", "Get the weather forecast for a city."),
    "send an email to my boss": ("send_email", "Send an email to one or more recipients."),
    "translate this text into French": ("translate_text", "Translate text into a language."),
    "search a cheap flight to Lisbon": ("search_flights", "Search flights between two airports."),
    "convert 20 dollars to another currency": (
        "convert_currency",
        "Convert an amount between currencies.",
    ),
    "read the file notes.txt": ("read_file", "Read the contents of a file."),
}
Tools = Mapping[str, str]


def _index(servers: Mapping[str, Tools], meaning: Meaning | None) -> SearchIndex:
    """The index of servers by name, with the descriptions of their tools by name."""
    index = SearchIndex(Corpus(meaning))
    for name, tools in servers.items():
        _put(index, name, tools)
    return index


def _put(index: SearchIndex, server: str, tools: Tools) -> None:
    """Puts a server with its tools, or replaces what it had."""
    digest = hashlib.sha256(repr(tools).encode()).hexdigest()
    capabilities = {"tools": list(tools), "digest": digest}
    index.put(
        record(f"{server}-1", name=server, description="", tags=[], capabilities=capabilities)
    )
    for _ in index.work():
        pass
    definitions: Definitions = {
        ("tool", name): (said, {"name": name, "description": said}) for name, said in tools.items()
    }
    for _ in index.describe(digest, definitions):
        pass


def _first(ranking: Ranking[ToolKey]) -> str:
    tool, _, _ = max(ranking, key=lambda key: (ranking.score(key), key))
    return tool


@pytest.fixture
async def meaning() -> Meaning:
    meaning = Meaning(BUILT_IN)
    await meaning.run()
    return meaning


def _stuffed(how: str, question: str) -> str:
    words = question.split()
    drawn = random.Random(how)
    vocabulary = [f"{head}{tail}" for head in _HEADS for tail in _TAILS]
    return {
        "one word": f"{words[-1]} " * 200,
        "its words": f"{question} " * 200,
        "2,000 words": " ".join(drawn.sample([*words, *vocabulary], 2000)),
        "popular questions": " ".join(f"{each}?" for each in HONEST) * 20,
        "the question first": f"{question}? " * 40 + " ".join(HONEST),
    }[how]


_HEADS = [f"{first}{second}" for first in "bcdfglmnprst" for second in "aeiou"]
_TAILS = [f"{first}{second}n" for first in "bcdfglmnprst" for second in "aeiou"]


@pytest.mark.parametrize("question", HONEST)
@pytest.mark.parametrize(
    "how", ["one word", "its words", "2,000 words", "popular questions", "the question first"]
)
def test_stuffing_does_not_pass_who_answers_the_question(
    how: str, question: str, meaning: Meaning
) -> None:
    honest = dict(HONEST.values())
    stuffed = {"buy_now": _stuffed(how, question)}
    index = _index({"everyday": honest, "shop": stuffed}, meaning)
    assert _first(index.tools(Question(question))) == HONEST[question][0]


async def test_what_means_the_same_is_found_without_its_words(meaning: Meaning) -> None:
    servers = {"everyday": dict(HONEST.values())}
    question = Question("will it rain in Lisbon")
    assert not len(_index(servers, None).tools(question))
    ranking = _index(servers, meaning).tools(question)
    assert _first(ranking) == "get_forecast"
    assert {ranking.why(key) for key in ranking} == {"close in meaning"}
    every = _index(servers, meaning).tools(Question("will it rain in Lisbon", "all"))
    assert not len(every)


async def test_until_the_model_is_loaded_words_rank_alone() -> None:
    loading = Meaning(BUILT_IN)
    servers = {"everyday": dict(HONEST.values())}
    index, alone = _index(servers, loading), _index(servers, None)
    question = Question("what is the weather forecast")
    assert _scores(index.tools(question)) == _scores(alone.tools(question))
    await loading.run()
    assert _scores(index.tools(question)) != _scores(alone.tools(question))


def _scores(ranking: Ranking[ToolKey]) -> Mapping[ToolKey, int]:
    return {key: ranking.score(key) for key in ranking}


class Recording(WordLlama):
    """The model, as another distribution might bring it; it notes what it embeds."""

    name = "recording"
    embedded: ClassVar[list[str]] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded.extend(texts)
        return super().embed(texts)


async def test_a_tool_that_changes_is_embedded_alone_and_lists_share_vectors() -> None:
    """Two lists over one corpus, as callers with different rights have them."""
    meaning = Meaning(EntryPoint("recording", f"{__name__}:{Recording.__name__}", GROUP))
    await meaning.run()
    Recording.embedded.clear()
    corpus = Corpus(meaning)
    tools = dict(HONEST.values())
    indexes = [SearchIndex(corpus), SearchIndex(corpus)]
    for index in indexes:
        _put(index, "everyday", tools)
    _put(indexes[0], "secret", {"launch_rocket": "Launch a rocket into orbit."})
    # Each text once, whatever lists have it: two servers, and their tools.
    assert len(Recording.embedded) == len(set(Recording.embedded)) == len(tools) + 3
    Recording.embedded.clear()
    for index in indexes:
        _put(index, "everyday", tools | {"read_file": "Read a whole file, and its date."})
    assert Recording.embedded == ["everyday read file: Read a whole file, and its date. "]
    # Neither list sees a tool that the other one has alone.
    question = Question("spaceship to the moon")
    assert [_names(index.tools(question)) for index in indexes] == [{"launch_rocket"}, set()]


def _names(ranking: Ranking[ToolKey]) -> set[str]:
    return {tool for tool, _, _ in ranking}
