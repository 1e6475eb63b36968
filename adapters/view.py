"""An immutable picture of the live list, with the indexes that answer queries from it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TypeAlias, TypeVar

import orjson
from rpds import HashTrieMap, HashTrieSet

from adapters.query import Query
from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Instance, instance_to_dict
from mcp_discovery.record import Record

#: What instances of one server mostly say alike: its JSON is kept once for all of them.
_ALIKE = (
    *("name", "registryName", "title", "description", "version", "websiteUrl", "icons"),
    *("tags", "capabilities", "protocol", "auth", "owner"),
)


@lru_cache(8192)
def _once(data: bytes) -> bytes:
    return data


class Entry:
    """One instance in the list, with its JSON serialised once.

    Only ``lastSeen`` is put in when it is asked for: an idle instance is heard of again and again
    without any change in the store. ``vouched`` says whether the store has the instance: it has not
    while the catalog holds it back from a mass drop.
    """

    __slots__ = ("_alike", "_digest", "_own", "_vouched", "held", "instance", "order")

    def __init__(self, instance: Instance, *, vouched: bool = True) -> None:
        self.instance = instance
        #: What lists are sorted by unless another order is asked for: name and id.
        self.order = instance.record.name, instance.record.id
        self._digest: bytes | None = None
        #: Whether the catalog holds it back from a mass drop.
        self.held = not vouched
        self._vouched = vouched and instance.health.status is not Status.DOWN
        fields = instance_to_dict(instance)
        del fields["lastSeen"]
        alike = {name: fields.pop(name) for name in _ALIKE if name in fields}
        self._own = orjson.dumps(fields)[:-1]
        self._alike = _once(orjson.dumps(alike)[1:-1])

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
        return max(known, now - timedelta(seconds=self.instance.lease.ttl))

    @property
    def digest(self) -> bytes:
        """Stands for all that :meth:`json` says but ``lastSeen``: 12 bytes, made once."""
        if self._digest is None:
            said = b"%b,%b" % (self._own, self._alike)
            self._digest = hashlib.blake2b(said, digest_size=12).digest()
        return self._digest

    def json(self, now: datetime) -> bytes:
        """The entry as one JSON object, as of ``now``."""
        spelled = _spelled(self.last_seen(now))
        return b'%b,%b,"lastSeen":"%b"}' % (self._own, self._alike, spelled)


@lru_cache(16_384)
def _spelled(moment: datetime) -> bytes:
    # Entries with leases of one length were all heard of at the same moment or later.
    return rfc3339(moment).encode()


K = TypeVar("K")
V = TypeVar("V")

_ORDER = attrgetter("order")

#: What an instance offers: the names of its tools, resources and prompts.
Offer: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
#: Key → the ids of the instances that have it.
Index: TypeAlias = "HashTrieMap[str, HashTrieSet[str]]"

#: Index → the keys under which it lists an instance.
_KEYS: Mapping[str, Callable[[Instance], Iterable[str]]] = {
    "name": lambda instance: (instance.record.name,),
    "tag": lambda instance: instance.record.tags,
    "status": lambda instance: (instance.health.status.value,),
    "transport": lambda instance: (instance.record.endpoint.transport,),
    "zone": lambda instance: _if_any(instance.record.zone),
    "owner": lambda instance: _if_any(instance.record.owner),
    "version": lambda instance: (instance.record.version,),
}
INDEXES = tuple(_KEYS)
#: Index → the keys under which it lists an offer. Instances of one version offer the same, be it a
#: hundred names, so that names lead to offers, and each offer to its instances.
_NAMES: Mapping[str, Callable[[Offer], Iterable[str]]] = {
    "tool": itemgetter(0),
    "resource": itemgetter(1),
    "prompt": itemgetter(2),
    "capability": chain.from_iterable,
}
__all__ = ["INDEXES", "Entry", "Index", "Offer", "Query", "View", "keys_of"]


def _if_any(key: str | None) -> tuple[str, ...]:
    return () if key is None else (key,)


def keys_of(index: str, instance: Instance | None) -> frozenset[str]:
    """The keys by which one of the indexes leads to ``instance``; none for no instance."""
    if instance is None:
        return frozenset()
    if index in _NAMES:
        return frozenset(_NAMES[index](offer_of(instance)))
    return frozenset(_KEYS[index](instance))


def offer_of(instance: Instance) -> Offer:
    """What ``instance`` offers."""
    offered = instance.record.capabilities
    return offered.tools, offered.resources, offered.prompts


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
    offers: HashTrieMap[Offer, HashTrieSet[str]] = field(default_factory=HashTrieMap)
    names: Mapping[str, HashTrieMap[str, HashTrieSet[Offer]]] = field(
        default_factory=lambda: {name: HashTrieMap() for name in _NAMES}
    )
    removed: HashTrieMap[str, Instance] = field(default_factory=HashTrieMap)

    @property
    def as_of(self) -> datetime:
        """The moment for which the list is known to be right: now, unless it is stale."""
        return self.stale_since or utcnow()

    def index(self, name: str) -> Index:
        """Key → ids, for one of :data:`INDEXES`."""
        return self.indexes[name]

    def keys(self, index: str) -> Mapping[str, object]:
        """All keys of an index; besides :data:`INDEXES` there are ``tool``, ``resource``,
        ``prompt`` and, for all three, ``capability``."""
        return self.names[index] if index in _NAMES else self.indexes[index]

    def having(self, index: str, key: str) -> list[HashTrieSet[str]]:
        """The ids that an index lists under ``key``, in sets that have none in common."""
        if index in _NAMES:
            return [self.offers[offer] for offer in self.names[index].get(key, ())]
        ids = self.indexes[index].get(key)
        return [] if ids is None else [ids]

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
        for name, index, keys, every in query.narrowing():
            by_key = [self.having(index, key) for key in keys]
            sets = min(by_key, key=_size) if every else list(chain.from_iterable(by_key))
            size = _size(sets)
            if best is None or size < least:
                least, best = size, sets
                answered = name if not every or len(keys) == 1 else None
        versions = self.indexes["version"]
        # Worth it only where there are fewer versions to look through than instances.
        if query.versions and len(versions) < least:
            fit = [key for key in versions if any(key in wanted for wanted in query.versions)]
            sets = [versions[key] for key in fit]
            if _size(sets) < least:
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
        left = frozenset({offer_of(before)} if before else ())
        taken = frozenset({offer_of(after)} if after else ())
        offers = _moved(self.offers, id, left, taken)
        names = dict(self.names)
        nothing: frozenset[str] = frozenset()
        for index, keys in _NAMES.items():
            for offer in left:
                if offer not in offers:  # that was the last instance that offered it
                    names[index] = _moved(names[index], offer, frozenset(keys(offer)), nothing)
            for offer in taken:
                if offer not in self.offers:
                    names[index] = _moved(names[index], offer, nothing, frozenset(keys(offer)))
        return replace(
            self,
            revision=self.revision + 1,
            entries=entries,
            indexes=indexes,
            offers=offers,
            names=names,
        )

    def rebuilt(self, entries: Mapping[str, Entry], revision: int) -> View:
        """A view of ``entries`` alone: the quick way to put in very many at once."""
        instances = [(id, entry.instance) for id, entry in entries.items()]
        offers = _gathered((offer_of(instance), id) for id, instance in instances)
        return replace(
            self,
            revision=revision,
            entries=HashTrieMap(entries),
            indexes={
                name: _gathered((key, id) for id, each in instances for key in keys_of(name, each))
                for name in INDEXES
            },
            offers=offers,
            names={
                name: _gathered((key, offer) for offer in offers for key in set(keys(offer)))
                for name, keys in _NAMES.items()
            },
        )

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)


def _size(sets: Iterable[HashTrieSet[str]]) -> int:
    return sum(map(len, sets))


def _gathered(pairs: Iterable[tuple[K, V]]) -> HashTrieMap[K, HashTrieSet[V]]:
    keyed: defaultdict[K, list[V]] = defaultdict(list)
    for key, value in pairs:
        keyed[key].append(value)
    return HashTrieMap({key: HashTrieSet(values) for key, values in keyed.items()})


def _moved(
    index: HashTrieMap[K, HashTrieSet[V]], value: V, before: frozenset[K], after: frozenset[K]
) -> HashTrieMap[K, HashTrieSet[V]]:
    """``index`` with ``value`` under the keys of ``after`` instead of those of ``before``."""
    for key in before - after:
        left = index[key].remove(value)
        index = index.insert(key, left) if left else index.remove(key)
    for key in after - before:
        index = index.insert(key, index.get(key, HashTrieSet()).insert(value))
    return index
