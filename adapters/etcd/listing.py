"""The watched range in memory: each value decoded once, and the instances that they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mcp_discovery.adapters.etcd.keys import Keys, decode
from mcp_discovery.adapters.etcd.live import Live
from mcp_discovery.adapters.etcd.txn import Json
from mcp_discovery.adapters.skipped import Skipped
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.health import Health, Status, silent_for, utcnow
from mcp_discovery.instance import Instance, Lease, decode_registration
from mcp_discovery.record import Record, is_label

_UNREADABLE = "its health in the store cannot be read"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one write of a key from every other, across a wiped and refilled store too."""

    revision: int
    lease: str

    @classmethod
    def of(cls, kv: Json) -> Stamp:
        """The stamp of a key as the gateway gives it."""
        return cls(int(kv["mod_revision"]), kv.get("lease", "0"))


@dataclass(frozen=True, slots=True)
class _Registered:
    record: Record
    lease: Lease
    stamp: Stamp


class Listing:
    """All keys of the watched range at one revision.

    What is no instance goes to ``skipped``. :meth:`put` and :meth:`delete` return the id that they
    touched, or ``None``.
    """

    def __init__(self, keys: Keys, skipped: Skipped) -> None:
        self._prefix = keys.prefix
        self._skipped = skipped
        self.stamps: dict[str, Stamp] = {}
        self._lives: dict[str, Live | None] = {}  # None: there, and unreadable
        self._registered: dict[str, dict[str, _Registered]] = {}  # id → name → registration
        self._silent: dict[str, Health] = {}  # how the ones without a live key are

    def ids(self) -> Iterator[str]:
        """Every id that has a record."""
        return iter(self._registered)

    def put(self, key: str, kv: Json) -> str | None:
        """Takes in a key with its value, as the gateway gives it."""
        stamp = Stamp.of(kv)
        if self.stamps.get(key) == stamp:
            return None
        self.stamps[key] = stamp
        try:
            match key.removeprefix(self._prefix).split("/"):
                case ["live", id] if is_label(id):
                    return self._put_live(key, id, decode(kv.get("value", "")))
                case ["servers", name, id] if is_label(name) and is_label(id):
                    return self._put_record(key, name, id, decode(kv.get("value", "")), stamp)
                case _:
                    self._skipped.add(key, "no key of mcp-discovery")
        except ValueError as error:
            self._skipped.add(key, str(error))
        return None

    def delete(self, key: str) -> str | None:
        """Forgets a key."""
        if self.stamps.pop(key, None) is None:
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
        """Forgets every key that is not among ``keys``."""
        for key in self.stamps.keys() - set(keys):
            self.delete(key)

    def instance(self, id: str) -> Instance | None:
        """The instance as the keys have it now, or ``None`` where it has no record."""
        named = self._registered.get(id)
        if not named:
            return None
        live = self._lives.get(id)
        if live is not None:
            for held in named.values():
                if held.lease.holder.id == live.holder:
                    return Instance(held.record, live.health, held.lease, live.load)
        # A live key of another holder says nothing of this record's.
        held = max(named.values(), key=lambda each: each.stamp.revision)
        if live is None and id in self._lives:
            since = held.record.registered_at
            return Instance(held.record, Health(Status.DOWN, _UNREADABLE, since, since), held.lease)
        return Instance(held.record, self._silence(id, held), held.lease)

    def unheard(self) -> list[tuple[str, str]]:
        """Id and record lease of those that are down since nobody knows when."""
        return [
            (id, max(named.values(), key=lambda each: each.stamp.revision).stamp.lease)
            for id, named in self._registered.items()
            if id not in self._lives and id not in self._silent
        ]

    def heard(self, id: str, last_seen: datetime) -> None:
        """Says when a silent instance was last heard of."""
        lease = max(self._registered[id].values(), key=lambda each: each.stamp.revision).lease
        self._silent[id] = _down(lease, last_seen, last_seen + timedelta(seconds=lease.ttl))

    # -- the keys ----------------------------------------------------------------------------

    def _put_live(self, key: str, id: str, value: bytes) -> str:
        self._silent.pop(id, None)
        try:
            self._lives[id] = Live.decode(value)
            self._skipped.discard(key)
        except ValueError as error:
            self._lives[id] = None
            self._skipped.add(key, str(error))
        return id

    def _put_record(self, key: str, name: str, id: str, value: bytes, stamp: Stamp) -> str:
        try:
            record, lease = decode_registration(value)
            if (record.name, record.id) != (name, id):
                raise InvalidRecordError("", f"the record is of {record.name}/{record.id}")
        except ValueError as error:
            self._forget_record(name, id)
            self._skipped.add(key, str(error))
            return id
        self._skipped.discard(key)
        self._registered.setdefault(id, {})[name] = _Registered(record, lease, stamp)
        return id

    def _forget_record(self, name: str, id: str) -> str:
        named = self._registered.get(id, {})
        named.pop(name, None)
        if not named:
            self._registered.pop(id, None)
            self._silent.pop(id, None)
        return id

    # -- silence -----------------------------------------------------------------------------

    def _fell_silent(self, id: str, live: Live | None) -> None:
        """The live key is gone just now, a TTL after the last heartbeat."""
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


def _down(lease: Lease, last_seen: datetime, since: datetime) -> Health:
    return Health(Status.DOWN, silent_for(lease.ttl), since, last_seen)
