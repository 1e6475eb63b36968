"""Tokens: counted with a real tokenizer, and bounded from above without one."""

from __future__ import annotations

import string
from collections.abc import Iterator
from random import Random

import pytest

from mcp_discovery import tokens
from mcp_discovery.tokens import BYTES, TokenCounter, token_counter


def hostile() -> Iterator[str]:
    """Texts of which a token is as short as it can be, and texts that break encoders."""
    random = Random(17)
    for alphabet in (string.ascii_letters, string.digits, string.punctuation, "\t\n \r"):
        yield "".join(random.choice(alphabet) for _ in range(2_000))
    for low, high in ((0x4E00, 0x9FFF), (0x1F300, 0x1F6FF), (0x300, 0x36F), (0xA0, 0x24F)):
        yield "".join(chr(random.randint(low, high)) for _ in range(500))
    yield from ("", "a", "0" * 1_000, "<s></s>" * 50, "half a character: \ud83d", "\0\x7f")


def test_it_is_counted_with_the_tokenizer_that_is_named() -> None:
    counter = token_counter()
    assert (counter.name, counter.exact) == ("Llama 2 tokenizer", True)
    assert counter.count("Find tools that convert a PDF file to text.") == 10
    assert counter.counts(["weather", "", "天気"]) == [1, 0, 3]


def test_the_bound_is_never_exceeded() -> None:
    counter = token_counter()
    for text in hostile():
        assert counter.count(text) <= BYTES.count(text), text[:40]


@pytest.mark.parametrize("counter", [BYTES, token_counter()], ids=["bytes", "tokenizer"])
def test_as_many_texts_as_fit(counter: TokenCounter) -> None:
    texts = [f"tool number {number}" for number in range(200)]
    for budget in (0, 1, 50, 999, 10**9):
        fit = counter.most_that_fit(texts, budget)
        assert counter.count("\n".join(texts[:fit])) <= max(budget, 1)
        if fit < len(texts):
            assert sum(counter.counts(texts[: fit + 1])) + fit + 1 > budget
    assert counter.most_that_fit(texts, 10**9) == len(texts)


def test_without_the_extra_bytes_are_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "find_spec", lambda name: None)
    monkeypatch.setattr(tokens, "llama_tokenizer", tokens.llama_tokenizer.__wrapped__)
    assert token_counter.__wrapped__() is BYTES
