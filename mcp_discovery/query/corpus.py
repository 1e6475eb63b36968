"""The texts that are searched, analyzed and indexed once for all lists of one facade.

A text is one definition of a tool or a skill at one server, or what a server says of itself. The
impact of a word in a text depends on that text alone, so that one that comes or goes costs what its
own words cost.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol, TypeAlias
from weakref import WeakValueDictionary

import orjson
from cachetools import LRUCache

from mcp_discovery.document import CapabilityDocument, Kind, text_of
from mcp_discovery.query import search_fields
from mcp_discovery.query.search_fields import Weights, weights
from mcp_discovery.record import Record

#: How soon a word that a text says more of counts no more (BM25's k1).
K1: Final = 1.2
#: In how many steps the impact of a word is counted, from 0 on.
STEPS: Final = 127
#: The score of a text that could not be better, where words and meaning are ranked together.
WHOLE: Final = 1 << 20
#: Of how many definitions the weights are cached: servers share some.
_CACHED = 64
_NONE = array("I")


class ServerText:
    """What a server says of itself. Equal ones are one object within a corpus."""

    __slots__ = ("__weakref__", "name", "record")

    def __init__(self, record: Record) -> None:
        self.name = record.name
        self.record = record


class Text(NamedTuple):
    """What a text of a corpus is of: a tool or a skill, with the digest of its definition where
    that is known, or the server itself, with an empty ``name``."""

    server: ServerText
    name: str
    digest: str | None
    kind: Kind | None = None


#: The kinds whose descriptions are searched, and the definitions of these in a document by kind and
#: name: their digests and themselves.
SEARCHED: Final[tuple[Kind, ...]] = ("tool", "skill")
Definitions: TypeAlias = Mapping[tuple[Kind, str], tuple[str, Mapping[str, Any]]]


def definitions_in(document: CapabilityDocument) -> Definitions:
    """The definitions in a document; a tool that was posted by name alone has none."""
    found: dict[tuple[Kind, str], tuple[str, Mapping[str, Any]]] = {}
    offered = document.by_kind()
    for kind, item in chain.from_iterable(((k, i) for i in offered[k]) for k in SEARCHED):
        name = text_of(item, "name")
        if name and len(item) > 1 and (kind, name) not in found:
            canonical = orjson.dumps(item, option=orjson.OPT_SORT_KEYS, default=dict)
            found[kind, name] = hashlib.sha256(canonical).hexdigest(), item
    return found


class Vectors(Protocol):
    """What a model knows of the meaning of texts, by their numbers in one corpus.

    ``blend``, once it ``is_ready``, takes the score by words of each text, the greatest that there
    could be, and how often each text is in the list; it returns the scores of all that are found,
    by words or by meaning, up to :data:`WHOLE`, or ``None`` where the model fails.
    """

    @property
    def is_ready(self) -> bool: ...

    def put(self, number: int, server: Record, tool: Mapping[str, Any] | None) -> None: ...

    def drop(self, number: int) -> None: ...

    def blend(
        self, question: str, by_words: Sequence[int], most: int, members: Sequence[int]
    ) -> Mapping[int, int] | None: ...


class Corpus:
    """The texts of one facade, each with how many lists have it."""

    def __init__(self, vectors: Vectors | None = None) -> None:
        self.vectors = vectors
        #: The texts by number; a new list whenever numbers are given to others.
        self.texts: list[Text | None] = []
        #: Of each word, sorted: ``number << 8 | impact << 1 | whether it is in the name``.
        self.postings: dict[str, array[int]] = {}
        self._numbers: dict[Text, int] = {}
        #: The numbers of the texts that are no tool's.
        self.others: set[int] = set()
        self._lists = array("I")
        self._free: list[int] = []
        self._dead: set[int] = set()
        self._servers: WeakValueDictionary[tuple[object, ...], ServerText] = WeakValueDictionary()
        self._sorted: list[str] = []
        self._sweeping: Iterator[None] | None = None
        self._of_tools: LRUCache[str, Weights] = LRUCache(_CACHED)
        self._of_servers: LRUCache[ServerText, Weights] = LRUCache(_CACHED)

    def __len__(self) -> int:
        """How many texts are in the postings."""
        return len(self.texts) - len(self._free)

    @property
    def knows_meaning(self) -> bool:
        """Whether texts are found by their meaning, too."""
        return self.vectors is not None and self.vectors.is_ready

    def server(self, record: Record) -> ServerText:
        """What ``record`` says of its server."""
        key = (
            *(record.name, record.title, record.description, record.tags),
            record.example_queries,
        )
        found = self._servers.get(key)
        if found is None:
            found = self._servers[key] = ServerText(record)
        return found

    def number(self, text: Text, tool: Mapping[str, Any] | None) -> int:
        """The number of ``text``, which a list is to hold at once; ``tool`` is the definition."""
        number = self._numbers.get(text)
        return self._add(text, tool) if number is None else number

    def hold(self, number: int) -> None:
        """One list more has the text."""
        self._lists[number] += 1
        self._dead.discard(number)

    def release(self, number: int) -> None:
        """One list less has the text."""
        self._lists[number] -= 1
        if not self._lists[number]:
            self._dead.add(number)

    def sweep(self, least: int = 1) -> Iterator[None]:
        """Takes the texts that no list has out of the postings, in short steps, where there are
        ``least`` of them. A search is a little faster then. What is left undone is done the next
        time."""
        if self._sweeping is None and len(self._dead) >= least:
            self._sweeping = self._swept()
        while self._sweeping is not None:
            if next(self._sweeping, self) is self:
                self._sweeping = None
            yield

    def _swept(self) -> Iterator[None]:
        gone, self._dead = self._dead, set()
        for number in gone:
            text = self.texts[number]
            assert text is not None
            del self._numbers[text]
            self.others.discard(number)
            if self.vectors is not None:
                self.vectors.drop(number)
        for word in list(self.postings):
            known = self.postings.get(word, _NONE)
            kept = array("I", [each for each in known if each >> 8 not in gone])
            if not kept:
                self.postings.pop(word, None)
            elif len(kept) < len(known):
                self.postings[word] = kept
            yield
        self._sorted = [word for word in self._sorted if word in self.postings]
        self.texts = [None if number in gone else it for number, it in enumerate(self.texts)]
        self._free = sorted((*self._free, *gone), reverse=True)

    def beginning(self, start: str) -> Sequence[str]:
        """The words that begin with ``start``."""
        low = bisect_left(self._sorted, start)
        high = bisect_left(self._sorted, start + "\U0010ffff", low)
        return self._sorted[low:high]

    def _add(self, text: Text, tool: Mapping[str, Any] | None) -> int:
        if self._free:
            number = self._free.pop()
            self.texts[number] = text
        else:
            number = len(self.texts)
            self.texts.append(text)
            self._lists.append(0)
        self._numbers[text] = number
        if text.kind != "tool":
            self.others.add(number)
        of, names = self._weights(text, tool)
        for word, weight in of.items():
            impact = max(1, round(weight / (K1 + weight) * STEPS))
            posting = number << 8 | impact << 1 | (word in names)
            known = self.postings.get(word)
            if known is None:
                self.postings[word] = array("I", (posting,))
                at = bisect_left(self._sorted, word)
                if self._sorted[at : at + 1] != [word]:
                    self._sorted.insert(at, word)
            elif posting > known[-1]:
                known.append(posting)
            else:
                insort(known, posting)
        if self.vectors is not None:
            self.vectors.put(number, text.server.record, tool)
        return number

    def _weights(self, text: Text, tool: Mapping[str, Any] | None) -> Weights:
        if tool is None:
            return weights(search_fields.SERVER_FIELDS, text.server.record)
        own = None if text.digest is None else self._of_tools.get(text.digest)
        if own is None:
            own = weights(search_fields.TOOL_FIELDS, tool)
            if text.digest is not None:
                self._of_tools[text.digest] = own
        of_server = self._of_servers.get(text.server)
        if of_server is None:
            of_server = weights(search_fields.SERVER_FIELDS_OF_TOOLS, text.server.record)
            self._of_servers[text.server] = of_server
        of = dict(own.of)
        for word, weight in of_server.of.items():
            of[word] = of.get(word, 0.0) + weight
        return Weights(of, own.names)
