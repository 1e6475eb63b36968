"""An immutable picture of the live list, with the indexes that answer queries from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeAlias

import orjson
from rpds import HashTrieMap, HashTrieSet

from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Instance, instance_to_dict
from mcp_discovery.record import Record


class Entry:
    """One instance in the list, with its JSON serialised once.

    Only ``lastSeen`` is put in when it is asked for: an idle instance is heard of again and again
    without any change in the store. ``vouched`` says whether the store has the instance: it has not
    while the catalog holds it back from a mass drop.
    """

    __slots__ = ("_json", "_vouched", "instance")

    def __init__(self, instance: Instance, *, vouched: bool = True) -> None:
        self.instance = instance
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
        return max(known, now - timedelta(seconds=self.instance.lease.ttl))

    def json(self, now: datetime) -> bytes:
        """The entry as one JSON object, as of ``now``."""
        return self._json + rfc3339(self.last_seen(now)).encode() + b'"}'


Index: TypeAlias = "HashTrieMap[str, HashTrieSet[str]]"


def _capabilities(record: Record) -> Iterable[str]:
    offered = record.capabilities
    return chain(offered.tools, offered.resources, offered.prompts)


#: Index → the keys under which it lists an instance.
_KEYS: Mapping[str, Callable[[Instance], Iterable[str]]] = {
    "name": lambda instance: (instance.record.name,),
    "tag": lambda instance: instance.record.tags,
    "tool": lambda instance: instance.record.capabilities.tools,
    "resource": lambda instance: instance.record.capabilities.resources,
    "prompt": lambda instance: instance.record.capabilities.prompts,
    "capability": lambda instance: _capabilities(instance.record),
    "status": lambda instance: (instance.health.status.value,),
    "transport": lambda instance: (instance.record.endpoint.transport,),
}
INDEXES = tuple(_KEYS)


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader asks for; an empty set leaves its field open.

    ``tags`` all of them or (``any_tag``) at least one; ``capabilities`` all of them, each the name
    of a tool, resource or prompt; ``statuses``, ``names``, ``transports`` one of them.
    """

    tags: frozenset[str] = frozenset()
    any_tag: bool = True
    capabilities: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset({Status.HEALTHY})
    names: frozenset[str] = frozenset()
    transports: frozenset[str] = frozenset()

    def matches(self, instance: Instance) -> bool:
        """Whether ``instance`` is among the answers."""
        record = instance.record
        if self.statuses and instance.health.status not in self.statuses:
            return False
        if self.names and record.name not in self.names:
            return False
        if self.transports and record.endpoint.transport not in self.transports:
            return False
        if self.tags:
            found = self.tags.intersection(record.tags)
            if not found or (not self.any_tag and len(found) < len(self.tags)):
                return False
        return not self.capabilities or self.capabilities.issubset(_capabilities(record))


@dataclass(frozen=True, slots=True)
class View:
    """The list at one revision. Never changes: read it for as long as you like.

    ``stale_since`` is set while the store cannot be watched, ``problem`` says why.
    """

    epoch: str
    revision: int = 0
    stale_since: datetime | None = None
    problem: str | None = None
    entries: HashTrieMap[str, Entry] = field(default_factory=HashTrieMap)
    indexes: Mapping[str, Index] = field(
        default_factory=lambda: {name: HashTrieMap() for name in INDEXES}
    )

    @property
    def as_of(self) -> datetime:
        """The moment for which the list is known to be right: now, unless it is stale."""
        return self.stale_since or utcnow()

    def index(self, name: str) -> Index:
        """Key → ids, for one of :data:`INDEXES`."""
        return self.indexes[name]

    def select(self, query: Query) -> list[Entry]:
        """The entries that match, by name and id.

        Costs in proportion to the smallest index that narrows the query.
        """
        found = [
            entry
            for entry in (self.entries[id] for id in self._candidates(query))
            if query.matches(entry.instance)
        ]
        found.sort(key=_order)
        return found

    def _candidates(self, query: Query) -> Iterable[str]:
        empty: HashTrieSet[str] = HashTrieSet()
        narrow: list[tuple[int, list[HashTrieSet[str]]]] = []

        def narrowed(index: str, keys: Iterable[str], *, every: bool) -> None:
            sets = [self.indexes[index].get(key, empty) for key in keys]
            if not sets:
                return
            if every:
                sets = [min(sets, key=len)]
            narrow.append((sum(map(len, sets)), sets))

        narrowed("tag", query.tags, every=not query.any_tag)
        narrowed("capability", query.capabilities, every=True)
        narrowed("name", query.names, every=False)
        narrowed("transport", query.transports, every=False)
        narrowed("status", (status.value for status in query.statuses), every=False)
        if not narrow:
            return self.entries
        _, sets = min(narrow, key=lambda each: each[0])
        return sets[0] if len(sets) == 1 else set(chain.from_iterable(sets))

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
            name: _moved(index, id, _keys(name, before), _keys(name, after))
            for name, index in self.indexes.items()
        }
        return replace(self, revision=self.revision + 1, entries=entries, indexes=indexes)

    def rebuilt(self, entries: Mapping[str, Entry], revision: int) -> View:
        """A view of ``entries`` alone: the quick way to put in very many at once."""
        built: dict[str, Index] = {}
        for name in INDEXES:
            keyed: defaultdict[str, list[str]] = defaultdict(list)
            for id, entry in entries.items():
                for key in _keys(name, entry.instance):
                    keyed[key].append(id)
            built[name] = HashTrieMap({key: HashTrieSet(ids) for key, ids in keyed.items()})
        return replace(self, revision=revision, entries=HashTrieMap(entries), indexes=built)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)


def _order(entry: Entry) -> tuple[str, str]:
    record = entry.instance.record
    return record.name, record.id


def _keys(index: str, instance: Instance | None) -> frozenset[str]:
    return frozenset(_KEYS[index](instance)) if instance else frozenset()


def _moved(index: Index, id: str, before: frozenset[str], after: frozenset[str]) -> Index:
    """``index`` with ``id`` under the keys of ``after`` instead of those of ``before``."""
    for key in before - after:
        left = index[key].remove(id)
        index = index.insert(key, left) if left else index.remove(key)
    for key in after - before:
        index = index.insert(key, index.get(key, HashTrieSet()).insert(id))
    return index
