"""What is asked in words: a sentence, some words, or the beginning of one while it is typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from mcp_discovery.query.words import STOP_WORDS, stem, words

#: How many characters of a question are read; the longest one a program may send.
MAX_TEXT: Final = 4000
#: How many different words of a question count: the first ones.
MAX_WORDS: Final = 64


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a question: as it is shown, and its stem, by which it is found."""

    shown: str
    term: str


@dataclass(frozen=True)
class Question:
    """A text that is searched for; equal questions are answered alike. ``match`` says
    whether a result has ``any`` of its words, the best first, or ``all`` of them."""

    text: str
    match: str = "any"

    @cached_property
    def words(self) -> Sequence[Word]:
        """The words that count, each once: those that say what is wanted, or all where none does.
        Empty where there are only signs."""
        said = [word for word, again in words(self.text[:MAX_TEXT]) if not again]
        telling = [word for word in said if word not in STOP_WORDS]
        found: dict[str, Word] = {}
        for word in telling or said:
            term = stem(word)
            found.setdefault(term, Word(word, term))
        return tuple(found.values())[:MAX_WORDS]

    @cached_property
    def is_open(self) -> bool:
        """Whether the last word may be the beginning of a longer one: the text ends with it."""
        end = self.text[:MAX_TEXT][-1:]
        return end.isalnum()
