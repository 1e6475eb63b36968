"""The watched range in memory: each value decoded once, and the instances made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from mcp_discovery.adapters.etcd.keys import Json, Keys, LiveValue, decode
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import Health, Status, silent_for, utcnow
from mcp_discovery.instance import Instance, Lease, decode_registration
from mcp_discovery.record import Record, is_label

T = TypeVar("T")

_UNREADABLE = "its health in the store cannot be read"


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """Identifies one write of a key, also across stores that were wiped or restored."""

    revision: int
    lease: str

    @classmethod
    def of(cls, kv: Json) -> KeyVersion:
        """The version of a key from the gateway."""
        return cls(int(kv["mod_revision"]), kv.get("lease", "0"))


@dataclass(frozen=True, slots=True)
class _Registered:
    record: Record
    lease: Lease
    version: KeyVersion


class EtcdListing:
    """All keys of the watched range at one revision.

    Keys that cannot be read go into ``skipped``. :meth:`put` and :meth:`delete` return the id of
    the instance that they may have changed, or ``None``.
    """

    def __init__(self, keys: Keys, skipped: SkippedKeys) -> None:
        self._prefix, self._queries = keys.prefix, keys.query("")
        self._skipped = skipped
        self.versions: dict[str, KeyVersion] = {}
        self._lives: dict[str, LiveValue | None] = {}  # None: it exists and is malformed
        self._registered: dict[str, dict[str, _Registered]] = {}  # id → name → record
        self._silent: dict[str, Health] = {}  # the health of those without a live key

    def instances(self) -> dict[str, Instance]:
        """Every instance that has a record."""
        found = ((id, self.instance(id)) for id in self._registered)
        return {id: instance for id, instance in found if instance is not None}

    def put(self, key: str, kv: Json) -> str | None:
        """Takes a key with its value, as the gateway returns it."""
        if key.startswith(self._queries):
            return None
        version = KeyVersion.of(kv)
        if self.versions.get(key) == version:
            return None
        self.versions[key] = version
        match key.removeprefix(self._prefix).split("/"):
            case ["live", id] if is_label(id):
                self._silent.pop(id, None)
                self._lives[id] = self._decoded(key, kv, LiveValue.decode)
                return id
            case ["servers", name, id] if is_label(name) and is_label(id):
                found = self._decoded(key, kv, partial(_registration, name, id))
                if found is None:
                    return self._forget_record(name, id)
                self._registered.setdefault(id, {})[name] = _Registered(*found, version)
                return id
        self._skipped.add(key, "no key of mcp-discovery")
        return None

    def delete(self, key: str) -> str | None:
        """Removes a key."""
        if self.versions.pop(key, None) is None:
            return None
        self._skipped.discard(key)
        match key.removeprefix(self._prefix).split("/"):
            case ["live", id] if id in self._lives:
                self._fell_silent(id, self._lives.pop(id))
                return id
            case ["servers", name, id]:
                return self._forget_record(name, id)
        return None

    def retain(self, keys: Iterable[str]) -> None:
        """Removes every key that is not among ``keys``."""
        for key in self.versions.keys() - set(keys):
            self.delete(key)

    def instance(self, id: str) -> Instance | None:
        """The instance as the keys describe it, or ``None`` where it has no record."""
        named = self._registered.get(id)
        if not named:
            return None
        live = self._lives.get(id)
        if live is not None:
            for held in named.values():
                if held.lease.holder.id == live.holder:
                    return Instance(held.record, live.health, held.lease, live.load)
        # The live key of another holder does not apply to this record.
        held = max(named.values(), key=lambda each: each.version.revision)
        if live is None and id in self._lives:
            since = held.record.registered_at
            return Instance(held.record, Health(Status.DOWN, _UNREADABLE, since, since), held.lease)
        return Instance(held.record, self._silence(id, held), held.lease)

    def unheard(self) -> list[tuple[str, str]]:
        """Id and record lease of those that are down and of which the last renewal is unknown."""
        return [
            (id, max(named.values(), key=lambda each: each.version.revision).version.lease)
            for id, named in self._registered.items()
            if id not in self._lives and id not in self._silent
        ]

    def heard(self, id: str, last_seen: datetime) -> None:
        """Sets when an instance without a live key was last renewed."""
        lease = max(self._registered[id].values(), key=lambda each: each.version.revision).lease
        self._silent[id] = _down(lease, last_seen, last_seen + timedelta(seconds=lease.ttl))

    # -- the keys ----------------------------------------------------------------------------

    def _decoded(self, key: str, kv: Json, read: Callable[[bytes], T]) -> T | None:
        try:
            found = read(decode(kv.get("value", "")))
        except ValueError as error:
            self._skipped.add(key, str(error))
            return None
        self._skipped.discard(key)
        return found

    def _forget_record(self, name: str, id: str) -> str:
        named = self._registered.get(id, {})
        named.pop(name, None)
        if not named:
            self._registered.pop(id, None)
            self._silent.pop(id, None)
        return id

    # -- lapsed instances --------------------------------------------------------------------

    def _fell_silent(self, id: str, live: LiveValue | None) -> None:
        """The live key has just expired, one TTL after the last renewal."""
        for held in self._registered.get(id, {}).values():
            if live is None or held.lease.holder.id == live.holder:
                now = utcnow()
                heard = now - timedelta(seconds=held.lease.ttl)
                if live is not None:
                    heard = min(now, max(heard, live.health.last_seen))
                self._silent[id] = _down(held.lease, heard, now)

    def _silence(self, id: str, held: _Registered) -> Health:
        known = self._silent.get(id)
        if known is not None:
            return replace(known, reason=silent_for(held.lease.ttl))
        heard = held.record.registered_at
        return _down(held.lease, heard, heard)


def _registration(name: str, id: str, value: bytes) -> tuple[Record, Lease]:
    record, lease = decode_registration(value)
    if (record.name, record.id) != (name, id):
        raise InvalidRecordError("", f"the record is of {record.name}/{record.id}")
    return record, lease


def _down(lease: Lease, last_seen: datetime, since: datetime) -> Health:
    return Health(Status.DOWN, silent_for(lease.ttl), since, last_seen)
