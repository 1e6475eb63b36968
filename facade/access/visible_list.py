"""The live list as some callers see it: what they may not see is not in it.

It follows the whole list, and counts its own revisions: those of changes that are visible. Of an
instance of which only some tools, resources or prompts are visible it has a trimmed record, with
the digest of a trimmed document, so that nothing in it depends on the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from cachetools import LRUCache

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DiscoveryError, DocumentNotFoundError, InvalidDocumentError
from mcp_discovery.facade.access.calling import owner_of
from mcp_discovery.facade.access.rights import PARTS, Grant, Part, Rights
from mcp_discovery.health import utcnow
from mcp_discovery.record import Capabilities

log = logging.getLogger(__name__)

#: For how long, in seconds, the event loop is held at a stretch.
_SLICE = 0.005
#: From so many changes on that are at least an eighth of the list, its indexes are built anew, in a
#: thread.
_BULK, _SHARE = 200, 8
#: For how many seconds changes wait for documents, and after how many those that could not be read
#: are read again.
_DOCUMENTS_TIMEOUT, _READ_AGAIN = 2.0, 5.0
#: How many documents are read at the same time.
_READERS = 16
#: Of how many trimmed documents the content is known without reading them again.
_CONTENTS = 8192
#: How many bytes of trimmed documents are cached, as canonical JSON.
_CACHED_BYTES = 4 * 2**20
#: What is said instead of what is wrong with the store: that is for those who run the facade.
STORE_AWAY = "the store of this list is away; this is the last known list"
PARTIAL = "the facade may not read all of its store"

T = TypeVar("T")


class _Trimmed(NamedTuple):
    """A document as it is seen: from which one it is made, by which grants."""

    original: str
    grants: tuple[Grant, ...]


class _Content(NamedTuple):
    """The digest of a trimmed document, and the names of what it has, by part."""

    digest: str
    names: Mapping[Part, frozenset[str]]

    @classmethod
    def of(cls, document: CapabilityDocument) -> _Content:
        names = zip(PARTS, map(frozenset, document.names()), strict=True)
        return cls(document.digest, dict(names))


class VisibleList(LiveList):
    """What callers with ``rights`` see of ``whole``, kept in step with it by :meth:`run`.

    ``rebuilding`` is held while indexes are built anew, so that only one of several lists does it.
    """

    def __init__(
        self,
        whole: LiveList,
        rights: Rights,
        *,
        ring: int,
        rebuilding: asyncio.Lock,
    ) -> None:
        super().__init__("the store", ring)
        self._whole = whole
        self._rebuilding = rebuilding
        self._rights = rights
        #: What was published and not taken yet; without events the whole view is compared.
        self._pending: deque[tuple[Sequence[CatalogEvent] | None, View]] = deque()
        self._received = self._taken = 0
        self._arrived = asyncio.Event()
        self._took = asyncio.Event()
        #: How many visible instances have a document, by its digest.
        self._digests: Counter[str] = Counter()
        self._trimmed: dict[str, _Trimmed] = {}
        #: What a document becomes for some grants; ``None``: it is lost.
        self._content_of: LRUCache[_Trimmed, _Content | None] = LRUCache(_CONTENTS)
        self._documents: LRUCache[str, CapabilityDocument] = LRUCache(
            _CACHED_BYTES, getsizeof=lambda document: len(document.canonical)
        )
        #: The ids of those whose documents could not be read.
        self._unread: set[str] = set()
        #: The ids of those that are visible in part.
        self._partly: set[str] = set()
        self._at = whole.view  # up to there the whole list was taken
        whole.listeners.append(self._receive)
        self.compare()

    @property
    def is_ready(self) -> bool:
        """Whether a complete list has been received, and taken."""
        return self._whole.is_ready and self._taken > 0

    async def ready(self) -> None:
        """Waits for the first complete list."""
        await self._whole.ready()
        await self.in_step()

    def close(self) -> None:
        """Follows the whole list no more."""
        self._whole.listeners.remove(self._receive)

    def compare(self) -> None:
        """Compares everything anew."""
        self._put(None, self._whole.view)

    def shows_whole(self, id: str) -> bool:
        """Whether the instance is visible with all that it offers."""
        return id in self.view.entries and id not in self._partly

    async def in_step(self) -> None:
        """Waits until all has been taken that was published before."""
        published = self._received
        while self._taken < published:
            await self._took.wait()

    async def document(self, digest: str) -> CapabilityDocument:
        """The document with ``digest`` of a visible instance; see :meth:`Store.document`."""
        if digest not in self._digests:
            raise DocumentNotFoundError(digest)
        trimmed = self._trimmed.get(digest)
        if trimmed is None:
            return await self._whole.document(digest)
        if (found := self._documents.get(digest)) is None:
            found = trim(await self._whole.document(trimmed.original), trimmed.grants)
            if found.digest != digest:
                raise DocumentNotFoundError(digest)
            if len(found.canonical) <= _CACHED_BYTES:
                self._documents[digest] = found
        return found

    # -- following the whole list --------------------------------------------------------------

    def _receive(self, events: Sequence[CatalogEvent], view: View) -> None:
        self._put(events, view)

    def _put(self, events: Sequence[CatalogEvent] | None, view: View) -> None:
        self._pending.append((events, view))
        self._received += 1
        self._arrived.set()

    async def run(self) -> None:
        """Follows the whole list, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_READ_AGAIN if self._unread else None):
                    await self._arrived.wait()
            self._arrived.clear()
            number = len(self._pending)
            taken = [self._pending.popleft() for _ in range(number)]
            try:
                await self._take(taken)
            except Exception:  # the guard that keeps the list alive
                log.exception("the list of some callers could not be made; it is made anew")
                await asyncio.sleep(1.0)
                self.compare()
            self._taken += number
            self._took.set()
            self._took = asyncio.Event()

    async def _take(self, taken: Sequence[tuple[Sequence[CatalogEvent] | None, View]]) -> None:
        """Publishes what is visible of what was received, all of it at once."""
        changes: list[tuple[str, Entry | None, datetime]] = []
        for events, view in taken:
            if events is None:
                ids = sorted({*view.entries, *self.view.entries})
                changes = [(id, view.entries.get(id), utcnow()) for id in ids]
            else:
                changes += [(each.id, each.entry, each.at) for each in events]
            self._at = view
        changes += [(id, self._at.entries.get(id), utcnow()) for id in sorted(self._unread)]
        self._unread.clear()
        shown = await self._shown({entry for _, entry, _ in changes if entry is not None})
        known = self.view.entries
        final: dict[str, Entry | None] = {}
        events_shown: list[CatalogEvent] = []
        for id, entry, at in changes:
            before = final[id] if id in final else known.get(id)
            after = None if entry is None else shown.get(entry)
            if after is not before and not _alike(before, after):
                final[id] = after
                revision = self.view.revision + len(events_shown) + 1
                events_shown.append(CatalogEvent(revision, id, after, before, at))
        first = self._taken == 0
        revision = self.view.revision + len(events_shown)
        view = await self._view_with(final, revision)
        view = replace(
            view,
            stale_since=self._at.stale_since,
            problem=None if self._at.problem is None else STORE_AWAY,
            partial=None if self._at.partial is None else PARTIAL,
        )
        for id, entry in final.items():
            self._count_document(known.get(id), -1)
            self._count_document(entry, 1)
            if entry is not None and entry is not self._at.entries.get(id):
                self._partly.add(id)
            else:
                self._partly.discard(id)
        if final or _doubts(view) != _doubts(self.view):
            # Of the list as it was found first there is nothing to resume from.
            self._swap(view, () if first else events_shown)

    async def _view_with(self, changed: Mapping[str, Entry | None], revision: int) -> View:
        view = self.view
        if len(changed) >= _BULK and len(changed) * _SHARE >= len(view):
            merged = {**dict(view.entries.items()), **changed}
            remaining = {id: entry for id, entry in merged.items() if entry is not None}
            async with self._rebuilding:
                return await asyncio.to_thread(view.rebuilt, remaining, revision)
        async for id, entry in _sliced(changed.items()):
            if entry is not None or id in view.entries:
                view = view.with_entry(id, entry)
        return replace(view, revision=revision)

    def _count_document(self, entry: Entry | None, by: int) -> None:
        digest = None if entry is None else entry.record.capabilities.digest
        if digest is None:
            return
        self._digests[digest] += by
        if self._digests[digest] <= 0:
            del self._digests[digest]
            self._trimmed.pop(digest, None)

    # -- what is shown of an instance ----------------------------------------------------------

    async def _shown(self, entries: Iterable[Entry]) -> dict[Entry, Entry]:
        """What is visible of each of ``entries`` that is visible."""
        found: dict[Entry, Entry] = {}
        partly: dict[Entry, tuple[Grant, ...]] = {}
        async for entry in _sliced(entries):
            grants = self._rights.covering("read", entry.record, owner_of(entry.instance))
            if any(not each.is_partial for each in grants):
                found[entry] = entry
            elif grants:
                partly[entry] = tuple(dict.fromkeys(grants))
        await self._read_documents(partly)
        async for entry, by in _sliced(partly.items()):
            if (trimmed := self._trimmed_entry(entry, by)) is not None:
                found[entry] = trimmed
        return found

    def _trimmed_entry(self, entry: Entry, grants: tuple[Grant, ...]) -> Entry | None:
        """``entry`` with what ``grants`` are for of what it offers; ``None`` without any of it."""
        offered = entry.record.capabilities
        content = None
        if offered.digest is not None:
            content = self._content_of.get(key := _Trimmed(offered.digest, grants))
            if key not in self._content_of:
                self._unread.add(entry.id)
        names: dict[str, tuple[str, ...]] = {}
        for part in PARTS:
            listed: tuple[str, ...] = getattr(offered, part)
            if content is not None:
                names[part] = tuple(name for name in listed if name in content.names[part])
            else:
                names[part] = tuple(name for name in listed if _includes(grants, part, name))
        if not any(names.values()):
            return None
        digest = None if content is None else content.digest
        if digest is not None and digest != offered.digest:
            self._trimmed[digest] = key
        record = entry.record.model_copy(
            update={"capabilities": Capabilities(**names, digest=digest)}
        )
        # What an instance does is told of its other tools, too.
        instance = replace(entry.instance, record=record, load=None)
        return Entry(instance, vouched=not entry.held, dropped=entry.dropped)

    async def _read_documents(self, partly: Mapping[Entry, tuple[Grant, ...]]) -> None:
        """Finds out the digests of trimmed documents, as far as they can be read in time."""
        wanted: dict[str, set[_Trimmed]] = {}
        for entry, grants in partly.items():
            digest = entry.record.capabilities.digest
            if digest is not None and (key := _Trimmed(digest, grants)) not in self._content_of:
                wanted.setdefault(digest, set()).add(key)
        if not wanted:
            return
        remaining = iter(list(wanted.items()))

        async def read() -> None:
            for digest, keys in remaining:
                try:
                    document = await self._whole.document(digest)
                    for key in keys:
                        self._content_of[key] = _Content.of(trim(document, key.grants))
                except (DocumentNotFoundError, InvalidDocumentError):
                    self._content_of.update(dict.fromkeys(keys))
                except DiscoveryError as error:
                    log.info("a document cannot be read now: %s", error)
                await asyncio.sleep(0)

        with suppress(TimeoutError):
            async with asyncio.timeout(_DOCUMENTS_TIMEOUT), asyncio.TaskGroup() as group:
                for _ in range(min(_READERS, len(wanted))):
                    group.create_task(read())


def trim(document: CapabilityDocument, grants: Sequence[Grant]) -> CapabilityDocument:
    """What ``grants`` are for of ``document``.

    Resources and their templates are both found by their name, and by their URI.
    """

    def kept(
        part: Part, items: Sequence[Mapping[str, Any]], *members: str
    ) -> tuple[Mapping[str, Any], ...]:
        def fits(item: Mapping[str, Any]) -> bool:
            known = (item.get(member) for member in ("name", *members))
            return any(isinstance(each, str) and _includes(grants, part, each) for each in known)

        return tuple(filter(fits, items))

    return CapabilityDocument(
        tools=kept("tools", document.tools),
        resources=kept("resources", document.resources, "uri"),
        resource_templates=kept("resources", document.resource_templates, "uriTemplate"),
        prompts=kept("prompts", document.prompts),
    )


def _includes(grants: Iterable[Grant], part: Part, name: str) -> bool:
    return any(each.includes(part, name) for each in grants)


def _alike(before: Entry | None, after: Entry | None) -> bool:
    """Whether both show the same."""
    if before is None or after is None:
        return before is after
    return before.instance == after.instance and before.held == after.held


def _doubts(view: View) -> tuple[datetime | None, str | None, str | None]:
    return view.stale_since, view.problem, view.partial


async def _sliced(items: Iterable[T]) -> AsyncIterator[T]:
    """``items``, with a turn for everything else now and then."""
    until = time.monotonic() + _SLICE
    for item in items:
        yield item
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + _SLICE
