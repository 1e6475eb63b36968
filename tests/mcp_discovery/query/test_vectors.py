"""WordLlama's vectors, and how they are weighed with the words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from mcp_discovery.query.corpus import WHOLE
from mcp_discovery.query.vectors import VectorTable
from mcp_discovery.query.wordllama import WordLlama

WEATHER = "weather service get forecast: Get the weather forecast for a city. city days"
MAIL = "mail send message: Send an e-mail to somebody. to subject body"
GIT = "git commit: Record changes to the repository. message"
TEXTS = (WEATHER, MAIL, GIT)


@pytest.fixture(scope="module")
def model() -> WordLlama:
    return WordLlama()


def _filled(model: WordLlama, *texts: str) -> VectorTable:
    vectors = VectorTable(model)
    for number, text in enumerate(texts):
        vectors.put(number, text)
    return vectors


def _found(
    vectors: VectorTable, question: str, *words: int, members: Sequence[int] | None = None
) -> Mapping[int, int]:
    """What is found; ``words`` are the first texts' scores by words, of at most 100."""
    number = len(vectors)
    by_words = [*words, *[0] * (number - len(words))]
    return vectors.blend(question, by_words, 100, [1] * number if members is None else members)


def _best(found: Mapping[int, int]) -> int:
    return max(found, key=lambda number: found[number])


def test_what_means_the_same_is_found_without_a_word_in_common(model: WordLlama) -> None:
    vectors = _filled(model, *TEXTS)
    assert _best(_found(vectors, "will it rain tomorrow? how warm is it outside")) == 0
    assert _best(_found(vectors, "write to my colleague by email")) == 1


def test_a_word_decides_between_texts_of_equal_meaning(model: WordLlama) -> None:
    found = _found(_filled(model, WEATHER, WEATHER), "weather forecast", 0, 50)
    assert found[1] > found[0] > 0


def test_a_text_with_a_word_is_always_found(model: WordLlama) -> None:
    """Even where the model sees nothing in it; and nothing is found that has neither."""
    vectors = _filled(model, "查询天气: 返回城市的天气", *TEXTS)
    assert _found(vectors, "我想查天气", 20).keys() == {0}
    assert _found(vectors, "xyzzy plugh") == {}
    assert _found(vectors, "…") == {}
    assert _found(VectorTable(model), "weather") == {}


def test_what_is_not_in_the_list_changes_nothing_in_it(model: WordLlama) -> None:
    """All scores are the same to the last bit."""
    shared = _filled(model, *TEXTS, "weather: What is the weather? What is the weather?")
    alone = _filled(model, *TEXTS)
    found = _found(shared, "what is the weather", 50, 10, members=[2, 1, 1, 0])
    assert found == _found(alone, "what is the weather", 50, 10)


def test_a_text_that_changes_or_goes_is_one_row(model: WordLlama) -> None:
    vectors = _filled(model, *TEXTS)
    vectors.put(0, MAIL)
    vectors.drop(1)
    vectors.drop(7)
    vectors.put(1, WEATHER)
    vectors.drop(0)
    vectors.put(0, GIT)
    assert _found(vectors, "weather forecast").keys() == {1}
    assert _found(vectors, "git commit").keys() == {0, 2}
    assert len(vectors) == 3


def test_one_that_has_no_vector_yet_is_found_by_its_words(model: WordLlama) -> None:
    """It has a number beyond the table."""
    found = _filled(model, WEATHER).blend("weather", [0] * 500 + [50], 100, [1] * 501)
    assert found.keys() == {0, 500}


def test_a_distinct_text_takes_less_than_a_third_of_a_kilobyte(model: WordLlama) -> None:
    vectors = _filled(model, *(f"tool {number}: {WEATHER}" for number in range(2000)))
    assert vectors.nbytes / len(vectors) < 300


def test_bytes_are_exact_enough(model: WordLlama) -> None:
    """The scores by vectors in bytes are those by whole ones to a hundredth."""
    texts = [f"{verb} {noun}: {verb} the {noun}" for verb in _VERBS for noun in _NOUNS]
    vectors = _filled(model, *texts)
    (question,), rows = model.embed(["delete a file"]), model.embed(texts)
    exact = rows @ question / np.linalg.norm(rows, axis=1) / np.linalg.norm(question)
    found = _found(vectors, "delete a file")
    assert len(found) > 5
    for number, score in found.items():
        assert score / WHOLE == pytest.approx(min(0.4 * exact[number] / 0.55, 0.4), abs=0.005)


_VERBS = ("read", "write", "remove", "list", "rename", "compress")
_NOUNS = ("file", "folder", "invoice", "calendar", "picture", "table")


def test_a_word_that_is_repeated_counts_less_each_time(model: WordLlama) -> None:
    once, often = model.embed(["weather forecast", "weather forecast " + 199 * "weather "])
    assert 1 < np.linalg.norm(often) / np.linalg.norm(once) < 15


def test_a_text_of_which_the_model_knows_nothing_is_zero(model: WordLlama) -> None:
    assert not model.embed(["", "...", "天气", "\x00\ufffd"]).any()
    assert model.embed(["weather 天气"]).any()
