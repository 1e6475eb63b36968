"""The words of a text: how it is cut, folded and stemmed."""

from __future__ import annotations

import pytest

from mcp_discovery.query.question import MAX_WORDS, Question
from mcp_discovery.query.spelling import misspelled
from mcp_discovery.query.words import MAX_WORD, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("readFile read_file READ-FILE", "read file (readfile) read file read file"),
        ("GitHub, HTTPServer v2.1", "git hub (github) http server (httpserver) v2 1"),
        ("Größe ﬁle Zürich", "grosse file zurich"),
        ("Météo de l'été", "meteo de l ete"),
        ("we\u200bath\u00ader", "weather"),
        ("商品", "商品"),
        ("今天天气", "今天 天天 天气"),
        ("東京のweather", "東京 京の weather"),
        ("猫", "猫"),
        ("날씨를", "날씨 씨를"),
        ("погода", "погода"),
        ("… !", ""),
        ("x" * 100, "x" * MAX_WORD),
    ],
)
def test_words(text: str, found: str) -> None:
    said = [f"({word})" if again else word for word, again in words(text)]
    assert " ".join(said) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is the weather tomorrow?", "weather tomorrow"),
        ("search products, products", "search products"),
        ("To be, or not to be", "to be or not"),  # there is nothing else
        ("I'd like to book flights", "book flights"),
        ("GitHub issues", "git hub issues"),
    ],
)
def test_the_words_that_say_what_is_wanted(text: str, found: str) -> None:
    assert " ".join(each.shown for each in Question(text).words) == found


def test_an_endless_question_counts_in_part() -> None:
    assert len(Question(" ".join(f"word{number}" for number in range(1000))).words) == MAX_WORDS


@pytest.mark.parametrize("slip", ["forcast", "forrecast", "forecost", "foercast", "orecast"])
def test_what_is_meant_by_a_slip(slip: str) -> None:
    assert "forecast" in set(misspelled(slip))


@pytest.mark.parametrize("text", ["cat", "2024", "sha256", "w" * 30])
def test_what_is_too_short_or_no_word_is_not_corrected(text: str) -> None:
    assert list(misspelled(text)) == []
