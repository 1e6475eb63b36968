"""The registry's entries, kept in step with the live list, deleted ones included for a while."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self, TypeAlias

from cachetools import LRUCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.registry.entries import Key, ServerVersion, updated_version
from mcp_discovery.facade.registry.server_json import Addresses, can_be_listed
from mcp_discovery.facade.servers.search_index import Rank, ServerRanks
from mcp_discovery.health import utcnow
from mcp_discovery.query.versions import precedence
from mcp_discovery.record import SERVER, Record
from mcp_discovery.vouching import is_vouched_for

#: Stands for the latest version in place of a version.
LATEST = "latest"

#: An entry that was found by words, behind what it is sorted by.
RankedKey: TypeAlias = tuple[Rank, Key]


@dataclass(frozen=True, slots=True)
class RegistryQuery:
    """The filters of a request for entries; ``None`` means no filter.

    ``search`` is a part of a name, in any case, or what is searched for in words; ``version`` is a
    version, or :data:`LATEST`.
    ``since`` implies ``deleted``.
    """

    search: str | None = None
    version: str | None = None
    since: datetime | None = None
    deleted: bool | None = None

    def with_defaults(self, other: RegistryQuery) -> RegistryQuery:
        """This query, with the filters of ``other`` where this one has none."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(other, **given)


log = logging.getLogger(__name__)

#: How long, in seconds, deleted entries are kept, and how many of them at most.
REMEMBERED_FOR = 7 * 86400.0
MOST_REMEMBERED = 10_000
#: Seconds between two updates while no request comes.
_PAUSE = 1.0
#: How many keys the cached selections hold together.
_CACHED_KEYS = 1_000_000


class RegistryIndex:
    """The entries of one catalog, which it follows while :meth:`run` runs.

    A version of a server is listed while one of its instances is not draining, whatever its
    health. After that it is kept as deleted for a while. ``kind`` is that of the records, ``now``
    the clock.
    """

    def __init__(
        self,
        catalog: LiveList,
        addresses: Addresses,
        *,
        kind: str = SERVER,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self.addresses = addresses
        self.kind = kind
        self._catalog = catalog
        self._now = now
        self._turn = asyncio.Lock()
        self._view: View | None = None
        self._instances: dict[Key, dict[str, Entry]] = {}
        self._listed: dict[Key, ServerVersion] = {}
        self._keys: list[Key] = []  # of all that is listed, sorted
        self._versions: dict[str, set[str]] = {}
        self._deleted: dict[Key, datetime] = {}  # the oldest first
        self._selections: LRUCache[RegistryQuery, list[Key]] = LRUCache(
            _CACHED_KEYS, getsizeof=lambda keys: len(keys) + 1
        )
        #: Goes up when the content of a ``server.json``, or which of them there are, changes.
        self.generation = 0

    def page(
        self,
        query: RegistryQuery,
        after: Key | None,
        limit: int,
        *,
        described: Sequence[RankedKey] = (),
        rank: Rank | None = None,
    ) -> tuple[list[ServerVersion], bool]:
        """At most ``limit`` entries, and whether there are more: those with ``query`` by name and
        version, then what was ``described``. They begin behind ``after``, which has a ``rank`` if
        it was described."""
        self.refresh()
        keys = self._selections.get(query)
        if keys is None:
            keys = self._select(query)
            if len(keys) < _CACHED_KEYS:
                self._selections[query] = keys
        if after is None:
            start = 0
        elif rank is None:
            start = bisect_right(keys, after)
        else:
            start = len(keys) + bisect_right(described, (rank, after))
        end = start + limit
        page = [*keys[start:end]]
        behind = slice(max(start - len(keys), 0), max(end - len(keys), 0))
        page += [key for _, key in described[behind]]
        return [self._listed[key] for key in page], end < len(keys) + len(described)

    def described(self, query: RegistryQuery, ranks: ServerRanks) -> list[RankedKey]:
        """What else passes the filters of ``query`` and was found by words, the best first: none of
        those that have it in their name. Changes nothing; another thread may ask."""
        search = (query.search or "").lower()
        best: dict[Key, Rank] = {}
        entries = self._catalog.view.entries
        for entry in filter(None, map(entries.get, ranks.ranking)):
            key = _key(entry)
            listed = self._listed.get(key)
            if listed is not None and search not in key[0].lower() and _passes(listed, query):
                rank = ranks.key(entry)
                best[key] = min(rank, best.get(key, rank))
        return sorted((rank, key) for key, rank in best.items())

    def versions(self, name: str, *, deleted: bool = False) -> list[ServerVersion]:
        """Every version of the server ``name``, the newest publication first."""
        self.refresh()
        found = [self._listed[name, version] for version in self._versions.get(name, ())]
        return sorted(
            (each for each in found if deleted or not each.deleted),
            key=lambda each: (each.published, _order(each.key)),
            reverse=True,
        )

    def version(self, name: str, version: str, *, deleted: bool = False) -> ServerVersion | None:
        """One version of the server ``name``, or its :data:`LATEST`; ``None`` if there is none."""
        self.refresh()
        for known in self._versions.get(name, ()):
            each = self._listed[name, known]
            if (deleted or not each.deleted) and (
                each.is_latest if version == LATEST else known == version
            ):
                return each
        return None

    def latest(self) -> list[ServerVersion]:
        """The latest version of every server that is not deleted."""
        return self.page(RegistryQuery(version=LATEST), None, len(self._catalog.view))[0]

    async def refreshed(self) -> Self:
        """Itself, updated as :meth:`refresh` does it.

        The first list may be long: others have the event loop while it is read.
        """
        async with self._turn:
            view = self._catalog.view
            if self._view is None and not self._listed and self._catalog.is_ready:
                await self._first(view)
        self.refresh()
        return self

    async def _first(self, view: View) -> None:
        """Makes all entries of ``view``, unless that was done meanwhile."""
        at = self._now()
        instances: dict[Key, dict[str, Entry]] = {}
        async for entry in sliced(view):
            if self._is_one(entry.record):
                instances.setdefault(_key(entry), {})[entry.id] = entry
        listed: dict[Key, ServerVersion] = {}
        versions: dict[str, set[str]] = {}
        async for key in sliced(sorted(instances)):
            of_key = tuple(instances[key].values())
            made = updated_version(key, of_key, None, self.addresses, at, first=True)
            if made is not None:
                listed[key] = made
                versions.setdefault(key[0], set()).add(key[1])
        if self._view is not None or self._listed:
            return
        self._view, self._instances, self._listed = view, instances, listed
        self._keys, self._versions = list(listed), versions
        self.generation += 1
        for name in [name for name, those in versions.items() if len(those) > 1]:
            self._mark_latest(name)

    def refresh(self) -> None:
        """Updates the entries with the changes since the last call; cheap where there are none."""
        view = self._catalog.view
        self._expire()
        if view is self._view or not self._catalog.is_ready:
            return
        old, self._view = self._view, None  # so that a failure makes the next call start over
        known = len(self._keys)
        changed = self._everything(view) if old is None else self._changed(old, view)
        names = {key[0] for key, at in changed.items() if self._update(key, at, first=old is None)}
        if old is None or len(self._keys) > known:
            self._keys.sort()
        for name in names:
            self._mark_latest(name)
        if names:
            self.generation += 1
            for query in [each for each in self._selections if each.since is not None]:
                del self._selections[query]
        self._view = view

    async def run(self) -> None:
        """Updates the entries while no request comes, so that the times of changes are right."""
        await self._catalog.ready()
        while True:
            view = self._catalog.view
            try:
                await self.refreshed()
            except Exception:  # the guard that keeps the entries in step
                log.exception("reading the list for the registry failed in a way it must not")
            await self._catalog.after(view)
            await asyncio.sleep(_PAUSE)

    def _changed(self, old: View, view: View) -> dict[Key, datetime]:
        """Updates the instances of each key; the changed keys with the time of their change."""
        try:
            events = self._catalog.since(old.epoch, old.revision)
        except OutdatedRevisionError:
            return self._everything(view)
        changed: dict[Key, datetime] = {}
        for event in events:
            was, now = event.before, event.entry
            if was is not None:
                key = _key(was)
                if key not in self._listed:  # it was added and removed since the last update
                    self._update(key, changed.get(key, event.at), first=False)
                self._instances.get(key, {}).pop(event.id, None)
            if now is not None and self._is_one(now.record):
                self._instances.setdefault(_key(now), {})[event.id] = now
            if not _same(was, now):
                changed |= {_key(entry): event.at for entry in (was, now) if entry is not None}
        return changed

    def _everything(self, view: View) -> dict[Key, datetime]:
        self._instances.clear()
        for entry in view:
            if self._is_one(entry.record):
                self._instances.setdefault(_key(entry), {})[entry.id] = entry
        return dict.fromkeys((*self._listed, *self._instances), self._now())

    def _is_one(self, record: Record) -> bool:
        return record.kind == self.kind and can_be_listed(record)

    def _update(self, key: Key, at: datetime, *, first: bool) -> bool:
        """Updates the entry from its instances; whether its content has changed."""
        instances = tuple(self._instances.get(key, {}).values())
        if not instances:
            self._instances.pop(key, None)
        old = self._listed.get(key)
        new = updated_version(key, instances, old, self.addresses, at, first=first)
        if new is None or new is old:
            return False
        if old is None:
            self._keys.append(key)  # sorted by the caller
            self._versions.setdefault(key[0], set()).add(key[1])
        if old is None or old.deleted != new.deleted:
            self._selections.clear()
        self._listed[key] = new
        self._deleted.pop(key, None)
        if new.deleted:
            self._deleted[key] = new.seen_at
        return old is None or new.server is not old.server or new.deleted

    def _mark_latest(self, name: str) -> None:
        """Marks the greatest version that is not deleted and that somebody vouches for as the
        latest, or else the greatest.

        https://semver.org, section 11; versions that differ in their build are ordered by that.
        """
        listed = [self._listed[name, version] for version in self._versions[name]]
        latest = max(listed, key=_latest)
        for each in listed:
            if each.is_latest != (each is latest):
                self._listed[each.key] = replace(each, is_latest=each is latest)
                self._selections.clear()

    def _expire(self) -> None:
        """Drops deleted entries that are too old, or the oldest where there are too many."""
        too_old = self._now() - timedelta(seconds=REMEMBERED_FOR)
        while self._deleted:
            key, at = next(iter(self._deleted.items()))
            if at > too_old and len(self._deleted) <= MOST_REMEMBERED:
                return
            del self._deleted[key], self._listed[key]
            del self._keys[bisect_left(self._keys, key)]
            self._versions[key[0]].discard(key[1])
            if not self._versions[key[0]]:
                del self._versions[key[0]]
            else:
                self._mark_latest(key[0])
            self._selections.clear()

    def _select(self, query: RegistryQuery) -> list[Key]:
        search = (query.search or "").lower()
        keys = [key for key in self._keys if search in key[0].lower()] if search else self._keys
        return [key for key in keys if _passes(self._listed[key], query)]


def _passes(listed: ServerVersion, query: RegistryQuery) -> bool:
    """Whether it passes the filters but the search."""
    if listed.deleted and not query.deleted and query.since is None:
        return False
    if query.version is not None:
        is_meant = listed.is_latest if query.version == LATEST else listed.key[1] == query.version
        if not is_meant:
            return False
    since = query.since
    return since is None or listed.seen_at >= since or listed.updated >= since


def _key(entry: Entry) -> Key:
    return entry.record.registry_name, entry.record.version


def _latest(version: ServerVersion) -> tuple[bool, bool, Any, str]:
    vouched = any(is_vouched_for(each.instance) for each in version.instances)
    return not version.deleted, vouched, *_order(version.key)


def _order(key: Key) -> tuple[Any, str]:
    return precedence(key[1]), key[1]


def _same(was: Entry | None, now: Entry | None) -> bool:
    """Whether the two are equal in all that an entry shows: they may differ in their load."""
    if was is None or now is None:
        return False
    return was.health == now.health and (was.record is now.record or was.record == now.record)


REGISTRY_INDEX: Part[RegistryIndex] = Part("registry index")
#: The same of A2A agents, which the MCP registry does not have.
AGENT_INDEX: Part[RegistryIndex] = Part("agents")
