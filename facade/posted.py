"""All entries that this facade keeps, and those it adopts because nobody else does."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from types import TracebackType
from typing import Self

import aiohttp

from adapters.catalog import Catalog
from adapters.store import Store, new_holder
from adapters.view import Entry
from facade.documents import Documents
from facade.examining import Examiner
from facade.kept import Kept
from facade.locks import IdLocks
from facade.options import FacadeOptions
from facade.posting import Posting, document_of, gives_capabilities
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DiscoveryError,
    DocumentNotFound,
    DuplicateInstance,
    StartOver,
    StoreError,
)
from mcp_discovery.health import Status
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

log = logging.getLogger(__name__)

#: How long, in seconds, between two looks at the whole list for entries to adopt.
_LOOK_EVERY = 60.0
#: Facades that see the same orphan wait up to so many seconds, so that they do not all probe it.
_JITTER = 2.0
_AT_ONCE = 16


def holder_for(store: Store) -> Holder:
    """This facade's identity as a registrant in ``store``.

    A store in a file belongs to one process: its next process is the same holder, and goes on at
    once with what was posted to the last. Over any other store each process is a holder of its
    own.
    """
    holder = new_holder("facade")
    if store.url.startswith("embedded:/"):
        id = hashlib.sha256(store.url.encode()).hexdigest()[:16]
        return Holder(id, holder.host, "facade")
    return holder


class Posted:
    """Use it as ``async with``: it probes and adopts inside. Closing leaves entries to their TTL.

    The caller of :meth:`put` and :meth:`remove` holds the id's lock in ``locks``.
    """

    def __init__(
        self, catalog: Catalog, documents: Documents, locks: IdLocks, options: FacadeOptions
    ) -> None:
        self._catalog = catalog
        self._locks = locks
        self._store = catalog.store
        self._documents = documents
        self._options = options
        self._kept: dict[str, Kept] = {}
        self._session: aiohttp.ClientSession | None = None
        self._adopting: asyncio.Task[None] | None = None
        #: Under which identity entries are registered.
        self.holder = holder_for(self._store)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, id: str) -> Kept | None:
        """The entry with ``id``, if this facade keeps it."""
        return self._kept.get(id)

    async def put(self, posting: Posting, *, replace: bool = False) -> Kept:
        """Registers what was posted and keeps it from now on.

        The same id with the same endpoint takes the old one's place; with another endpoint it
        does only with ``replace``, or when the old one is ``down``: otherwise raises
        :class:`DuplicateInstance`, as it does when another registrant holds the id.
        """
        id = posting.record.id
        old = self._kept.get(id)
        record = posting.record
        if old is not None:
            same = old.record.endpoint == record.endpoint
            if not same and not replace and old.health.status is not Status.DOWN:
                raise DuplicateInstance(id, holder=str(self.holder), url=old.record.endpoint.url)
        known = self._catalog.view.entries.get(id)
        if known is not None:
            record = record.model_copy(update={"registered_at": known.record.registered_at})
        document = await self._documents.of(posting)
        kept = self._make(record, document, fill=not gives_capabilities(record))
        if old is None:
            await kept.start()
        else:
            async with old.suspended():
                await kept.start()
        self._kept[id] = kept
        if old is not None:
            await old.close()
        return kept

    async def remove(self, id: str) -> None:
        """Takes an entry that is kept here out of the store."""
        await self._kept[id].deregister()
        self._kept.pop(id, None)

    def adoptable(self, entry: Entry) -> bool:
        """Whether ``entry`` was posted to a facade and nobody keeps it alive any more."""
        holder = entry.instance.lease.holder
        if holder.by != "facade" or entry.id in self._kept:
            return False
        silent = entry.health.reason.startswith("no heartbeat for ")
        return holder.id == self.holder.id or (entry.health.status is Status.DOWN and silent)

    async def stored_document(self, record: Record) -> CapabilityDocument:
        """The document of a record in the store; where it is lost, one made of its names."""
        digest = record.capabilities.digest
        if digest is not None:
            try:
                return await self._documents.get(digest)
            except DocumentNotFound:
                log.warning("%s: its capability document is lost", record.id)
        return document_of(record.capabilities)

    # -- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._adopting = asyncio.create_task(self._adopt_for_ever(), name="adopt")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._adopting is not None:
            self._adopting.cancel()
            await asyncio.gather(self._adopting, return_exceptions=True)
        await asyncio.gather(*(kept.close() for kept in self._kept.values()))
        self._kept.clear()
        if self._session is not None:
            await self._session.close()

    def _make(self, record: Record, document: CapabilityDocument, *, fill: bool) -> Kept:
        assert self._session is not None  # used inside ``async with`` only
        kept: Kept

        def lost() -> None:
            if self._kept.get(record.id) is kept:
                del self._kept[record.id]

        kept = Kept(
            record,
            document,
            fill=fill,
            store=self._store,
            holder=self.holder,
            examiner=Examiner(record, self._session, self._options.probe_timeout),
            options=self._options,
            on_lost=lost,
        )
        return kept

    # -- adoption ----------------------------------------------------------------------------

    async def _adopt_for_ever(self) -> None:
        await self._catalog.ready()
        view = self._catalog.view
        suspects: set[str] = set(view.entries)
        while True:
            try:
                await self._adopt_all(suspects)
            except Exception:  # the guard that keeps adoption alive
                log.exception("adopting what was posted failed in a way it must not")
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._catalog.after(view)
                events = self._catalog.since(view.epoch, view.revision)
                suspects = {event.id for event in events}
            except (TimeoutError, StartOver):
                suspects = set(self._catalog.view.entries)
            view = self._catalog.view

    async def _adopt_all(self, suspects: set[str]) -> None:
        view = self._catalog.view
        if view.stale_since is not None:
            return
        orphans = [
            entry
            for entry in map(view.entries.get, suspects)
            if entry is not None and self.adoptable(entry)
        ]
        if not orphans:
            return
        if any(entry.instance.lease.holder.id != self.holder.id for entry in orphans):
            await asyncio.sleep(random.uniform(0, _JITTER))
        few = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for entry in orphans:
                group.create_task(self._adopt(entry.id, few))

    async def _adopt(self, id: str, few: asyncio.Semaphore) -> None:
        async with few, self._locks.hold(id):
            entry = self._catalog.view.entries.get(id)
            if entry is None or not self.adoptable(entry):
                return
            record = entry.record
            try:
                document = await self.stored_document(record)
                kept = self._make(record, document, fill=not gives_capabilities(record))
                await kept.start()
            except DuplicateInstance as error:
                log.debug("another has adopted it: %s", error)
            except StoreError as error:
                log.info("cannot adopt %s yet: %s", id, error)
            except DiscoveryError as error:
                log.warning("cannot adopt %s: %s", id, error)
            else:
                self._kept[id] = kept
                log.info("adopted %s, which was posted to %s", id, entry.instance.lease.holder)
