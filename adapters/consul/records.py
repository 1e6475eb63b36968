"""Records in Consul's KV, with the terms of their registrations."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.consul.session import LONGEST
from mcp_discovery.errors import DuplicateInstanceError, InvalidRecordError
from mcp_discovery.instance import Lease, decode_registration
from mcp_discovery.record import Record


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record in KV with its lease, its key and its ModifyIndex. ``guarded``: a session holds it,
    or is to; ``ended``: that has ended, so its holder is dead, or its token is gone."""

    key: str
    record: Record
    lease: Lease
    modified: int
    guarded: bool = False
    ended: bool = False

    def duplicate(self) -> DuplicateInstanceError:
        """The error for another holder that registers the same id."""
        holder, url = str(self.lease.holder), self.record.endpoint.url
        looks_alive = LONGEST if self.guarded else 0.0
        return DuplicateInstanceError(
            self.record.id, holder=holder, url=url, looks_alive=looks_alive
        )


def read_known(entry: KVPair | None, prefix: str) -> StoredRecord | None:
    """The record in ``entry``; ``None`` where there is none or it is malformed."""
    try:
        return read_entry(entry, prefix) if entry is not None else None
    except ValueError:
        return None


def read_entry(entry: KVPair, prefix: str) -> StoredRecord:
    """The record in a KV entry below ``prefix``.

    Raises :class:`InvalidRecordError` or :class:`ValueError` where it is not a record.
    """
    name, slash, id = entry.key.removeprefix(prefix).partition("/")
    if not name or not slash or not id or "/" in id:
        raise InvalidRecordError("", f"the key is not {prefix}<name>/<id>")
    record, lease = decode_registration(entry.value)
    if (record.name, record.id) != (name, id):
        raise InvalidRecordError("", f"the record says it is {record.name}/{record.id}")
    return StoredRecord(entry.key, record, lease, entry.modified, entry.guarded, entry.ended)
