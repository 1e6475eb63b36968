"""The live list as some callers see it: what they may not see is not in it.

It follows the whole list, and counts its own revisions: those of changes that are visible. Of an
instance of which only some tools, resources, prompts or skills are visible it has a trimmed record,
with the digest of a trimmed document, so that nothing in it depends on the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias, TypeVar

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DocumentNotFoundError
from mcp_discovery.facade.access.rights import PARTS, Grant, Rights, includes, matches
from mcp_discovery.facade.access.trimming import Trimmed, TrimmedContents
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.health import utcnow
from mcp_discovery.record import Capabilities

log = logging.getLogger(__name__)

#: From so many changes on that are at least an eighth of the list, its indexes are built anew, in a
#: thread.
_BULK, _SHARE = 200, 8
#: So many changes are no burden, whoever else has some.
_FEW = 20
#: After how many seconds documents that could not be read are read again.
_READ_AGAIN = 5.0
#: What is said instead of what is wrong with the store: that is for those who run the facade.
STORE_AWAY = "the store of this list is away; this is the last known list"
PARTIAL = "the facade may not read all of its store"

#: An instance as it is from a moment on, ``None`` where it is gone.
_Change: TypeAlias = tuple[str, Entry | None, datetime]
T = TypeVar("T")


class VisibleList(LiveList):
    """What callers with ``rights`` see of ``whole``, kept in step with it by :meth:`run`.

    ``turn`` is held while there is much to do, so that only one of several lists does that.
    """

    def __init__(
        self,
        whole: LiveList,
        rights: Rights,
        *,
        ring: int,
        turn: asyncio.Lock,
    ) -> None:
        super().__init__("the store", ring)
        self._whole = whole
        self._turn = turn
        self._rights = rights
        #: What was published and not taken yet; without events the whole view is compared.
        self._pending: deque[tuple[Sequence[CatalogEvent] | None, View]] = deque()
        self._received = self._taken = 0
        self._arrived = asyncio.Event()
        self._took = asyncio.Event()
        #: How many visible instances have a document, by its digest.
        self._digests: Counter[str] = Counter()
        self._trimmed: dict[str, Trimmed] = {}
        self._contents = TrimmedContents(whole)
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

    @property
    def is_in_step(self) -> bool:
        """Whether all has been taken that was published."""
        return self._taken == self._received

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
        return await self._contents.document(digest, trimmed, partial(self._other, digest))

    def _other(self, digest: str, than: Trimmed) -> Trimmed | None:
        """Another document that has the same to show as ``than`` has."""
        for id in self._partly:
            shown, whole = self.view.entries.get(id), self._at.entries.get(id)
            if whole is None or shown is None or shown.record.capabilities.digest != digest:
                continue
            original = whole.record.capabilities.digest
            if original is not None and original != than.original:
                return Trimmed(original, self._grants_for(whole))
        return None

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
            much = any(events is None or len(events) > _FEW for events, _ in taken)
            try:
                await self._take(taken, self._turn if much or number > _FEW else nullcontext())
            except Exception:  # the guard that keeps the list alive
                log.exception("the list of some callers could not be made; it is made anew")
                await asyncio.sleep(1.0)
                self.compare()
            self._taken += number
            self._took.set()
            self._took = asyncio.Event()

    async def _take(
        self,
        taken: Sequence[tuple[Sequence[CatalogEvent] | None, View]],
        turn: AbstractAsyncContextManager[None],
    ) -> None:
        """Publishes what is visible of what was received, all of it at once; in its ``turn`` but
        for the time that it waits for the store."""
        async with turn:
            changes = await self._changes(taken)
            covered = await self._covered({entry for _, entry, _ in changes if entry is not None})
        await self._contents.read(
            Trimmed(digest, grants)
            for entry, grants in covered.items()
            if grants and (digest := entry.record.capabilities.digest) is not None
        )
        async with turn:
            await self._publish(changes, covered)

    async def _changes(
        self, taken: Sequence[tuple[Sequence[CatalogEvent] | None, View]]
    ) -> list[_Change]:
        """All that may have changed, in order."""
        changes: list[_Change] = []
        for events, view in taken:
            if events is None:
                at, ids = utcnow(), {*self._candidates(view), *self.view.entries}
                changes = [(id, view.entries.get(id), at) async for id in sliced(sorted(ids))]
            else:
                changes += [(each.id, each.entry, each.at) for each in events]
            self._at = view
        changes += [(id, self._at.entries.get(id), utcnow()) for id in sorted(self._unread)]
        self._unread.clear()
        return changes

    def _candidates(self, view: View) -> Iterable[str]:
        """Ids in ``view`` of which all that are visible are a part: by the names and tags that
        grants are for, which are fewer than the instances."""
        found: set[str] = set()
        for grant in self._rights.grants:
            if "read" not in grant.verbs:
                continue
            index, globs = (
                ("name", grant.names) if grant.names is not None else ("tags", grant.tags)
            )
            if globs is None:
                return view.entries
            for key in view.keys(index):
                if matches(globs, (key,)):
                    found.update(view.having(index, key))
        return found

    async def _publish(
        self, changes: Sequence[_Change], covered: Mapping[Entry, tuple[Grant, ...]]
    ) -> None:
        shown: dict[Entry, Entry | None] = {}
        async for one, grants in sliced(covered.items()):
            shown[one] = self._trimmed_entry(one, grants) if grants else one
        known = self.view.entries
        final: dict[str, Entry | None] = {}
        events_shown: list[CatalogEvent] = []
        async for id, entry, at in sliced(changes):
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
        for each in final.values():  # first, so that what another has had is not dropped
            self._count_document(each, 1)
        async for id, shown_now in sliced(final.items()):
            self._count_document(known.get(id), -1)
            if shown_now is not None and shown_now is not self._at.entries.get(id):
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
            return await asyncio.to_thread(view.rebuilt, remaining, revision)
        async for id, each in sliced(changed.items()):
            if each is not None or id in view.entries:
                view = view.with_entry(id, each)
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

    async def _covered(self, entries: Iterable[Entry]) -> dict[Entry, tuple[Grant, ...]]:
        """Those of ``entries`` that grants are for, with these; with none where it is visible as
        a whole."""
        found: dict[Entry, tuple[Grant, ...]] = {}
        async for entry in sliced(entries):
            if grants := self._grants_for(entry):
                whole = any(not each.is_partial for each in grants)
                found[entry] = () if whole else grants
        return found

    def _grants_for(self, entry: Entry) -> tuple[Grant, ...]:
        found = self._rights.covering("read", entry.record, entry.instance.lease.holder.owner)
        return tuple(dict.fromkeys(found))

    def _trimmed_entry(self, entry: Entry, grants: tuple[Grant, ...]) -> Entry | None:
        """``entry`` with what ``grants`` are for of what it offers; ``None`` without any of it."""
        offered = entry.record.capabilities
        content = None
        if offered.digest is not None:
            key = Trimmed(offered.digest, grants)
            content = self._contents.get(key)
            if content is None and not self._contents.is_lost(key):
                self._unread.add(entry.id)
        names: dict[str, tuple[str, ...]] = {}
        for part in PARTS:
            listed: tuple[str, ...] = getattr(offered, part)
            if content is not None:
                names[part] = tuple(name for name in listed if name in content.names[part])
            else:
                names[part] = tuple(name for name in listed if includes(grants, part, name))
        if not any(names.values()):
            return None
        digest = None if content is None else content.digest
        if digest is not None and digest != offered.digest:
            self._trimmed[digest] = key
        # What a server says of how to use it, and how much it does, is of all that it offers.
        known = entry.record
        protocol = known.protocol.model_copy(update={"instructions": None})
        capabilities = Capabilities(**names, digest=digest)
        shown: dict[str, Any] = {"capabilities": capabilities, "protocol": protocol}
        shown["example_queries"] = ()
        if (known.protocol.instructions or "").lstrip().startswith(known.description):
            shown["description"] = ""  # a sidecar made it of these
        record = known.model_copy(update=shown)
        instance = replace(entry.instance, record=record, load=None)
        return Entry(instance, vouched=not entry.held, dropped=entry.dropped)


def _alike(before: Entry | None, after: Entry | None) -> bool:
    """Whether both show the same."""
    if before is None or after is None:
        return before is after
    return before.instance == after.instance and before.held == after.held


def _doubts(view: View) -> tuple[datetime | None, str | None, str | None]:
    return view.stale_since, view.problem, view.partial
