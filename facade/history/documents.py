"""Keeps the capability documents of a list beside its history, some at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from itertools import islice

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.errors import DiscoveryError, DocumentNotFoundError, InvalidDocumentError
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.documents.documents import document_of
from mcp_discovery.facade.history.change import LOST, key_of, micros
from mcp_discovery.facade.history.store import HistoryStore
from mcp_discovery.health import utcnow
from mcp_discovery.record import Capabilities

log = logging.getLogger(__name__)

#: How many documents wait to be kept at most, and how many are known to be.
_MOST = 20_000
#: How many are kept at once, and from how many bytes on, compressed, no further ones.
_AT_ONCE, _BYTES_AT_ONCE = 50, 2**20
#: Seconds until what could not be kept is tried again.
_RETRY = 1.0


class DocumentKeeper:
    """Reads from ``catalog`` what is wanted, and keeps it in ``store``."""

    def __init__(self, catalog: LiveList, store: HistoryStore) -> None:
        self._catalog = catalog
        self._store = store
        #: The keys of documents that are not known to be kept, with what they are of.
        self._wanted: dict[str, Capabilities] = {}
        self._kept: set[str] = set()
        self._news = asyncio.Event()
        self._tried = asyncio.Event()
        #: How many bytes were kept since somebody has set it to 0.
        self.bytes_since = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._wanted)

    def want(self, capabilities: Capabilities) -> None:
        """Has what is offered kept soon, if it is not."""
        if len(self._wanted) < _MOST and (key := key_of(capabilities)) not in self._kept:
            self._wanted[key] = capabilities
            self._news.set()

    async def tried(self) -> None:
        """Waits until some of those that wait were tried."""
        await self._tried.wait()

    async def run(self) -> None:
        """Keeps what is wanted, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._wanted:
                some = dict(islice(self._wanted.items(), _AT_ONCE))
                try:
                    done = await self._keep(some)
                except AuditLogError as error:
                    log.info("history: documents cannot be kept now: %s", error)
                    done = False
                except Exception:  # the guard that keeps the keeping alive
                    log.exception("history: documents could not be kept")
                    done = False
                self._tried.set()
                self._tried = asyncio.Event()
                if not done:
                    await asyncio.sleep(_RETRY)

    async def _keep(self, wanted: Mapping[str, Capabilities]) -> bool:
        """Keeps these, all of them at once; whether any could be read."""
        done = await self._store.kept(wanted)
        contents: dict[str, bytes] = {}
        size = 0
        for key, capabilities in wanted.items():
            if key in done or size > _BYTES_AT_ONCE:
                continue
            place, document = key, document_of(capabilities)
            try:
                if key == capabilities.digest:
                    document = await self._catalog.document(key)
            except (DocumentNotFoundError, InvalidDocumentError):
                place = LOST + key
            except DiscoveryError as error:
                log.info("history: a document cannot be kept now: %s", error)
                self._wanted[key] = self._wanted.pop(key)  # others first, next time
                continue
            contents[place] = await asyncio.to_thread(document.compressed)
            size += len(contents[place])
            done.add(key)
        await self._store.put(contents, micros(utcnow()))
        self.bytes_since += size
        for key in done:
            self._wanted.pop(key, None)
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept |= done
        return bool(done)
