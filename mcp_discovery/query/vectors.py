"""What texts mean, as vectors, and how that is weighed with the words that they have.

One table of vectors is shared by all lists of a process. A score depends on nothing but the text,
the question and how rare its words are in the list, so what a caller may not see changes nothing.

A score is the sum, 0.4 to 0.6, of two parts from 0 to 1: the cosine of text and question, of
which :data:`_SAME` is the most that counts, and the square root of what the words say, as a part of
the most that they could. The figures were fitted on BFCL v4 (``docs/search.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.query.corpus import WHOLE
from mcp_discovery.query.embedding import Embedder

_MEANING: Final = 0.4
#: The least cosine with which a text is found that has none of the words.
_NEAR: Final = 0.3
#: The cosine from which a text is as near as can be: one that repeats the question gains nothing.
_SAME: Final = 0.55
#: How many texts are compared at a time: their numbers as floats stay in the processor's cache.
_AT_ONCE: Final = 512
#: By how many rows at least the table grows.
_MORE: Final = 64

Matrix = NDArray[np.float32]


class VectorTable:
    """The vectors of texts by number, in a byte for each dimension, of one embedder."""

    def __init__(self, embedder: Embedder) -> None:
        """Raises :class:`InvalidInputError` where the embedder is none."""
        _unit(embedder, ["one text"])
        self._embedder = embedder
        self._rows = np.zeros((0, embedder.dimensions), np.int8)
        self._scales = np.zeros(0, np.float32)

    def __len__(self) -> int:
        """How many texts have a vector; not those of which the model knows nothing."""
        return int(np.count_nonzero(self._scales))

    @property
    def nbytes(self) -> int:
        """How many bytes the vectors take."""
        return self._rows.nbytes + self._scales.nbytes

    def put(self, number: int, text: str) -> None:
        """Embeds ``text``, in place of what had its number. Numbers are small: the table is as long
        as the greatest."""
        if number >= len(self._scales):
            self._make_room(number + 1)
        (found,) = _unit(self._embedder, [text])
        scale = float(np.abs(found).max()) / 127
        self._rows[number] = np.rint(found / max(scale, 1e-9))
        self._scales[number] = scale

    def drop(self, number: int) -> None:
        """Forgets a text; its number may be given to another."""
        if number < len(self._scales):
            self._scales[number] = 0

    def blend(
        self, question: str, by_words: Sequence[int], most: int, members: Sequence[int]
    ) -> Mapping[int, int]:
        """The scores, up to :data:`~mcp_discovery.query.index.WHOLE`, of the texts that have a word
        or are near, by number.

        ``by_words`` has what the words say of each text, ``most`` at most, and ``members`` how
        often it is in the list: 0 for one that is not. Raises :class:`InvalidInputError`, as
        :meth:`put` does, where the embedder answers with something else than vectors.
        """
        numbers = np.flatnonzero(np.asarray(members))
        words = np.asarray(by_words, np.float32)[numbers]
        near = self._cosines(_unit(self._embedder, [question])[0], numbers)
        found = (words > 0) | (near >= _NEAR)
        near = np.clip(near[found] / _SAME, 0, 1)
        scores = _MEANING * near + (1 - _MEANING) * np.sqrt(words[found] / most)
        whole = np.rint(scores * WHOLE).astype(np.int64)
        return dict(zip(numbers[found].tolist(), whole.tolist(), strict=True))

    def _cosines(self, question: Matrix, numbers: NDArray[np.intp]) -> Matrix:
        """One for each of the texts; 0 for one that is not known."""
        found = np.zeros(len(numbers), np.float32)
        known = numbers[: np.searchsorted(numbers, len(self._scales))]
        for start in range(0, len(known), _AT_ONCE):
            some = known[start : start + _AT_ONCE]
            found[start : start + len(some)] = self._rows[some].astype(np.float32) @ question
        found[: len(known)] *= self._scales[known]
        return found

    def _make_room(self, length: int) -> None:
        if length > len(self._scales):
            more = max(length - len(self._scales), len(self._scales) // 8, _MORE)
            self._rows = np.concatenate(
                [self._rows, np.zeros((more, self._rows.shape[1]), np.int8)]
            )
            self._scales = np.concatenate([self._scales, np.zeros(more, np.float32)])


def _unit(embedder: Embedder, texts: Sequence[str]) -> Matrix:
    """The vectors of ``texts``, each of the length 1, or 0."""
    answer, shape = embedder.embed(texts), (len(texts), embedder.dimensions)
    try:
        found: Matrix = np.array(answer, np.float32)
    except (TypeError, ValueError):
        found = np.zeros(0, np.float32)
    if found.shape != shape or not np.isfinite(found).all():
        raise InvalidInputError(
            f"the model {embedder.name} answers to {len(texts)} texts with something else than "
            f"{shape} finite numbers; servers and tools are ranked by words alone"
        )
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return found
