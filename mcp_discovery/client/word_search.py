"""The search of a client that reads the list from a store itself: the one that facades have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mcp_discovery.client.source import RankedTool
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, OutdatedRevisionError
from mcp_discovery.health import PREFERENCE
from mcp_discovery.query.corpus import Corpus, Definitions, definitions_in
from mcp_discovery.query.definition import QueryStep
from mcp_discovery.query.index import SearchIndex
from mcp_discovery.query.query import Query
from mcp_discovery.query.question import Question

if TYPE_CHECKING:
    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.adapters.view import Entry

#: How many instances are indexed without a pause.
_AT_ONCE = 50


class WordSearch:
    """The index of one catalog, brought up to date by each search."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._index = SearchIndex(Corpus())
        self._position: tuple[str, int] | None = None
        self._turn = asyncio.Lock()

    async def found(self, step: QueryStep) -> Sequence[Entry]:
        """What passes the filters and is found by the words: the healthy first, then the best."""
        async with self._turn:
            while self._position != (self._catalog.view.epoch, self._catalog.view.revision):
                await self._catch_up()
            ranking = self._index.servers(Question(step.q or "", step.query.match))
            entries = self._catalog.view.select(step.query, among=ranking)
        return sorted(
            entries,
            key=lambda each: (
                *(PREFERENCE.index(each.health.status), -ranking.score(each.id)),
                *each.order,
            ),
        )

    async def tools(self, question: Question, within: Query | None) -> Sequence[RankedTool]:
        """See :meth:`mcp_discovery.client.source.Source.find`."""
        async with self._turn:
            while self._position != (self._catalog.view.epoch, self._catalog.view.revision):
                await self._catch_up()
            ranking = self._index.tools(question)
            wanted = (within or Query()).but(status=())
            servers = {each.record.name for each in self._catalog.view.select(wanted)}
        best: dict[str, RankedTool] = {}
        found = (key for key in ranking if key[1] in servers)
        for key in sorted(found, key=lambda key: (-ranking.score(key), key[:2])):
            best.setdefault(key[0], RankedTool(key[0], key[1], ranking.why(key)))
        return list(best.values())

    async def _catch_up(self) -> None:
        view = self._catalog.view
        ids: Iterable[str]
        try:
            if self._position is None:
                raise OutdatedRevisionError("nothing is indexed yet")
            ids = {event.id for event in self._catalog.since(*self._position)}
        except OutdatedRevisionError:
            ids = {*view.entries, *self._index.ids}
        for number, id in enumerate(ids, start=1):
            if (entry := view.entries.get(id)) is None:
                self._index.remove(id)
            else:
                self._index.put(entry.record)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._done(self._index.work())
        for digest in self._index.undescribed():
            definitions: Definitions = {}
            with suppress(DocumentNotFoundError, InvalidDocumentError):  # it is lost
                definitions = definitions_in(await self._catalog.document(digest))
            await self._done(self._index.describe(digest, definitions))
        self._position = view.epoch, view.revision

    async def _done(self, work: Iterable[None]) -> None:
        for number, _ in enumerate(work, start=1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
