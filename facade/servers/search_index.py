"""Keeps the text index in step with the list, without ever holding the event loop for long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, OutdatedRevisionError
from mcp_discovery.facade.documents.documents import Documents
from mcp_discovery.query.search import TextIndex

log = logging.getLogger(__name__)

#: For how long, in seconds, the loop is held at a stretch.
_SLICE = 0.005
#: How many documents are read at the same time, and how many seconds after a fault again.
_AT_ONCE = 8
_RETRY = 5.0


class ServerSearch:
    """Searches the texts of one catalog; nothing is indexed before the first search.

    A search sees every record of the list. Descriptions of tools stand in capability documents:
    :meth:`run` reads them in the background, and a search sees those that were read.
    """

    def __init__(self, catalog: LiveList, documents: Documents) -> None:
        self._catalog = catalog
        self._documents = documents
        #: Called whenever more descriptions became known.
        self.listeners: list[Callable[[], None]] = []
        self._index = TextIndex()
        self._position: tuple[str, int] | None = None  # the index is of this state of the list
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()
        #: Goes up with every document that becomes known.
        self.documents_known = 0

    async def scores(self, words: Sequence[str]) -> dict[str, int]:
        """Id → score of the instances in the catalog's present view that have all ``words``."""
        async with self._turn:
            while self._position != (self._catalog.view.epoch, self._catalog.view.revision):
                await self._catch_up()
            if self._index.undescribed():
                self._wanted.set()
            return self._index.search(words)

    async def _catch_up(self) -> None:
        """Brings the index to the view as it is at the start. Taking it up anew does no harm."""
        view = self._catalog.view
        ids: Iterable[str]
        try:
            if self._position is None:
                raise OutdatedRevisionError("nothing is indexed yet")
            ids = dict.fromkeys(event.id for event in self._catalog.since(*self._position))
        except OutdatedRevisionError:
            ids = [*view.entries, *(id for id in self._index.ids if id not in view.entries)]
        until = time.monotonic() + _SLICE
        for id in ids:
            entry = view.entries.get(id)
            if entry is None:
                self._index.remove(id)
            else:
                self._index.put(entry.record)
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + _SLICE
        self._position = view.epoch, view.revision

    async def run(self) -> None:
        """Reads the documents whose descriptions are searched, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while digests := self._index.undescribed()[:_AT_ONCE]:
                found = await asyncio.gather(*map(self._document, digests), return_exceptions=True)
                for digest, document in zip(digests, found, strict=True):
                    if not isinstance(document, BaseException):
                        self._index.describe(digest, document)
                        self.documents_known += 1
                        await asyncio.sleep(0)
                for listener in self.listeners:
                    listener()
                faults = [each for each in found if isinstance(each, BaseException)]
                if faults:
                    log.info("descriptions of tools cannot be read now: %r", faults[0])
                    await asyncio.sleep(_RETRY)
                    break  # the next search asks for them again

    async def _document(self, digest: str) -> CapabilityDocument | None:
        """The document; ``None`` where the store has none that can be read."""
        try:
            return await self._documents.get(digest)
        except (DocumentNotFoundError, InvalidDocumentError):
            return None
