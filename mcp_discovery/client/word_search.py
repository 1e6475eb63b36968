"""Words of named queries, searched in a list that this process reads from a store itself.

The search is the facade's; it sees what records say, names of tools included, and reads no
documents for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.health import PREFERENCE
from mcp_discovery.query.definition import QueryStep
from mcp_discovery.query.index import Corpus, SearchIndex
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
        for number, _ in enumerate(self._index.work(), start=1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._position = view.epoch, view.revision
