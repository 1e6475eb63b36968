"""Full-text search over instances: those that have all words of a search, with their scores.

Indexed are names, titles, descriptions, tags and names of tools, which records have, and the
descriptions of tools, which capability documents have and which may become known later. A word of a
search matches each word of a text that begins with it.

The score of an instance depends on its own texts alone, and the descriptions of tools have the
least weight. So neither another instance nor a document that becomes known later changes the order
of the other results.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeAlias, TypeVar

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.record import Record

#: The weight of a word by the field that it is in; a match of its beginning counts half.
NAME, TITLE, TAG, TOOL, DESCRIPTION = 16, 12, 10, 8, 4
#: The weight of a word in a tool's description, whole or not: less than in any other field.
TOOL_DESCRIPTION = 1
#: The number of characters of a document's descriptions that are indexed.
_DOCUMENT_TEXT = 100_000
#: The number of characters that are normalized at a time.
_PIECE = 128

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

K = TypeVar("K", bound=Hashable)
Weights: TypeAlias = Mapping[str, int]


class _Text:
    """The indexed texts of a record. The hash is computed once: each of the words needs it."""

    __slots__ = ("_hash", "parts")

    def __init__(self, record: Record) -> None:
        title, tools = record.title or "", record.capabilities.tools
        self.parts = (record.name, title, record.description, record.tags, tools)
        self._hash = hash(self.parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and self.parts == other.parts


def words(text: str) -> list[str]:
    """The words of ``text``, case-folded: ``readFile`` and ``read_file`` are two words each."""
    spaced = _HUMP.sub(" ", text if text.isascii() else _normalized(text))
    return [found.casefold() for found in _WORD.findall(spaced)]


def _normalized(text: str) -> str:
    """``text`` in NFKC, word by word and long words in pieces: the time of the normalization grows
    with the square of a run of combining characters."""
    return " ".join(
        "".join(
            unicodedata.normalize("NFKC", word[at : at + _PIECE])
            for at in range(0, len(word), _PIECE)
        )
        for word in text.split()
    )


class TextIndex:
    """A full-text index of a list that changes."""

    def __init__(self) -> None:
        self._texts: Postings[_Text] = Postings()
        self._documents: Postings[str] = Postings()
        self._known: dict[str, tuple[_Text, str | None]] = {}
        # Instances of one server mostly have equal texts, which are indexed once.
        self._by_text: defaultdict[_Text, set[str]] = defaultdict(set)
        self._by_digest: defaultdict[str, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def ids(self) -> Iterable[str]:
        """The ids of the indexed instances."""
        return self._known.keys()

    def put(self, record: Record) -> None:
        """Adds an instance, or replaces the texts that it had."""
        text = _Text(record)
        digest = record.capabilities.digest
        if self._known.get(record.id) == (text, digest):
            return
        self.remove(record.id)
        self._known[record.id] = text, digest
        if text not in self._by_text:
            self._texts.add(text, _weights(text))
        self._by_text[text].add(record.id)
        if digest is not None:
            self._by_digest[digest].add(record.id)

    def remove(self, id: str) -> None:
        """Removes an instance, if it is indexed."""
        text, digest = self._known.pop(id, (None, None))
        if text is not None:
            _forget(id, text, self._by_text, self._texts)
        if digest is not None:
            _forget(id, digest, self._by_digest, self._documents)

    def undescribed(self) -> list[str]:
        """The digests of documents whose descriptions are not known yet."""
        return [digest for digest in self._by_digest if digest not in self._documents]

    def describe(self, digest: str, document: CapabilityDocument | None) -> None:
        """Indexes the descriptions of the tools in a document; ``None`` for one that is lost."""
        if digest not in self._by_digest or digest in self._documents:
            return
        found: set[str] = set()
        left = _DOCUMENT_TEXT
        for tool in document.tools if document is not None else ():
            text = tool.get("description")
            if isinstance(text, str) and left > 0:
                found.update(words(text[:left]))
                left -= len(text)
        self._documents.add(digest, dict.fromkeys(found, TOOL_DESCRIPTION))

    def search(self, wanted: Sequence[str]) -> dict[str, int]:
        """The scores, by id, of the instances that have all of the words ``wanted``."""
        scores: dict[str, int] = {}
        for number, word in enumerate(dict.fromkeys(wanted)):
            found = self._having(word)
            if number:
                found = {id: score + scores[id] for id, score in found.items() if id in scores}
            scores = found
            if not scores:
                break
        return scores

    def _having(self, word: str) -> dict[str, int]:
        scores: dict[str, int] = {}
        for digest in self._documents.find(word):
            scores.update(dict.fromkeys(self._by_digest[digest], TOOL_DESCRIPTION))
        for text, weight in self._texts.find(word).items():
            scores.update(dict.fromkeys(self._by_text[text], weight))
        return scores


class Postings(Generic[K]):
    """An inverted index: the keys that have a word, with their weights; the words are sorted, so
    that those with one beginning are found together."""

    def __init__(self) -> None:
        self._having: dict[str, dict[K, int]] = {}
        self._words: list[str] = []
        self._of: dict[K, tuple[str, ...]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._of

    def add(self, key: K, weights: Weights) -> None:
        """Adds a new ``key`` with the weights of its words."""
        for word, weight in weights.items():
            having = self._having.get(word)
            if having is None:
                having = self._having[word] = {}
                insort(self._words, word)
            having[key] = weight
        self._of[key] = tuple(weights)

    def remove(self, key: K) -> None:
        """Removes ``key``, if it is indexed."""
        for word in self._of.pop(key, ()):
            having = self._having[word]
            del having[key]
            if not having:
                del self._having[word]
                del self._words[bisect_left(self._words, word)]

    def find(self, word: str) -> Mapping[K, int]:
        """The keys that have ``word``, or one that begins with it, each with its best weight."""
        start = end = bisect_left(self._words, word)
        while end < len(self._words) and self._words[end].startswith(word):
            end += 1
        begun = self._words[start:end]
        if begun == [word]:
            return self._having[word]
        best: dict[K, int] = {}
        for found in begun:
            share = 1 if found == word else 2
            for key, weight in self._having[found].items():
                value = max(weight // share, 1)
                if value > best.get(key, 0):
                    best[key] = value
        return best


def _forget(id: str, key: K, ids: dict[K, set[str]], postings: Postings[K]) -> None:
    ids[key].discard(id)
    if not ids[key]:
        del ids[key]
        postings.remove(key)


def _weights(text: _Text) -> Weights:
    name, title, description, tags, tools = text.parts
    weights: dict[str, int] = {}
    texts = ((NAME, (name,)), (TITLE, (title,)), (TAG, tags), (TOOL, tools))
    for weight, of_field in (*texts, (DESCRIPTION, (description,))):
        for word in chain.from_iterable(map(words, of_field)):
            weights.setdefault(word, weight)
    return weights
