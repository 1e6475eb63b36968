"""The one search behind every door: the words of servers and of their tools, in step with a list.

Nobody holds the event loop for long: an index is brought up to date in short steps, and a question
that reads very many postings is answered in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import Kind
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, OutdatedRevisionError
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.pauses import Pauses, sliced
from mcp_discovery.facade.tools.index import ToolDefinitions, Tools
from mcp_discovery.facade.tools.ranking import ToolRanks
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.health import PREFERENCE
from mcp_discovery.query.corpus import Corpus
from mcp_discovery.query.embedding import Meaning
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.query.ranking import Ranking, Scales

log = logging.getLogger(__name__)

#: How many documents are read at the same time, and how many seconds after a fault again.
_AT_ONCE = 8
_RETRY = 5.0
#: For how many seconds a search waits for documents that are being read.
_PATIENCE = 1.0
#: A question that reads more postings than these is answered in a thread.
_LONG = 5_000
#: More results than these are sorted, and shown, in a thread.
MANY = 1_000
#: How long, in seconds, it is quiet before texts that nobody has any more are swept out.
_QUIET = 1.0

T = TypeVar("T")
#: What a result is sorted by, the least first, as a cursor can carry it.
Rank: TypeAlias = list[int | str]


async def aside(many: bool, make: Callable[..., T], *given: object) -> T:
    """What ``make`` makes, in a thread where that is of ``many``."""
    return await asyncio.to_thread(make, *given) if many else make(*given)


class SearchTexts:
    """The texts of one facade, indexed once for all lists; ``turn`` is held by who uses them."""

    def __init__(self, corpus: Corpus | None = None) -> None:
        self.corpus = Corpus() if corpus is None else corpus
        self.turn = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class RankedServer:
    """One instance that a question found: its score from 0 to 1, and why in one line."""

    id: str
    score: float
    why: str


@dataclass(frozen=True, slots=True)
class ServerRanks:
    """What a question found of one list: who comes before whom, and why.

    The healthy come first, then those with the greatest score; of equal ones those that are used
    more, then names decide.
    """

    ranking: Ranking[str]
    use: Mapping[str, int]

    def key(self, entry: Entry) -> Rank:
        """What ``entry`` is sorted by."""
        name = entry.record.name
        health, use = PREFERENCE.index(entry.health.status), self.use.get(name, 0).bit_length()
        return [health, -self.ranking.score(entry.id), -use, name]

    def why(self, entry: Entry) -> str:
        """Why ``entry`` was found, in one line."""
        return self.ranking.why(entry.id)

    def ordered(self, entries: Iterable[Entry]) -> list[Entry]:
        """``entries``, the best first."""
        return sorted(entries, key=lambda entry: (self.key(entry), entry.id))


class ServerSearch:
    """Searches one list; nothing is indexed before the first search.

    A search sees every record of the list. Definitions of tools stand in capability documents:
    :meth:`run` reads them in the background. A search waits a little for those that it lacks, and
    sees those that were read.
    """

    def __init__(
        self, catalog: LiveList, definitions: ToolDefinitions, usage: Usage, texts: SearchTexts
    ) -> None:
        self._catalog = catalog
        self._definitions = definitions
        self._usage = usage
        self.texts = texts
        #: Called whenever more definitions became known.
        self.listeners: list[Callable[[], None]] = []
        self._index = SearchIndex(texts.corpus)
        self._position: tuple[str, int] | None = None  # the index is of this state of the list
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()
        self._fails = False
        self._described = 0

    @property
    def documents_known(self) -> int:
        """Goes up with every document that becomes known, and when the model of meaning is."""
        return self._described + self.texts.corpus.knows_meaning

    async def servers(self, question: Question, scales: Scales | None = None) -> ServerRanks:
        """The instances that ``question`` finds in the present list."""
        ranking = await self._ask(question, partial(self._index.servers, question, scales=scales))
        return ServerRanks(ranking, self._use(self._catalog.view))

    async def tools(
        self, question: Question, documents: Mapping[str, Tools], kind: Kind = "tool"
    ) -> ToolRanks:
        """The tools, or what else is of ``kind``, that ``question`` finds in the present list; it
        has those of ``documents``, which are known by digest, in any case."""
        await self._catch_up()
        async for digest in sliced(documents.keys() & self._index.undescribed()):
            await self._describe(digest, documents[digest])
        ranking = await self._ask(question, partial(self._index.tools, question, kind=kind))
        return ToolRanks(ranking, self._usage.capability_requests())

    async def rank(
        self, text: str, *, among: Collection[str] | None = None, match: str = "any"
    ) -> list[RankedServer]:
        """The instances that ``text`` finds, of the ids ``among`` alone where they are given, in
        the order of every other search; none where there is no word in it."""
        ranks = await self.servers(Question(text, match))
        entries = self._catalog.view.entries

        def ranked() -> list[RankedServer]:
            found = (entries.get(id) for id in ranks.ranking if among is None or id in among)
            return [
                RankedServer(each.id, ranks.ranking.share(each.id), ranks.why(each))
                for each in ranks.ordered(each for each in found if each is not None)
            ]

        return await aside(len(ranks.ranking) > MANY, ranked)

    def close(self) -> None:
        """Lets go of the texts."""
        self._index.close()

    async def _ask(self, question: Question, ask: Callable[[], Ranking[T]]) -> Ranking[T]:
        await self._catch_up()
        if self._index.undescribed():
            self._read.clear()
            self._wanted.set()
            if not self._fails:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await self._read.wait()
        async with self.texts.turn:
            return await aside(self._index.cost(question) > _LONG, ask)

    async def _catch_up(self) -> None:
        """Brings the index to the present list."""
        while self._position != (self._catalog.view.epoch, self._catalog.view.revision):
            await self._take_changes()
        await self._in_steps(self._index.work())

    async def _take_changes(self) -> None:
        """Brings the index to the view as it is at the start. Taking it up anew does no harm."""
        view = self._catalog.view
        ids: Iterable[str]
        try:
            if self._position is None:
                raise OutdatedRevisionError("nothing is indexed yet")
            ids = dict.fromkeys(event.id for event in self._catalog.since(*self._position))
        except OutdatedRevisionError:
            ids = [*view.entries, *(id for id in self._index.ids if id not in view.entries)]
        async for id in sliced(ids):
            entry = view.entries.get(id)
            if entry is None:
                self._index.remove(id)
            else:
                self._index.put(entry.record)
        self._position = view.epoch, view.revision

    async def _in_steps(self, work: Iterator[None]) -> None:
        pauses = Pauses()
        while True:
            async with self.texts.turn:
                for _ in work:
                    if pauses.are_due:
                        break
                else:
                    return
            await pauses.pause()

    async def _describe(self, digest: str, tools: Tools) -> None:
        if not self._index.is_described(digest):
            definitions = {key: (each.digest, each.tool) for key, each in tools.items()}
            await self._in_steps(self._index.describe(digest, definitions))
            self._described += 1

    async def run(self) -> None:
        """Reads the documents whose definitions are searched, for ever."""
        while True:
            try:
                async with asyncio.timeout(_QUIET):
                    await self._wanted.wait()
            except TimeoutError:
                await self._in_steps(self.texts.corpus.sweep())
                await self._wanted.wait()
            self._wanted.clear()
            await self._in_steps(self._index.work())
            while digests := self._index.undescribed()[:_AT_ONCE]:
                found = await asyncio.gather(*map(self._document, digests), return_exceptions=True)
                async for digest, tools in sliced(zip(digests, found, strict=True)):
                    if not isinstance(tools, BaseException):
                        await self._describe(digest, tools)
                await self._in_steps(self._index.work())
                for listener in self.listeners:
                    listener()
                faults = [each for each in found if isinstance(each, BaseException)]
                self._fails = bool(faults)
                if faults:
                    self._read.set()
                    log.info("definitions of tools cannot be read now: %r", faults[0])
                    await asyncio.sleep(_RETRY)
                    break  # the next search asks for them again
            self._read.set()

    async def _document(self, digest: str) -> Tools:
        """The definitions in a document; none where the store has none that can be read."""
        try:
            return await self._definitions.read(digest)
        except (DocumentNotFoundError, InvalidDocumentError):
            return {}

    def _use(self, view: View) -> Mapping[str, int]:
        """How often the servers were used, by name."""
        found: Counter[str] = Counter()
        for id, number in self._usage.requests().items():
            if (entry := view.entries.get(id)) is not None:
                found[entry.record.name] += number
        return found


#: The search.
SEARCH: Part[ServerSearch] = Part("search")
#: The model that ranks by meaning, where one is chosen; of the whole facade.
MEANING = web.AppKey("meaning", Meaning)
