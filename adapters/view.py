"""An immutable picture of the live list, with the indexes that answer queries from it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import TypeAlias, TypeVar

import orjson
from rpds import HashTrieMap, HashTrieSet

from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Instance, instance_to_dict
from mcp_discovery.query.query import Query
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

#: Key → the ids of the instances that have it.
Index: TypeAlias = "HashTrieMap[str, HashTrieSet[str]]"


@dataclass(frozen=True, slots=True)
class Kind:
    """What instances of one version of one server have in common, be it a hundred names of tools:
    keys lead to kinds, and each kind to its instances.

    Its hash is reckoned once: each of its names leads to it, and there may be ten thousand.
    """

    name: str
    version: str
    transport: str
    owner: str | None
    tags: tuple[str, ...]
    tools: tuple[str, ...]
    resources: tuple[str, ...]
    prompts: tuple[str, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.tags, self.tools, self.resources, self.prompts
        said = self.name, self.version, self.transport, self.owner, names
        object.__setattr__(self, "_hash", hash(said))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, instance: Instance) -> Kind:
        """The kind of an instance."""
        record = instance.record
        offered = record.capabilities
        return cls(
            record.name,
            record.version,
            record.endpoint.transport,
            record.owner,
            record.tags,
            *(offered.tools, offered.resources, offered.prompts),
        )


#: Index → the keys under which it lists a kind …
_OF_KIND: Mapping[str, Callable[[Kind], Iterable[str]]] = {
    "name": lambda kind: (kind.name,),
    "version": lambda kind: (kind.version,),
    "transport": lambda kind: (kind.transport,),
    "owner": lambda kind: _if_any(kind.owner),
    "tag": lambda kind: kind.tags,
    "tool": lambda kind: kind.tools,
    "resource": lambda kind: kind.resources,
    "prompt": lambda kind: kind.prompts,
    "capability": lambda kind: chain(kind.tools, kind.resources, kind.prompts),
}
#: … and those under which it lists an instance, which are rarely those of its kind.
_OWN: Mapping[str, Callable[[Instance], Iterable[str]]] = {
    "status": lambda instance: (instance.health.status.value,),
    "zone": lambda instance: _if_any(instance.record.zone),
}
INDEXES = (*_OF_KIND, *_OWN)
__all__ = ["INDEXES", "Entry", "Query", "View", "keys_of"]


def _if_any(key: str | None) -> tuple[str, ...]:
    return () if key is None else (key,)


def keys_of(index: str, instance: Instance | None) -> frozenset[str]:
    """The keys under which one of :data:`INDEXES` has ``instance``; none for no instance."""
    if instance is None:
        return frozenset()
    if index in _OWN:
        return frozenset(_OWN[index](instance))
    return frozenset(_OF_KIND[index](Kind.of(instance)))


@dataclass(frozen=True, slots=True)
class View:
    """The list at one revision. Never changes: read it for as long as you like.

    ``stale_since`` is set while the store cannot be watched, ``problem`` says why. ``removed`` are
    the tombstones, by id; see :mod:`mcp_discovery.adapters.tombstone`.
    """

    epoch: str
    revision: int = 0
    stale_since: datetime | None = None
    problem: str | None = None
    entries: HashTrieMap[str, Entry] = field(default_factory=HashTrieMap)
    kinds: HashTrieMap[Kind, HashTrieSet[str]] = field(default_factory=HashTrieMap)
    by_kind: Mapping[str, HashTrieMap[str, HashTrieSet[Kind]]] = field(
        default_factory=lambda: {name: HashTrieMap() for name in _OF_KIND}
    )
    own: Mapping[str, Index] = field(default_factory=lambda: {name: HashTrieMap() for name in _OWN})
    removed: HashTrieMap[str, Instance] = field(default_factory=HashTrieMap)

    @property
    def as_of(self) -> datetime:
        """The moment for which the list is known to be right: now, unless it is stale."""
        return self.stale_since or utcnow()

    def keys(self, index: str) -> Mapping[str, Sized]:
        """All keys of one of :data:`INDEXES`."""
        return self.own[index] if index in _OWN else self.by_kind[index]

    def having(self, index: str, key: str) -> Iterator[str]:
        """The ids of the instances that have ``key`` in one of :data:`INDEXES`."""
        return chain.from_iterable(self._having(index, key))

    def number(self, index: str, key: str) -> int:
        """How many instances have ``key`` in one of :data:`INDEXES`."""
        return sum(map(len, self._having(index, key)))

    def _having(self, index: str, key: str) -> Iterator[HashTrieSet[str]]:
        if index in _OWN:
            ids = self.own[index].get(key)
            return iter(()) if ids is None else iter((ids,))
        return map(self.kinds.__getitem__, self.by_kind[index].get(key, ()))

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
        best: list[HashTrieSet[str]] | None = None
        answered: str | None = None
        least = len(self.entries)
        for name, index, keys, every in query.narrowing():
            rarest = min(keys, key=lambda key: len(self.keys(index).get(key, ()))) if every else ""
            sets = self._fewer(least, index, [rarest] if every else keys)
            if sets is not None:
                best, least = sets, _size(sets)
                answered = name if not every or len(keys) == 1 else None
        versions = self.by_kind["version"]
        # Worth it only where there are fewer versions to look through than instances.
        if query.versions and len(versions) < least:
            fit = [key for key in versions if any(key in wanted for wanted in query.versions)]
            sets = self._fewer(least, "version", fit)
            if sets is not None:
                best, answered = sets, "version"
        if best is None:
            return self.entries, None
        return (best[0] if len(best) == 1 else set(chain.from_iterable(best))), answered

    def _fewer(self, least: int, index: str, keys: Iterable[str]) -> list[HashTrieSet[str]] | None:
        """The ids that an index has under ``keys``, where they are fewer than ``least``."""
        if index in _OF_KIND:
            by_kind = self.by_kind[index]
            # Each kind has an instance: so they need not be counted to be too many.
            if sum(len(by_kind.get(key, ())) for key in keys) >= least:
                return None
        sets = list(chain.from_iterable(self._having(index, key) for key in keys))
        return sets if _size(sets) < least else None

    def count(self, status: Status) -> int:
        """How many instances have ``status``."""
        return self.number("status", status.value)

    def with_entry(self, id: str, entry: Entry | None) -> View:
        """The next revision: ``entry`` put in or, when ``None``, ``id`` taken out."""
        old = self.entries.get(id)
        before = old.instance if old else None
        after = entry.instance if entry else None
        entries = self.entries.remove(id) if entry is None else self.entries.insert(id, entry)
        own = {
            name: _moved(index, id, keys_of(name, before), keys_of(name, after))
            for name, index in self.own.items()
        }
        left = frozenset({Kind.of(before)} if before else ())
        taken = frozenset({Kind.of(after)} if after else ())
        kinds, by_kind = self.kinds, self.by_kind
        if left != taken or entry is None or old is None:
            kinds = _moved(kinds, id, left, taken)
            over = [kind for kind in left if kind not in kinds]  # that was its last instance
            new = [kind for kind in taken if kind not in self.kinds]
            by_kind = {
                name: _with_kinds(index, _OF_KIND[name], over, new)
                for name, index in self.by_kind.items()
            }
        return replace(
            self,
            revision=self.revision + 1,
            entries=entries,
            own=own,
            kinds=kinds,
            by_kind=by_kind,
        )

    def rebuilt(self, entries: Mapping[str, Entry], revision: int) -> View:
        """A view of ``entries`` alone: the quick way to put in very many at once."""
        instances = [(id, entry.instance) for id, entry in entries.items()]
        kinds = _gathered((Kind.of(instance), id) for id, instance in instances)
        return replace(
            self,
            revision=revision,
            entries=HashTrieMap(entries),
            own={
                name: _gathered((key, id) for id, each in instances for key in keys(each))
                for name, keys in _OWN.items()
            },
            kinds=kinds,
            by_kind={
                name: _gathered((key, kind) for kind in kinds for key in set(keys(kind)))
                for name, keys in _OF_KIND.items()
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


def _with_kinds(
    index: HashTrieMap[str, HashTrieSet[Kind]],
    keys: Callable[[Kind], Iterable[str]],
    over: Iterable[Kind],
    new: Iterable[Kind],
) -> HashTrieMap[str, HashTrieSet[Kind]]:
    """``index`` without the kinds that are over, and with new ones."""
    for kind in over:
        index = _moved(index, kind, frozenset(keys(kind)), frozenset())
    for kind in new:
        index = _moved(index, kind, frozenset(), frozenset(keys(kind)))
    return index


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
