"""An immutable picture of the live list, with the indexes that answer queries from it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import TypeAlias

import orjson
from rpds import HashTrieMap, HashTrieSet

from adapters.query import Query, capability_names
from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Instance, instance_to_dict
from mcp_discovery.record import Record


class Entry:
    """One instance in the list, with its JSON serialised once.

    Only ``lastSeen`` is put in when it is asked for: an idle instance is heard of again and again
    without any change in the store. ``vouched`` says whether the store has the instance: it has not
    while the catalog holds it back from a mass drop.
    """

    __slots__ = ("_digest", "_json", "_lease", "_vouched", "held", "instance", "order")

    def __init__(self, instance: Instance, *, vouched: bool = True) -> None:
        self.instance = instance
        #: What lists are sorted by unless another order is asked for: name and id.
        self.order = instance.record.name, instance.record.id
        self._lease = timedelta(seconds=instance.lease.ttl)
        self._digest: bytes | None = None
        #: Whether the catalog holds it back from a mass drop.
        self.held = not vouched
        self._vouched = vouched and instance.health.status is not Status.DOWN
        fields = instance_to_dict(instance)
        del fields["lastSeen"]
        self._json = orjson.dumps(fields)[:-1] + b',"lastSeen":"'

    @property
    def id(self) -> str:
        """The instance's id."""
        return self.instance.record.id

    @property
    def record(self) -> Record:
        """The instance's record."""
        return self.instance.record

    @property
    def health(self) -> Health:
        """The instance's health."""
        return self.instance.health

    def last_seen(self, now: datetime) -> datetime:
        """When the instance was last heard of, or a moment shortly before.

        A store vouches for an instance that is not ``down``: it was heard of within its TTL before
        ``now``. For one that is down, or held back, it is the last moment that is known.
        """
        known = self.instance.health.last_seen
        if not self._vouched:
            return known
        return max(known, now - self._lease)

    @property
    def digest(self) -> bytes:
        """Stands for all that :meth:`json` says but ``lastSeen``: 12 bytes, made once."""
        if self._digest is None:
            self._digest = hashlib.blake2b(self._json, digest_size=12).digest()
        return self._digest

    def json(self, now: datetime) -> bytes:
        """The entry as one JSON object, as of ``now``."""
        return self._json + _spelled(self.last_seen(now)) + b'"}'


@lru_cache(16_384)
def _spelled(moment: datetime) -> bytes:
    # Entries with leases of one length were all heard of at the same moment or later.
    return rfc3339(moment).encode()


_ORDER = attrgetter("order")

Index: TypeAlias = "HashTrieMap[str, HashTrieSet[str]]"


#: Index → the keys under which it lists an instance.
_KEYS: Mapping[str, Callable[[Instance], Iterable[str]]] = {
    "name": lambda instance: (instance.record.name,),
    "tag": lambda instance: instance.record.tags,
    "tool": lambda instance: instance.record.capabilities.tools,
    "resource": lambda instance: instance.record.capabilities.resources,
    "prompt": lambda instance: instance.record.capabilities.prompts,
    "capability": lambda instance: capability_names(instance.record),
    "status": lambda instance: (instance.health.status.value,),
    "transport": lambda instance: (instance.record.endpoint.transport,),
    "zone": lambda instance: _if_any(instance.record.zone),
    "owner": lambda instance: _if_any(instance.record.owner),
    "version": lambda instance: (instance.record.version,),
}
INDEXES = tuple(_KEYS)
__all__ = ["INDEXES", "Entry", "Index", "Query", "View", "keys_of"]


def _if_any(key: str | None) -> tuple[str, ...]:
    return () if key is None else (key,)


def keys_of(index: str, instance: Instance | None) -> frozenset[str]:
    """The keys under which one of :data:`INDEXES` lists ``instance``; none for no instance."""
    return frozenset(_KEYS[index](instance)) if instance else frozenset()


@dataclass(frozen=True, slots=True)
class View:
    """The list at one revision. Never changes: read it for as long as you like.

    ``stale_since`` is set while the store cannot be watched, ``problem`` says why. ``removed`` are
    the tombstones, by id; see :mod:`adapters.tombstone`.
    """

    epoch: str
    revision: int = 0
    stale_since: datetime | None = None
    problem: str | None = None
    entries: HashTrieMap[str, Entry] = field(default_factory=HashTrieMap)
    indexes: Mapping[str, Index] = field(
        default_factory=lambda: {name: HashTrieMap() for name in INDEXES}
    )
    removed: HashTrieMap[str, Instance] = field(default_factory=HashTrieMap)

    @property
    def as_of(self) -> datetime:
        """The moment for which the list is known to be right: now, unless it is stale."""
        return self.stale_since or utcnow()

    def index(self, name: str) -> Index:
        """Key → ids, for one of :data:`INDEXES`."""
        return self.indexes[name]

    def select(
        self, query: Query, *, among: Iterable[str] | None = None, now: datetime | None = None
    ) -> list[Entry]:
        """The entries that match at ``now`` (by default :attr:`as_of`), by name and id.

        ``among`` are the ids of the only ones to look at. Costs in proportion to them, or to the
        smallest index that narrows the query.
        """
        at = now or self.as_of
        candidates, answered = (among, None) if among is not None else self._candidates(query)
        checks = [passes for name, passes in query.checks if name != answered]
        entries = self.entries
        found = [entry for id in candidates if (entry := entries.get(id)) is not None]
        for passes in checks:
            found = [entry for entry in found if passes(query, entry.instance, at)]
        found.sort(key=_ORDER)
        return found

    def _candidates(self, query: Query) -> tuple[Iterable[str], str | None]:
        """Ids among which all answers are, and the filter that each of them passes already."""
        least = len(self.entries)
        best: list[HashTrieSet[str]] | None = None
        answered: str | None = None
        empty: HashTrieSet[str] = HashTrieSet()
        for name, index, keys, every in query.narrowing():
            sets = [self.indexes[index].get(key, empty) for key in keys]
            if every:
                sets = [min(sets, key=len)]
            size = sum(map(len, sets))
            if best is None or size < least:
                least, best = size, sets
                answered = name if not every or len(keys) == 1 else None
        versions = self.indexes["version"]
        # Worth it only where there are fewer versions to look through than instances.
        if query.versions and len(versions) < least:
            fit = [key for key in versions if any(key in wanted for wanted in query.versions)]
            sets = [versions[key] for key in fit]
            if sum(map(len, sets)) < least:
                best, answered = sets, "version"
        if best is None:
            return self.entries, None
        return (best[0] if len(best) == 1 else set(chain.from_iterable(best))), answered

    def count(self, status: Status) -> int:
        """How many instances have ``status``."""
        return len(self.indexes["status"].get(status.value, ()))

    def with_entry(self, id: str, entry: Entry | None) -> View:
        """The next revision: ``entry`` put in or, when ``None``, ``id`` taken out."""
        old = self.entries.get(id)
        before = old.instance if old else None
        after = entry.instance if entry else None
        entries = self.entries.remove(id) if entry is None else self.entries.insert(id, entry)
        indexes = {
            name: _moved(index, id, keys_of(name, before), keys_of(name, after))
            for name, index in self.indexes.items()
        }
        return replace(self, revision=self.revision + 1, entries=entries, indexes=indexes)

    def rebuilt(self, entries: Mapping[str, Entry], revision: int) -> View:
        """A view of ``entries`` alone: the quick way to put in very many at once."""
        built: dict[str, Index] = {}
        for name in INDEXES:
            keyed: defaultdict[str, list[str]] = defaultdict(list)
            for id, entry in entries.items():
                for key in keys_of(name, entry.instance):
                    keyed[key].append(id)
            built[name] = HashTrieMap({key: HashTrieSet(ids) for key, ids in keyed.items()})
        return replace(self, revision=revision, entries=HashTrieMap(entries), indexes=built)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)


def _moved(index: Index, id: str, before: frozenset[str], after: frozenset[str]) -> Index:
    """``index`` with ``id`` under the keys of ``after`` instead of those of ``before``."""
    for key in before - after:
        left = index[key].remove(id)
        index = index.insert(key, left) if left else index.remove(key)
    for key in after - before:
        index = index.insert(key, index.get(key, HashTrieSet()).insert(id))
    return index
