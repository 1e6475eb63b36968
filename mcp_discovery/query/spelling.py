"""The words that are one slip of the fingers from another."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Final

#: The shortest and the longest word that is taken for a misspelled one, in letters.
_SHORTEST, _LONGEST = 4, 24
_LETTERS: Final = string.ascii_lowercase


def misspelled(word: str) -> Iterator[str]:
    """What may be meant by ``word``: a letter left out, one too many, another one, or two that
    changed places. Nothing for short words and for those with digits.

    https://norvig.com/spell-correct.html
    """
    if not _SHORTEST <= len(word) <= _LONGEST or not word.isalpha():
        return
    letters = _LETTERS if word.isascii() else _LETTERS + "".join(sorted(set(word) - {*_LETTERS}))
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        if after:
            yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]
        for letter in letters:
            yield before + letter + after
            if after:
                yield before + letter + after[1:]
