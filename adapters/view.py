"""An immutable snapshot of the live list, with the indexes that queries are answered from."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Literal, TypeAlias, TypeVar

import orjson
from rpds import HashTrieMap, HashTrieSet

from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Instance, instance_to_dict
from mcp_discovery.query.filters import FILTERS, Filter
from mcp_discovery.query.query import Query
from mcp_discovery.record import Record
from mcp_discovery.record_fields import SHARED


@lru_cache(8192)
def _interned(data: bytes) -> bytes:
    return data


class Entry:
    """One instance in the list, with its JSON serialized once.

    Only ``lastSeen`` is inserted for each answer: heartbeats move it without any change in the
    store. ``vouched`` says whether the store lists the instance; it does not while the catalog
    holds the instance back, which may be for a mass drop (``dropped``).
    """

    __slots__ = ("_digest", "_own", "_shared", "_vouched", "dropped", "held", "instance", "order")

    def __init__(self, instance: Instance, *, vouched: bool = True, dropped: bool = False) -> None:
        self.instance = instance
        #: The default sort key of lists: name and id.
        self.order = instance.record.name, instance.record.id
        self._digest: bytes | None = None
        #: Whether the catalog holds the instance back.
        self.held = not vouched
        #: Whether that is because it vanished at once with most others.
        self.dropped = dropped
        self._vouched = vouched and instance.health.status is not Status.DOWN
        fields = instance_to_dict(instance)
        del fields["lastSeen"]
        shared = {name: fields.pop(name) for name in SHARED if name in fields}
        self._own = orjson.dumps(fields)[:-1]
        self._shared = _interned(orjson.dumps(shared)[1:-1])

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
        """When the last heartbeat of the instance came, or a moment shortly before.

        An instance that a store lists and that is not ``down`` had one within its TTL before
        ``now``. For one that is down, or held back, it is the last known moment.
        """
        known = self.instance.health.last_seen
        if not self._vouched:
            return known
        return max(known, now - timedelta(seconds=self.instance.lease.ttl))

    @property
    def digest(self) -> bytes:
        """A digest of the JSON without ``lastSeen``: 12 bytes, computed once."""
        if self._digest is None:
            data = b"%b,%b" % (self._own, self._shared)
            self._digest = hashlib.blake2b(data, digest_size=12).digest()
        return self._digest

    def json(self, now: datetime) -> bytes:
        """The entry as one JSON object, as of ``now``."""
        last_seen = _serialized(self.last_seen(now))
        return b'%b,%b,"lastSeen":"%b"}' % (self._own, self._shared, last_seen)


@lru_cache(16_384)
def _serialized(moment: datetime) -> bytes:
    # Most entries of one list have leases of one length, and so the same moment.
    return rfc3339(moment).encode()


K = TypeVar("K")
V = TypeVar("V")

_ORDER = attrgetter("order")

#: Key → the ids of the instances that have it.
Index: TypeAlias = "HashTrieMap[str, HashTrieSet[str]]"


class Kind:
    """The keys that all instances of one version of one server have in common, be it a hundred
    names of tools: an index leads from a key to kinds, and each kind to its instances.

    ``instance`` is one of them. Two are compared by a digest: each of the keys is indexed by it,
    and there may be fifty thousand.
    """

    __slots__ = ("_digest", "_hash", "instance")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        keys = repr([tuple(each.keys_of(instance)) for each in _indexed("kind")])
        self._digest = hashlib.blake2b(keys.encode(), digest_size=16).digest()
        self._hash = hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kind) and self._digest == other._digest

    def __hash__(self) -> int:
        return self._hash


def _indexed(by: Literal["kind", "instance"]) -> list[Filter]:
    return [each for each in FILTERS.values() if each.index == by]


def keys_of(index: str, instance: Instance | None) -> frozenset[str]:
    """The keys under which the index of a filter has ``instance``; none for no instance."""
    return frozenset() if instance is None else frozenset(FILTERS[index].keys_of(instance))


@dataclass(frozen=True, slots=True)
class View:
    """The list at one revision; it never changes.

    ``stale_since`` is set while the store cannot be watched, ``problem`` says why. ``partial`` says
    what the credentials hide; see :class:`mcp_discovery.adapters.store.Snapshot`. ``removed`` are
    the tombstones, by id; see :mod:`mcp_discovery.adapters.tombstone`. Each filter that has an
    index is in ``by_kind`` or ``by_instance``, as the table of filters says.
    """

    epoch: str
    revision: int = 0
    stale_since: datetime | None = None
    problem: str | None = None
    partial: str | None = None
    entries: HashTrieMap[str, Entry] = field(default_factory=HashTrieMap)
    kinds: HashTrieMap[Kind, HashTrieSet[str]] = field(default_factory=HashTrieMap)
    by_kind: Mapping[str, HashTrieMap[str, HashTrieSet[Kind]]] = field(
        default_factory=lambda: {each.name: HashTrieMap() for each in _indexed("kind")}
    )
    by_instance: Mapping[str, Index] = field(
        default_factory=lambda: {each.name: HashTrieMap() for each in _indexed("instance")}
    )
    removed: HashTrieMap[str, Instance] = field(default_factory=HashTrieMap)

    @property
    def as_of(self) -> datetime:
        """The moment for which the list is known to be current: now, unless it is stale."""
        return self.stale_since or utcnow()

    def keys(self, index: str) -> Mapping[str, Sized]:
        """All keys of the index of a filter."""
        return self.by_instance[index] if index in self.by_instance else self.by_kind[index]

    def having(self, index: str, key: str) -> Iterator[str]:
        """The ids of the instances that have ``key`` in the index of a filter."""
        return chain.from_iterable(self._having(index, key))

    def number(self, index: str, key: str) -> int:
        """How many instances have ``key`` in the index of a filter."""
        return _size(self._having(index, key))

    def _having(self, index: str, key: str) -> Iterator[HashTrieSet[str]]:
        if index in self.by_instance:
            ids = self.by_instance[index].get(key)
            return iter(()) if ids is None else iter((ids,))
        return map(self.kinds.__getitem__, self.by_kind[index].get(key, ()))

    def select(
        self, query: Query, *, among: Iterable[str] | None = None, now: datetime | None = None
    ) -> list[Entry]:
        """The entries that match at ``now`` (by default :attr:`as_of`), by name and id.

        ``among`` are the ids of the only candidates. Costs in proportion to them, or to the
        smallest index that narrows the query.
        """
        at = now or self.as_of
        candidates, answered = (among, None) if among is not None else self._candidates(query)
        passed = {answered, *self._passed_by_all(query)}
        checks = [passes for name, passes in query.checks if name not in passed]
        entries = self.entries
        found = [entry for id in candidates if (entry := entries.get(id)) is not None]
        for passes in checks:
            found = [entry for entry in found if passes(entry.instance, at)]
        found.sort(key=_ORDER)
        return found

    def _candidates(self, query: Query) -> tuple[Iterable[str], str | None]:
        """Ids of which all matches are a part, and the filter that each of them passes already."""
        best: list[HashTrieSet[str]] | None = None
        answered: str | None = None
        least = len(self.entries)
        for each, wanted, every in query.indexed():
            keys: Iterable[str] = wanted
            if each.syntax is not None:
                known = self.keys(each.name)
                if len(known) >= least:
                    continue  # there are fewer instances than keys to compare
                keys = [key for key in known if any(key in value for value in wanted)]
            elif every:
                keys = [self._rarest(each.name, wanted)]
            sets = self._fewer(least, each.name, keys)
            if sets is not None:
                best, least = sets, _size(sets)
                answered = each.name if not every or len(wanted) == 1 else None
        if best is None:
            return self.entries, None
        return (best[0] if len(best) == 1 else set(chain.from_iterable(best))), answered

    def _passed_by_all(self, query: Query) -> Iterator[str]:
        """The filters that every entry passes, as far as an index tells at once: that all are
        servers, mostly, and often that all are healthy."""
        for each, wanted, _ in query.indexed():
            if each.index == "instance" and len(wanted) == 1:
                (key,) = wanted
                if self.number(each.name, key) == len(self.entries):
                    yield each.name

    def _rarest(self, index: str, keys: Iterable[str]) -> str:
        return min(keys, key=lambda key: len(self.keys(index).get(key, ())))

    def _fewer(self, least: int, index: str, keys: Iterable[str]) -> list[HashTrieSet[str]] | None:
        """The ids that an index has under ``keys``, where they are fewer than ``least``."""
        by_kind: Mapping[str, Sized] = self.by_kind.get(index, {})
        # Each kind has at least one instance, so the number of kinds alone can be too large.
        if sum(len(by_kind.get(key, ())) for key in keys) >= least:
            return None
        sets = list(chain.from_iterable(self._having(index, key) for key in keys))
        return sets if _size(sets) < least else None

    def narrowest(self, query: Query) -> list[tuple[str, str]]:
        """The (index, key) pairs one of which every instance has that matches ``query``, now or in
        any later view; of the possible ones those with the fewest instances now. Empty where no
        index narrows the query."""
        found = [
            [(each.name, key) for key in ([self._rarest(each.name, wanted)] if every else wanted)]
            for each, wanted, every in query.indexed()
            if each.syntax is None
        ]
        return min(found, key=lambda pairs: sum(self.number(*each) for each in pairs), default=[])

    def with_entry(self, id: str, entry: Entry | None) -> View:
        """The next revision: ``entry`` put in or, when ``None``, ``id`` taken out."""
        old = self.entries.get(id)
        before = old.instance if old else None
        after = entry.instance if entry else None
        entries = self.entries.remove(id) if entry is None else self.entries.insert(id, entry)
        by_instance = {
            name: _moved(index, id, keys_of(name, before), keys_of(name, after))
            for name, index in self.by_instance.items()
        }
        left = frozenset({Kind(before)} if before else ())
        taken = frozenset({Kind(after)} if after else ())
        kinds, by_kind = _moved(self.kinds, id, left, taken), dict(self.by_kind)
        last = next((each for each in left if each not in kinds), None)  # its last instance left
        first = next((each for each in taken if each not in self.kinds), None)
        for name, index in self.by_kind.items():
            by_kind[name] = _exchanged(
                index,
                last,
                frozenset() if last is None else keys_of(name, before),
                first,
                frozenset() if first is None else keys_of(name, after),
            )
        return replace(
            self,
            revision=self.revision + 1,
            entries=entries,
            by_instance=by_instance,
            kinds=kinds,
            by_kind=by_kind,
        )

    def rebuilt(self, entries: Mapping[str, Entry], revision: int) -> View:
        """A view of ``entries`` alone: the fast way to insert very many at once."""
        instances = [(id, entry.instance) for id, entry in entries.items()]
        kinds = _gathered((Kind(instance), id) for id, instance in instances)
        return replace(
            self,
            revision=revision,
            entries=HashTrieMap(entries),
            by_instance={
                name: _gathered((key, id) for id, each in instances for key in keys_of(name, each))
                for name in self.by_instance
            },
            kinds=kinds,
            by_kind={
                name: _gathered(
                    (key, kind) for kind in kinds for key in keys_of(name, kind.instance)
                )
                for name in self.by_kind
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
    return _exchanged(index, value, before - after, value, after - before)


def _exchanged(
    index: HashTrieMap[K, HashTrieSet[V]],
    old: V | None,
    before: frozenset[K],
    new: V | None,
    after: frozenset[K],
) -> HashTrieMap[K, HashTrieSet[V]]:
    """``index`` without ``old`` under the keys of ``before``, and with ``new`` under those of
    ``after``. There may be ten thousand of them, so what is put in is so at once."""
    put: dict[K, HashTrieSet[V]] = {}
    if old is not None:
        for key in before:
            if len(held := index[key]) > 1:
                put[key] = held.remove(old)
            elif key not in after:
                index = index.remove(key)
    if new is not None:
        alone = HashTrieSet((new,))
        for key in after:
            left = put.get(key) or (None if key in before else index.get(key))
            put[key] = alone if left is None else left.insert(new)
    return index.update(put) if put else index
