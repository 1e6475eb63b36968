"""What a question finds: scores, and why in one line."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from mcp_discovery.query.question import MAX_WORDS, Question

K = TypeVar("K", bound=Hashable)
#: How rare each word of a question is.
Scales: TypeAlias = tuple[int, ...]


def are_scales(values: Sequence[object]) -> bool:
    """Whether ``values`` may be the scales of a ranking."""
    return len(values) <= MAX_WORDS and all(
        type(each) is int and 0 <= each < 10**6 for each in values
    )


class Hits(NamedTuple):
    """What a question finds, by the number of the text; 0: nothing. A hit is the score, and below
    it two bits for each word of the question: whether the text has it, and whether in its name."""

    by_number: list[int]
    shift: int
    scales: Scales
    #: The greatest score that a text can have.
    ceiling: int
    #: What a word was taken for that is nowhere, by its position in the question.
    meant: Mapping[int, str]

    @property
    def every(self) -> int:
        """The bits of a hit that has every word."""
        return ((1 << self.shift) - 1) // 3

    def together(self, own: int, numbers: Iterable[int]) -> int:
        """The hit of a server whose texts are ``numbers``, and ``own`` what it says of itself."""
        bits = best = 0
        for number in numbers:
            hit = self.by_number[number]
            bits |= hit
            if number != own and hit > best:
                best = hit
        score = (self.by_number[own] >> self.shift) + (best >> self.shift)
        return score << self.shift | bits & ((1 << self.shift) - 1)


class Ranking(Generic[K]):
    """What a question finds, by key. Greater scores are better; equal ones are equally good."""

    def __init__(self, question: Question, found: Mapping[K, int], hits: Hits) -> None:
        self.question = question
        self._hits = found
        self._shift = hits.shift
        self._ceiling = hits.ceiling
        self._meant = hits.meant
        #: How rare each word is; with these a later question finds the same order.
        self.scales = hits.scales

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[K]:
        return iter(self._hits)

    def __contains__(self, key: object) -> bool:
        return key in self._hits

    def score(self, key: K) -> int:
        """The score of ``key``; 0 where it was not found."""
        return self._hits.get(key, 0) >> self._shift

    def share(self, key: K) -> float:
        """The score as a part, from 0 to 1, of the greatest that a text could have."""
        return min(1.0, self.score(key) / self._ceiling)

    @property
    def taken_for(self) -> Mapping[str, str]:
        """What words of the question, which are nowhere, were taken for: given → meant."""
        words = self.question.words
        return {words[number].shown: meant for number, meant in self._meant.items()}

    def why(self, key: K) -> str:
        """Why it was found: ``matched: weather, forecast (name); 2 of 3 words``."""
        hit = self._hits.get(key, 0)
        named: list[str] = []
        other: list[str] = []
        for number, word in enumerate(self.question.words):
            bits = hit >> 2 * number & 3
            if bits:
                meant = self._meant.get(number)
                shown = word.shown if meant is None else f"{meant} for {word.shown}"
                (named if bits & 2 else other).append(shown)
        if not named and not other:
            return "close in meaning"
        listed = ", ".join(([f"{', '.join(named)} (name)"] if named else []) + other)
        number = len(self.question.words)
        noun = "word" if number == 1 else "words"
        return f"matched: {listed}; {len(named) + len(other)} of {number} {noun}"
