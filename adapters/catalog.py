"""The catalog: the live list over one store.

One task consumes ``Store.watch()``, publishes only what differs, and replaces an immutable
:class:`~mcp_discovery.adapters.view.View`. While the store is unavailable the last known list
stays, marked stale. Instances that are missing from a new snapshot are held for a while before they
are removed, in case the store has answered with less than it has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Protocol, Self

from cachetools import LRUCache

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.store import Change, Snapshot, Store
from mcp_discovery.adapters.store_trouble import StoreTrouble
from mcp_discovery.adapters.tombstone import is_tombstone
from mcp_discovery.adapters.view import Entry
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import StoreError, StoreUnavailableError
from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)

#: A snapshot without any instance of the list, or without more than half of at least this many, is
#: a mass drop, whose instances are held for the catalog's ``hold``.
HOLD_FROM = 10
#: Fewer instances that a snapshot lacks are held for this many seconds. A store sends a further
#: snapshot when it may have been reset to an older state; live registrants register again within
#: 5 s, and a connection that fails meanwhile is noticed within 11 s.
_SHORT_HOLD = 17.0
#: With at least this many changes at once the indexes are built anew instead of one by one.
_BULK = 200
#: Seconds that a watch has to run for the backoff to be reset. Its first snapshot is not enough: a
#: watch that always fails right after it would be restarted without a pause.
_STABLE_AFTER = 10.0
#: The size in bytes, as canonical JSON, of the documents that are cached.
_CACHED_DOCUMENT_BYTES = 64 * 2**20


class Admission(Protocol):
    """Decides which instances of the store are shown as what they are."""

    def admit(self, differences: Mapping[str, Instance | None]) -> Mapping[str, Instance | None]:
        """``differences`` of the list as they are to be shown, and others that follow from them.

        What was shown ``quarantined`` may be given as it was shown.
        """


class Catalog(LiveList):
    """The live list over one store. Use it as ``async with Catalog(store) as catalog``.

    ``hold`` is for how many seconds a mass drop is held back; ``ring`` is how many changes a reader
    may be behind before it has to start over. ``admission`` may show instances as ``quarantined``.
    The catalog does not close the store.
    """

    def __init__(
        self,
        store: Store,
        *,
        hold: float = 30.0,
        ring: int = 8192,
        admission: Admission | None = None,
    ) -> None:
        super().__init__(store.url, ring)
        #: The store that is watched.
        self.store = store
        self._hold = hold
        self._admission = admission
        self._held: dict[str, float] = {}  # id → monotonic time at which it is removed
        self._dropped: set[str] = set()  # those of the held ones that are of a mass drop
        self._release: asyncio.TimerHandle | None = None
        #: Id → what is remarked of a healthy instance, and the instance as the store has it.
        self._remarks: dict[str, tuple[str, Instance]] = {}
        #: Those that only claim to be what they are, and were found.
        self._confirmed: set[str] = set()
        self._away_since = 0.0  # monotonic time at which the view became stale
        #: What is wrong with the store; nothing while the list is confirmed.
        self.trouble = StoreTrouble()
        self._documents: LRUCache[str, CapabilityDocument] = LRUCache(
            _CACHED_DOCUMENT_BYTES, getsizeof=lambda document: document.memory
        )
        self._task: asyncio.Task[None] | None = None
        #: How many instances were ever held back.
        self.held_total = 0
        #: How many times several instances, and more than half of the list, vanished at once.
        self.mass_drops = 0
        #: How many times a watch that ran ended. Further attempts to start one are not counted.
        self.watch_restarts = 0
        #: When the list was last confirmed again by a store that had been away, if it ever was.
        self.back_at: datetime | None = None

    @property
    def held(self) -> int:
        """How many instances are held back now."""
        return len(self._held)

    async def document(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``, cached once it was read.

        Raises what :meth:`Store.document` raises.
        """
        document = self._documents.get(digest)
        if document is None:
            document = self._documents[digest] = await self.store.document(digest)
        return document

    def confirm(self, id: str, *, found: bool) -> None:
        """Shows of an instance that anybody may have registered whether its server was found here.

        In this list alone, and until the instance has gone.
        """
        entry = self.view.entries.get(id)
        if entry is None or (id in self._confirmed) is found:
            return
        (self._confirmed.add if found else self._confirmed.discard)(id)
        _, before = self._remarks.get(id, ("", entry.instance))
        holder = replace(before.lease.holder, probed=False)
        self._publish({id: replace(before, lease=replace(before.lease, holder=holder))})

    def remark(self, id: str, reason: str | None) -> None:
        """Shows an instance that the store has as ``healthy`` as ``degraded`` for ``reason``.

        In this list alone, and until ``reason`` is ``None`` or the instance has gone.
        """
        entry = self.view.entries.get(id)
        _, before = self._remarks.pop(id, (None, None))
        instance = before or (entry.instance if entry is not None else None)
        if entry is None or instance is None:
            return
        if reason is not None:
            self._remarks[id] = reason, instance
        self._publish({id: instance})

    def _remarked(self, id: str, instance: Instance | None) -> Instance | None:
        """``instance`` as it is shown in view of what is remarked of it."""
        if instance is None:
            self._confirmed.discard(id)
            self._remarks.pop(id, None)
            return None
        instance = _probed(instance, id in self._confirmed)
        if id not in self._remarks:
            return instance
        reason, _ = self._remarks[id]
        self._remarks[id] = reason, instance
        if instance.health.status is not Status.HEALTHY:
            return instance
        shown = self.view.entries.get(id)
        health = instance.health.then(Status.DEGRADED, reason)
        if shown is not None and shown.health == replace(health, since=shown.health.since):
            health = replace(health, since=shown.health.since)  # it is still the same
        return replace(instance, health=health)

    # -- following the store -----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="catalog")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._release is not None:
            self._release.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            started, pause = time.monotonic(), 0.0
            trouble: StoreError = StoreUnavailableError(self.store.url, "its watch ended")
            try:
                async with aclosing(self.store.watch()) as events:
                    async for event in events:
                        self.apply(event)
            except StoreUnavailableError as error:
                trouble, pause = error, error.retry_after
            except StoreError as error:
                trouble = error
            except Exception as error:  # the guard that keeps the list alive
                log.exception("the watch failed in a way it must not; starting it again")
                trouble = StoreUnavailableError(self.store.url, f"internal error: {error!r}")
            self._gone_stale(trouble)
            if time.monotonic() - started > _STABLE_AFTER:
                backoff.reset()
            await asyncio.sleep(max(pause, backoff.next()))

    def apply(self, event: Snapshot | Change) -> None:
        """Applies what the store's watch yielded. Public for tests and replay; not for readers."""
        if isinstance(event, Change):
            self._held.pop(event.id, None)
            self._dropped.discard(event.id)
            self._publish(self._without_tombstones({event.id: event.instance}))
            return
        if self.view.stale_since is not None:
            # An instance can only return while the store is available, so the holds are extended.
            began, self._away_since = self._away_since, time.monotonic()
            away = self._away_since - began
            self._held = {id: until + away for id, until in self._held.items()}
        differences = self._differences(event.instances)
        differences |= dict.fromkeys(set(self.view.removed) - event.instances.keys())
        self._publish(self._without_tombstones(differences))
        if self.view.stale_since is not None:
            away_for = (utcnow() - self.view.stale_since).total_seconds()
            log.info("%s is back after %.1f s", self.store.url, away_for)
            self.back_at = utcnow()
            self._swap(replace(self.view, stale_since=None, problem=None))
            self.trouble.over()
        if self.view.partial != event.partial:
            if event.partial is not None:
                log.warning("%s: this list is only a part: %s", self.store.url, event.partial)
            else:
                log.info("%s: the list is whole again", self.store.url)
            self._swap(replace(self.view, partial=event.partial))
        self._ready.set()

    def _differences(self, instances: Mapping[str, Instance]) -> dict[str, Instance | None]:
        """What a snapshot changes; instances that it lacks are held or removed."""
        missing = [id for id in self.view.entries if id not in instances]
        fresh = [id for id in missing if id not in self._held]
        for id in [id for id in self._held if id in instances]:
            del self._held[id]
            self._dropped.discard(id)
        differences: dict[str, Instance | None] = {**instances}
        total = len(self.view)
        many = total >= HOLD_FROM and len(missing) * 2 > total
        hold = self._hold if many or len(missing) == total else min(self._hold, _SHORT_HOLD)
        ending = Status.DRAINING, Status.DOWN  # these leave by themselves, also while unwatched
        vanished = [id for id in fresh if self.view.entries[id].health.status not in ending]
        if hold > 0 and len(vanished) > 1 and len(vanished) * 2 > total:
            self.mass_drops += 1
            self._dropped.update(vanished)
        for id in missing:
            shown = self._shown_held(id, hold) if hold > 0 else None
            differences[id] = shown
            if shown is None:
                self._held.pop(id, None)
            elif id not in self._held:
                self._held[id] = time.monotonic() + hold
                self.held_total += 1
        if hold > 0 and fresh:
            log.warning(
                "%s: %d of %d instances are missing from a new list; held for %g s",
                *(self.store.url, len(fresh), total, hold),
            )
        self._schedule_release()
        return differences

    def _is_draining(self, id: str) -> bool:
        return self.view.entries[id].health.status is Status.DRAINING

    def _shown_held(self, id: str, hold: float) -> Instance | None:
        """A missing instance as it is shown while it is held; ``None`` if it was draining, and so
        has been deregistered."""
        entry = self.view.entries[id]
        instance = entry.instance
        if self._is_draining(id):
            return None
        if instance.health.status in (Status.DOWN, Status.QUARANTINED) or id in self._held:
            return instance  # being held must not make it look better, nor restart the time
        reason = f"missing from the store; held for {hold:g} s in case it comes back"
        health = replace(
            instance.health.then(Status.DEGRADED, reason, heard=False),
            last_seen=entry.last_seen(self.view.as_of),  # the last time that the store confirmed
        )
        return replace(instance, health=health)

    def _schedule_release(self) -> None:
        if self._release is not None:
            self._release.cancel()
        if self._held:
            delay = max(0.0, min(self._held.values()) - time.monotonic())
            self._release = asyncio.get_running_loop().call_later(delay, self._remove_held)

    def _remove_held(self) -> None:
        """Removes what was held long enough, not counting the time while the list is stale."""
        if self.view.stale_since is not None:
            return  # the snapshot that ends this schedules the next call
        now = time.monotonic()
        over = [id for id, until in self._held.items() if until <= now]
        for id in over:
            del self._held[id]
            self._dropped.discard(id)
        self._publish(dict.fromkeys(over))
        self._schedule_release()

    def _gone_stale(self, trouble: StoreError) -> None:
        problem = str(trouble)
        if self.trouble.take(trouble):
            log.warning("serving the last known list: %s", problem)
        if self.view.stale_since is None:
            self._away_since = time.monotonic()
            self.watch_restarts += 1
        if self.view.problem != problem:
            since = self.view.stale_since or utcnow()
            self._swap(replace(self.view, stale_since=since, problem=problem))

    def _without_tombstones(
        self, differences: Mapping[str, Instance | None]
    ) -> Mapping[str, Instance | None]:
        """``differences`` with tombstones as removals; they are put into :attr:`View.removed`."""
        removed = self.view.removed
        found = {id: one for id, one in differences.items() if one and is_tombstone(one.record)}
        over = [id for id in removed if id in differences and id not in found]
        if not found and not over:
            return differences
        for id in over:
            removed = removed.remove(id)
        self._swap(replace(self.view, removed=removed.update(found)))
        return {**differences, **dict.fromkeys(found)}

    def _publish(self, differences: Mapping[str, Instance | None]) -> None:
        """Publishes ``differences`` as they are admitted."""
        self.show(differences if self._admission is None else self._admission.admit(differences))

    def show(self, differences: Mapping[str, Instance | None]) -> None:
        """Publishes those of ``differences`` that are visible. For what was admitted."""
        entries = self.view.entries
        visible: list[tuple[str, Entry | None]] = []
        leaving: list[tuple[str, Entry | None]] = []
        for id, known in differences.items():
            old, instance = entries.get(id), self._remarked(id, known)
            if instance is None:
                if old is not None:
                    visible.append((id, None))
            elif old is None or old.instance != instance:
                if old is not None and _enters_quarantine(old.health, instance.health):
                    leaving.append((id, None))
                dropped = id in self._dropped
                visible.append((id, Entry(instance, vouched=id not in self._held, dropped=dropped)))
        # What enters quarantine leaves the list first: a reader that does not know the status
        # passes over what comes then, and must not keep what was before.
        self._replace(leaving)
        self._replace(visible)

    def _replace(self, visible: list[tuple[str, Entry | None]]) -> None:
        """Publishes the next view, with these entries in the place of those before."""
        entries = self.view.entries
        if not visible:
            return
        if len(visible) >= _BULK:
            merged = {**dict(entries.items()), **dict(visible)}
            remaining = {id: entry for id, entry in merged.items() if entry is not None}
            view = self.view.rebuilt(remaining, self.view.revision + len(visible))
        else:
            view = self.view
            for id, entry in visible:
                view = view.with_entry(id, entry)
        self._swap(view, self._events(visible, entries, utcnow()))


def _probed(instance: Instance, found: bool) -> Instance:
    """``instance``, of which it is known whether it was ``found`` where anybody registered it."""
    holder = instance.lease.holder
    if not holder.claims or holder.probed or not found:
        return instance
    lease = replace(instance.lease, holder=replace(holder, probed=True))
    return replace(instance, lease=lease)


def _enters_quarantine(before: Health, now: Health) -> bool:
    return now.status is Status.QUARANTINED and before.status is not Status.QUARANTINED
