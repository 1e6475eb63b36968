"""The catalog: keeps the live list in step with a store, and never believes too much at once.

One task consumes ``Store.watch()``, compares before it publishes, and swaps in an immutable
:class:`~mcp_discovery.adapters.view.View`. While the store is away the last known list stays,
marked stale.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Self

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.store import Change, Snapshot, Store
from mcp_discovery.adapters.tombstone import is_tombstone
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import OutdatedRevisionError, StoreError
from mcp_discovery.health import Status, utcnow
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)

#: A snapshot that takes away all, or more than half of at least this many, is held for a while.
HOLD_FROM = 10
#: What a later snapshot lacks is held for so many seconds. A store tells one when it cannot tell
#: changes: it may be older than it was, and whoever lives registers anew within 5 s. Where the way
#: to the store falls silent meanwhile nobody hears of them, and that is noticed within 11 s.
_RETURN = 17.0
#: So many new entries at once are indexed anew rather than one by one.
_BULK = 200
#: Seconds after which a watch was a success. Its first snapshot alone is none: a watch that always
#: ends right after it would be asked for it again and again.
_WENT_WELL = 10.0
_CACHED_DOCUMENT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Event:
    """One visible change: from ``before`` to ``entry``, seen here at ``at``.

    ``before`` is ``None`` when the instance is new, ``entry`` when it is gone.
    """

    revision: int
    id: str
    entry: Entry | None
    before: Entry | None
    at: datetime


class Catalog:
    """The live list over one store. Use it as ``async with Catalog(store) as catalog``.

    ``hold`` is how long, in seconds, a mass drop is held back; ``ring`` how many changes a reader
    may be behind before it has to start over. The catalog does not close the store.
    """

    def __init__(self, store: Store, *, hold: float = 30.0, ring: int = 8192) -> None:
        self._store = store
        self._hold = hold
        self._ring: deque[Event] = deque(maxlen=ring)
        self._view = View(secrets.token_hex(6))
        self._published = asyncio.Event()
        self._ready = asyncio.Event()
        self._held: dict[str, float] = {}  # id → monotonic time at which it is let go
        self._release: asyncio.TimerHandle | None = None
        self._away_since = 0.0  # monotonic; counts while the view is stale
        self._documents: OrderedDict[str, CapabilityDocument] = OrderedDict()
        self._documents_size = 0
        self._task: asyncio.Task[None] | None = None
        #: How many instances were ever held back from a mass drop.
        self.held_total = 0
        #: How many times the watch had to be started again.
        self.watch_restarts = 0

    @property
    def store(self) -> Store:
        """The store that is watched."""
        return self._store

    @property
    def view(self) -> View:
        """The list as it is now."""
        return self._view

    @property
    def is_ready(self) -> bool:
        """Whether a whole snapshot has been seen."""
        return self._ready.is_set()

    @property
    def held(self) -> int:
        """How many instances are held back from a mass drop now."""
        return len(self._held)

    async def ready(self) -> None:
        """Waits for the first whole snapshot."""
        await self._ready.wait()

    async def after(self, view: View) -> View:
        """Waits until the list, or its staleness, is no longer ``view``; returns what it is then.

        What came in between is in :meth:`since`.
        """
        while self._view is view:
            await self._published.wait()
        return self._view

    def since(self, epoch: str, revision: int) -> list[Event]:
        """The changes after ``revision``, oldest first.

        Raises :class:`~mcp_discovery.errors.OutdatedRevisionError` when it is of another epoch,
        from the future, or older than the ring.
        """
        behind = self._view.revision - revision
        if epoch != self._view.epoch:
            raise OutdatedRevisionError(
                f"epoch {epoch!r} is not this catalog's ({self._view.epoch!r})"
            )
        if behind < 0:
            raise OutdatedRevisionError(f"revision {revision} has not happened yet")
        if behind > len(self._ring):
            raise OutdatedRevisionError(f"revision {revision} is older than the changes kept")
        return [self._ring[i] for i in range(len(self._ring) - behind, len(self._ring))]

    async def document(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``, from memory where it was read before.

        Raises what :meth:`Store.document` raises.
        """
        if (known := self._documents.get(digest)) is not None:
            self._documents.move_to_end(digest)
            return known
        document = await self._store.document(digest)
        if digest not in self._documents:  # another may have read it meanwhile
            self._documents[digest] = document
            self._documents_size += len(document.canonical)
        while self._documents_size > _CACHED_DOCUMENT_BYTES and len(self._documents) > 1:
            self._documents_size -= len(self._documents.popitem(last=False)[1].canonical)
        return document

    # -- keeping in step ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="catalog")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._release is not None:
            self._release.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            started = time.monotonic()
            try:
                async with aclosing(self._store.watch()) as events:
                    async for event in events:
                        self.apply(event)
                problem = "its watch ended"
            except StoreError as error:
                problem = str(error)
            except Exception as error:  # the guard that keeps the list alive
                log.exception("the watch failed in a way it must not; starting it again")
                problem = f"internal error: {error!r}"
            self._gone_stale(problem)
            self.watch_restarts += 1
            if time.monotonic() - started > _WENT_WELL:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    def apply(self, event: Snapshot | Change) -> None:
        """Takes in what the store said. Public for tests and for replay; not for readers."""
        if isinstance(event, Change):
            self._held.pop(event.id, None)
            self._publish(self._without_tombstones({event.id: event.instance}))
            return
        if self._view.stale_since is not None:
            # What is held can only come back while the store is there.
            began, self._away_since = self._away_since, time.monotonic()
            away = self._away_since - began
            self._held = {id: until + away for id, until in self._held.items()}
        differences = self._differences(event.instances)
        differences |= dict.fromkeys(set(self._view.removed) - event.instances.keys())
        self._publish(self._without_tombstones(differences))
        if self._view.stale_since is not None:
            away_for = (utcnow() - self._view.stale_since).total_seconds()
            log.info("%s is back after %.1f s", self._store.url, away_for)
            self._swap(replace(self._view, stale_since=None, problem=None))
        self._ready.set()

    def _differences(self, instances: Mapping[str, Instance]) -> dict[str, Instance | None]:
        """What a snapshot changes; what it lacks is held, the longer the more it is."""
        missing = [id for id in self._view.entries if id not in instances]
        fresh = [id for id in missing if id not in self._held]
        for id in [id for id in self._held if id in instances]:
            del self._held[id]
        differences: dict[str, Instance | None] = {**instances}
        total = len(self._view)
        many = total >= HOLD_FROM and len(missing) * 2 > total
        hold = self._hold if many or len(missing) == total else min(self._hold, _RETURN)
        for id in missing:
            kept = self._kept(id, hold) if hold > 0 else None
            differences[id] = kept
            if kept is None:
                self._held.pop(id, None)
            elif id not in self._held:
                self._held[id] = time.monotonic() + hold
                self.held_total += 1
        if hold > 0 and fresh:
            log.warning(
                "%s: %d of %d instances are missing from a new list; held for %g s",
                *(self._store.url, len(fresh), total, hold),
            )
        self._schedule_release()
        return differences

    def _kept(self, id: str, hold: float) -> Instance | None:
        """A vanished instance as it is shown while it is held; ``None``: it said goodbye."""
        entry = self._view.entries[id]
        instance = entry.instance
        if instance.health.status is Status.DRAINING:
            return None
        if instance.health.status is Status.DOWN or id in self._held:
            return instance  # holding must not revive it; and it is shown as held already
        reason = f"missing from the store; held for {hold:g} s in case it comes back"
        health = replace(
            instance.health.then(Status.DEGRADED, reason, heard=False),
            last_seen=entry.last_seen(self._view.as_of),  # the last that the store vouched for
        )
        return replace(instance, health=health)

    def _schedule_release(self) -> None:
        if self._release is not None:
            self._release.cancel()
            self._release = None
        if self._held:
            delay = max(0.0, min(self._held.values()) - time.monotonic())
            self._release = asyncio.get_running_loop().call_later(delay, self._let_go)

    def _let_go(self) -> None:
        """Drops what was held for long enough. While the store is away the clock stands still."""
        if self._view.stale_since is not None:
            return  # The snapshot that ends this sets the clock anew.
        now = time.monotonic()
        over = [id for id, until in self._held.items() if until <= now]
        for id in over:
            del self._held[id]
        self._publish(dict.fromkeys(over))
        self._schedule_release()

    def _gone_stale(self, problem: str) -> None:
        if self._view.stale_since is None:
            log.warning("serving the last known list: %s", problem)
            self._away_since = time.monotonic()
        if self._view.problem != problem:
            since = self._view.stale_since or utcnow()
            self._swap(replace(self._view, stale_since=since, problem=problem))

    def _without_tombstones(
        self, differences: Mapping[str, Instance | None]
    ) -> Mapping[str, Instance | None]:
        """``differences`` with tombstones as what is gone; they go into :attr:`View.removed`."""
        removed = self._view.removed
        found = {id: one for id, one in differences.items() if one and is_tombstone(one.record)}
        over = [id for id in removed if id in differences and id not in found]
        if not found and not over:
            return differences
        for id in over:
            removed = removed.remove(id)
        for id, one in found.items():
            removed = removed.insert(id, one)
        self._swap(replace(self._view, removed=removed))
        return {**differences, **dict.fromkeys(found)}

    def _publish(self, differences: Mapping[str, Instance | None]) -> None:
        """Swaps in a view with the visible ones of ``differences``, and notes them in the ring."""
        entries = self._view.entries
        visible: list[tuple[str, Entry | None]] = []
        for id, instance in differences.items():
            old = entries.get(id)
            if instance is None:
                if old is not None:
                    visible.append((id, None))
            elif old is None or not old.instance.same_as(instance):
                visible.append((id, Entry(instance, vouched=id not in self._held)))
        if not visible:
            return
        revision = self._view.revision
        if len(visible) >= _BULK:
            merged = {**dict(entries.items()), **dict(visible)}
            kept = {id: entry for id, entry in merged.items() if entry is not None}
            view = self._view.rebuilt(kept, revision + len(visible))
        else:
            view = self._view
            for id, entry in visible:
                view = view.with_entry(id, entry)
        at = utcnow()
        self._ring.extend(
            Event(revision + number, id, entry, entries.get(id), at)
            for number, (id, entry) in enumerate(visible, start=1)
        )
        self._swap(view)

    def _swap(self, view: View) -> None:
        self._view = view
        self._published.set()
        self._published = asyncio.Event()
