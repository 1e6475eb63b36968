"""The words of a text as the search compares them: folded, split, without endings.

Each word is lower case, without accents (NFKC), and reduced to its stem by the Snowball stemmer for
English; ``readFile`` and ``read_file`` are two words, and ``GitHub`` is also found as ``github``.
What is written without spaces, as Chinese and Japanese are, is cut into pairs of characters that
overlap.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import Stemmer

#: The longest word, in characters: a longer one is cut.
MAX_WORD: Final = 40
#: The number of characters that are normalized at a time.
_PIECE: Final = 128

_ASCII: Final = re.compile(r"[A-Za-z0-9]+")
_WORD: Final = re.compile(r"[^\W_]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: The scripts that are written without spaces, or with endings that no stemmer here knows: kana,
#: Han, Hangul, Thai, Lao, Khmer, Burmese.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_ACCENTS: Final = re.compile("[\u0300-\u036f]+")
_SNOWBALL: Final = Stemmer.Stemmer("english", 0)

_STOP: Final = """
    a about after all also am an and any are as at be because been before being between both but by
    can cannot could d did do does doing don done down during each for from further get gets give
    had has have having he help her here hers him his how i if im in into is it its itself just ll
    let like m make me more most my myself need needs no nor not now of off on once only or other
    our ours out over own please re s same shall she should so some such t than that the their
    theirs them then there these they this those through to too under until up us use using ve very
    via want wants was we were what whats when where which while who whom whose why will with would
    you your yours anything everything lot lots many much someone something used using given gave
    one ensure sure thank thanks hello hi kindly
"""
#: Words that say how something is asked for, not what. A question is searched without them, unless
#: it has no others.
STOP_WORDS: Final = frozenset(_STOP.split())


def words(text: str) -> Iterator[tuple[str, bool]]:
    """The words of ``text`` in order, lower case, and whether each is only another way to read the
    words before it, as ``github`` is of ``Git`` and ``Hub``."""
    if text.isascii():
        found = _ASCII.findall(text)
    else:
        text = _folded(text)
        found = _WORD.findall(text)
    for word in found:
        word = word[:MAX_WORD]
        if not word.isascii() and _UNSPACED.search(word):
            yield from _cut(word)
        elif word.islower() or word.isupper() or word.istitle() or word.isdigit():
            yield word.casefold(), False
        else:
            parts = _HUMP.split(word)
            for part in parts:
                yield part.casefold(), False
            if len(parts) > 1:
                yield word.casefold(), True


def _cut(word: str) -> Iterator[tuple[str, bool]]:
    at = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > at:
            yield word[at : run.start()].casefold(), False
        characters = run[0]
        for first in range(max(len(characters) - 1, 1)):
            yield characters[first : first + 2], False
        at = run.end()
    if at < len(word):
        yield word[at:].casefold(), False


@lru_cache(4096)
def stem(word: str) -> str:
    """``word``, as :func:`words` gives it, without its ending."""
    stemmed: str = _SNOWBALL.stemWord(word)
    return stemmed


def _folded(text: str) -> str:
    """``text`` in NFKC without accents and without characters that are not seen, word by word and
    long words in pieces: the time of the normalization grows with the square of a run of combining
    characters."""
    return " ".join(
        "".join(_plain(word[at : at + _PIECE]) for at in range(0, len(word), _PIECE))
        for word in text.split()
    )


def _plain(piece: str) -> str:
    if piece.isascii():
        return piece
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", piece))
    plain = unicodedata.normalize("NFKC", plain)
    return "".join(each for each in plain if unicodedata.category(each) != "Cf")
