"""The index in which tools and servers are found by words, and their scores.

A :class:`SearchIndex` is over the list of some callers: which texts of a :class:`Corpus` are in
their list, and how many of these have a word. Nothing else goes into a result, so that what a
caller may not see changes nothing in it. The score of a text is the sum, over the words of the
question that it has, of the word's inverse document frequency and its impact there.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from itertools import compress
from typing import Any, Final, TypeAlias, TypeVar

from mcp_discovery.document import Kind
from mcp_discovery.query.corpus import SEARCHED, STEPS, WHOLE, Corpus, Definitions, ServerText, Text
from mcp_discovery.query.question import MAX_TEXT, Question, Word
from mcp_discovery.query.ranking import Hits, Ranking, Scales
from mcp_discovery.query.spelling import misspelled
from mcp_discovery.record import Record

#: What a word counts that only begins as the question's does, or is one letter off.
PREFIX, MISSPELLED = 0.5, 0.7
#: Up to how many words the last one of a question is taken for a beginning as well.
_FEW = 3
#: How many words that begin as a question's does are searched for, the shortest ones.
_MOST_BEGUN = 64
#: How many words are tried for one that is misspelled.
_MOST_MEANT = 2
#: How long a stem is at least, and how much longer a word may be whose ending is not finished.
_STEM, _ENDING = 5, 5
#: In how many steps the rarity of a word is counted.
_SCALE: Final = 1 << 10
#: Postings are swept once so many texts are dead and more than one in ``_SHARE`` of all.
_DEAD, _SHARE = 256, 8
_NONE = array("I")

K = TypeVar("K")
#: The name of a tool or a skill, its server's, and the digest of its definition, or ``None`` where
#: not known.
ToolKey: TypeAlias = tuple[str, str, str | None]


@dataclass(slots=True)
class _Version:
    """Instances that say the same of their server and offer the same tools and skills."""

    server: ServerText
    offered: tuple[tuple[str, ...], ...]
    digest: str | None
    ids: set[str] = field(default_factory=set)
    #: The server's own text first.
    numbers: array[int] = field(default_factory=partial(array, "I"))
    is_described: bool = False

    def names(self) -> Iterator[tuple[Kind, str]]:
        """What it offers, in the order of ``numbers``."""
        both = zip(SEARCHED, self.offered, strict=True)
        return ((kind, name) for kind, names in both for name in names)


class SearchIndex:
    """Finds tools, skills and servers in one list that changes."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._of: dict[str, _Version] = {}
        self._versions: dict[tuple[object, ...], _Version] = {}
        self._by_server: defaultdict[ServerText, list[_Version]] = defaultdict(list)
        self._by_digest: defaultdict[str, list[_Version]] = defaultdict(list)
        self._undescribed: dict[str, None] = {}
        #: How many versions have a text, by its number.
        self._members = array("I")
        self._texts = 0
        self._todo: deque[Iterator[None]] = deque()

    def __len__(self) -> int:
        return len(self._of)

    @property
    def ids(self) -> Iterable[str]:
        """The ids of the indexed instances."""
        return self._of.keys()

    def put(self, record: Record) -> None:
        """Adds an instance, or replaces what it said before; done by :meth:`work`.

        Its tools and skills are known by name alone until :meth:`describe` has their document.
        """
        server, capabilities = self._corpus.server(record), record.capabilities
        key = server, (capabilities.tools, capabilities.skills), capabilities.digest
        before, version = self._of.get(record.id), self._versions.get(key)
        if version is None:
            version = self._versions[key] = _Version(*key)
            self._by_server[server].append(version)
            if version.digest is not None:
                self._by_digest[version.digest].append(version)
                self._undescribed[version.digest] = None
            self._todo.append(self._fill(version))
        elif version is before:
            return
        version.ids.add(record.id)
        self._of[record.id] = version
        if before is not None:
            self._leave(record.id, before)

    def remove(self, id: str) -> None:
        """Removes an instance, if it is indexed; done by :meth:`work`."""
        version = self._of.pop(id, None)
        if version is not None:
            self._leave(id, version)

    def work(self) -> Iterator[None]:
        """Does what is to be done, in short steps. What is left undone is done the next time."""
        while self._todo:
            try:
                next(self._todo[0])
            except StopIteration:
                self._todo.popleft()
            except BaseException:
                self._todo.popleft()
                raise
            yield
        yield from self._corpus.sweep(max(_DEAD, len(self._corpus) // _SHARE))

    def undescribed(self) -> list[str]:
        """The digests of documents whose definitions of tools are not known yet."""
        return list(self._undescribed)

    def is_described(self, digest: str) -> bool:
        """Whether nothing is to be known from the document with ``digest``."""
        return digest not in self._undescribed

    def describe(self, digest: str, definitions: Definitions) -> Iterator[None]:
        """Indexes the definitions in a document, in short steps, each of which may be the last;
        none for a document that is lost."""
        for version in list(self._by_digest.get(digest, ())):
            if version.is_described:
                continue
            if len(version.numbers) <= sum(map(len, version.offered)):
                continue  # it came just now, and is described the next time
            for at, key in enumerate(version.names(), start=1):
                if not version.ids:
                    break  # it is gone
                if key in definitions:
                    own, definition = definitions[key]
                    text = Text(version.server, key[1], own, key[0])
                    before = version.numbers[at]
                    version.numbers[at] = self._hold(text, definition)
                    self._release(before)
                    yield
            version.is_described = True
        self._check(digest)

    def close(self) -> None:
        """Leaves the corpus."""
        for number, versions in enumerate(self._members):
            if versions:
                self._corpus.release(number)

    def _leave(self, id: str, version: _Version) -> None:
        version.ids.discard(id)
        if version.ids:
            return
        del self._versions[version.server, version.offered, version.digest]
        _forget(self._by_server, version.server, version)
        if version.digest is not None:
            _forget(self._by_digest, version.digest, version)
            self._check(version.digest)
        self._todo.append(self._empty(version))

    def _check(self, digest: str) -> None:
        if all(each.is_described for each in self._by_digest.get(digest, ())):
            self._undescribed.pop(digest, None)

    def _fill(self, version: _Version) -> Iterator[None]:
        version.numbers.append(self._hold(Text(version.server, "", None), None))
        for kind, name in version.names():
            text = Text(version.server, name, None, kind)
            version.numbers.append(self._hold(text, {"name": name}))
            yield

    def _empty(self, version: _Version) -> Iterator[None]:
        while version.numbers:
            self._release(version.numbers.pop())
            yield

    def _hold(self, text: Text, tool: Mapping[str, Any] | None) -> int:
        number = self._corpus.number(text, tool)
        if number >= len(self._members):
            self._members.extend([0] * (number + 1 - len(self._members)))
        if not self._members[number]:
            self._corpus.hold(number)
            self._texts += 1
        self._members[number] += 1
        return number

    def _release(self, number: int) -> None:
        self._members[number] -= 1
        if not self._members[number]:
            self._corpus.release(number)
            self._texts -= 1

    # -- searching -----------------------------------------------------------------------------

    def tools(
        self,
        question: Question,
        *,
        scales: Scales | None = None,
        most: int | None = None,
        kind: Kind = "tool",
    ) -> Ranking[ToolKey]:
        """The tools, or what else is of ``kind``, that ``question`` finds, the best first, or at
        least the best ``most`` and all that equal the last of them; ``scales`` are those of an
        earlier ranking."""
        hits = self._search(question, scales)
        found, texts = hits.by_number, self._corpus.texts
        every = hits.every if question.match == "all" else 0
        numbers = list(compress(range(len(found)), found))
        if kind != "tool":
            numbers = [each for each in self._corpus.others if each < len(found) and found[each]]
        elif most is not None and not every:
            for number in self._corpus.others:
                if number < len(found):
                    found[number] = 0
            half = max(found, default=0) // 2
            best = [number for number in numbers if found[number] > half]
            if len(best) < most:
                least = min(nlargest(most, filter(None, found)), default=0)
                best = [number for number in numbers if found[number] >= least]
            numbers = best
        numbers.sort(key=found.__getitem__, reverse=True)
        keyed: dict[ToolKey, int] = {}
        for number in numbers:
            hit, text = found[number], texts[number]
            if text is not None and text.kind == kind and hit & every == every:
                # Of servers that share a name, that of the better one counts.
                keyed.setdefault((text.name, text.server.name, text.digest), hit)
        return Ranking(question, keyed, hits)

    def servers(self, question: Question, *, scales: Scales | None = None) -> Ranking[str]:
        """The ids of the instances that ``question`` finds by what they say of their server or by
        their tools and skills; the score is that of the server's own text and of the best of these
        together. ``scales`` are those of an earlier ranking."""
        hits = self._search(question, scales)
        found, texts = hits.by_number, self._corpus.texts
        every = hits.every if question.match == "all" else 0
        by_server: defaultdict[ServerText, list[int]] = defaultdict(list)
        for number in compress(range(len(found)), found):
            if (text := texts[number]) is not None:
                by_server[text.server].append(number)
        keyed: dict[str, int] = {}
        for server, numbers in by_server.items():
            versions = self._by_server.get(server, ())
            for version in versions:
                if len(versions) > 1:
                    numbers = [number for number in version.numbers if found[number]]
                hit = hits.together(version.numbers[0], numbers)
                if hit and hit & every == every:
                    keyed.update(dict.fromkeys(version.ids, hit))
        return Ranking(question, keyed, hits)

    def cost(self, question: Question) -> int:
        """About how many postings are read for ``question``; to compare a text's meaning takes as
        long as two."""
        postings = self._corpus.postings
        compared = 2 * len(self._corpus.texts) if self._corpus.knows_meaning else 0
        return compared + sum(len(postings.get(word.term, ())) for word in question.words)

    def _search(self, question: Question, scales: Scales | None) -> Hits:
        words = question.words
        shift = 2 * len(words)
        found = [0] * len(self._corpus.texts)
        used: list[int] = []
        meant: dict[int, str] = {}
        known = 0
        for at, word in enumerate(words):
            may_go_on = question.is_open and at == len(words) - 1
            held = self._alternatives(word, may_go_on and len(words) <= _FEW)
            if not held and (slips := self._slips(word)):
                held = [(postings, MISSPELLED) for postings, _ in slips]
                meant[at] = " or ".join(term for _, term in slips)
            held = held or [(postings, PREFIX) for postings in self._unfinished(word)]
            number = (
                len(held[0][0])
                if len(held) == 1
                else len({each >> 8 for postings, _ in held for each in postings})
            )
            scale = scales[at] if scales and at < len(scales) else self._rarity(number)
            used.append(scale)
            known += scale if held else 0
            bit = 1 << 2 * at
            if len(held) == 1:
                postings, part = held[0]
                values = _values(round(scale * part), shift, bit, len(postings))
                for each in postings:
                    found[each >> 8] += values[each & 255]
                continue
            best: dict[int, int] = {}
            for postings, part in held:
                values = _values(round(scale * part), shift, bit, len(postings))
                for each in postings:
                    if (value := values[each & 255]) > best.get(each >> 8, 0):
                        best[each >> 8] = value
            for text, value in best.items():
                found[text] += value
        hits = Hits(found, shift, tuple(used), max(sum(used) * STEPS, 1), meant)
        vectors = self._corpus.vectors
        if vectors is None or not vectors.is_ready:
            return hits
        # Words that no text has are not held against those that have the others.
        by_words, most = [hit >> shift for hit in found], max(known * STEPS, 1)
        blended = vectors.blend(question.text[:MAX_TEXT], by_words, most, self._members)
        if blended is None:
            return hits
        for text, score in blended.items():
            found[text] = score << shift | found[text] & ((1 << shift) - 1)
        return hits._replace(ceiling=WHOLE)

    def _rarity(self, number: int) -> int:
        """The inverse document frequency of a word that ``number`` texts have."""
        return round(_SCALE * math.log(1 + (self._texts - number + 0.5) / (number + 0.5)))

    def _alternatives(self, word: Word, may_go_on: bool) -> list[tuple[Sequence[int], float]]:
        """The postings for one word, each with what it counts: of the word itself, of longer ones
        where it may be a beginning or is nowhere."""
        exact = self._held(word.term)
        found: list[tuple[Sequence[int], float]] = [(exact, 1.0)] if exact else []
        if may_go_on or not exact:
            found += [(held, PREFIX) for held in self._begun(word)]
        return found

    def _begun(self, word: Word) -> list[Sequence[int]]:
        """The postings of the words that begin with it."""
        longer = {*self._corpus.beginning(word.term), *self._corpus.beginning(word.shown)}
        found = []
        for each in sorted(longer - {word.term}, key=lambda each: (len(each), each)):
            if held := self._held(each):
                found.append(held)
                if len(found) == _MOST_BEGUN:
                    break
        return found

    def _slips(self, word: Word) -> list[tuple[Sequence[int], str]]:
        """The words that are one slip away from it, and their postings: the two that most have."""
        postings = self._corpus.postings
        slips = {each for each in misspelled(word.term) if each in postings}
        if word.shown != word.term:
            slips.update(each for each in misspelled(word.shown) if each in postings)
        found = [(self._held(each), each) for each in slips]
        found.sort(key=lambda each: (-len(each[0]), each[1]))
        return [each for each in found[:_MOST_MEANT] if each[0]]

    def _unfinished(self, word: Word) -> list[Sequence[int]]:
        """The postings of a stem whose ending it may not have got yet: ``organizati``."""
        shown = word.shown
        for end in range(len(shown) - 1, max(_STEM, len(shown) - _ENDING) - 1, -1):
            if held := self._held(shown[:end]):
                return [held]
        return []

    def _held(self, term: str) -> Sequence[int]:
        """The postings of ``term`` whose texts are in this list."""
        known = self._corpus.postings.get(term, _NONE)
        if self._texts == len(self._corpus):
            return known
        members = self._members
        end = len(members)
        return [each for each in known if each >> 8 < end and members[each >> 8]]


def _forget(versions: dict[K, list[_Version]], key: K, version: _Version) -> None:
    versions[key].remove(version)
    if not versions[key]:
        del versions[key]


def _values(scale: int, shift: int, bit: int, number: int) -> Sequence[int]:
    """What a posting adds to the hit of its text, by its last eight bits."""
    values: list[int] = []
    for impact in range(STEPS + 1):
        value = scale * impact << shift | bit
        values += (value, value | bit << 1)
    return values
