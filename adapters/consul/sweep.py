"""Removes unreferenced data from Consul."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.checks import Presence, read_presence
from mcp_discovery.adapters.consul.documents import ConsulDocuments
from mcp_discovery.adapters.consul.listing import StoredRecord, read_entry
from mcp_discovery.adapters.consul.registration import LEAST_REAP
from mcp_discovery.adapters.unreferenced_keys import UnreferencedKeys

#: Seconds for which records and documents have to be unreferenced before they are removed.
GRACE = 60.0


@dataclass(frozen=True, slots=True)
class _Unreferenced:
    """Something unreferenced, which may be removed once it has been so for ``grace`` seconds.

    ``version`` identifies it together with its last change, so that a change starts the time anew.
    """

    version: str
    grace: float
    remove: Callable[[], Awaitable[bool]]


class ConsulSweeper:
    """The sweeps of one store object.

    It removes records without a service (Consul removes a lapsed service, not its record),
    documents that no record names, and services on failed nodes, which have no agent to remove
    them. It raises :class:`StoreDeniedError` where it may not read everything.
    """

    def __init__(self, api: ConsulApi, documents: ConsulDocuments) -> None:
        self._api = api
        self._documents = documents
        self._unreferenced = UnreferencedKeys()

    async def sweep(self) -> int:
        """See :meth:`mcp_discovery.adapters.store.Store.sweep`."""
        await self._api.require_readable()
        # Documents are listed before records: one that is written later is not in the list, and
        # one that is in the list is named by a record that is read afterwards.
        parts = await self._api.kv.keys(self._api.address.documents)
        services = await self._api.services.all()
        stored = await self._records()
        presences = [read_presence(place, checks) for place, checks in services.items()]
        found = [
            *self._unnamed_documents(parts, stored),
            *self._orphans(stored, presences),
            *self._dead_services(stored, presences),
        ]
        ages = self._unreferenced.ages(item.version for item in found)
        removed = 0
        for item in found:
            if ages[item.version] >= item.grace and await item.remove():
                removed += 1
        return removed

    async def _records(self) -> list[StoredRecord]:
        found: list[StoredRecord] = []
        for entry in await self._api.kv.entries(self._api.address.records):
            try:
                found.append(read_entry(entry, self._api.address.records))
            except ValueError:
                continue  # foreign or malformed: the watch reports it
        return found

    def _unnamed_documents(
        self, parts: list[str], stored: list[StoredRecord]
    ) -> list[_Unreferenced]:
        named = {item.record.capabilities.digest for item in stored}
        return [
            _Unreferenced(key, GRACE, partial(self._api.kv.delete, key))
            for key in parts
            if (digest := self._documents.digest_of(key)) is not None and digest not in named
        ]

    def _orphans(
        self, stored: list[StoredRecord], presences: list[Presence]
    ) -> list[_Unreferenced]:
        present = {(presence.place.id, presence.holder) for presence in presences}
        return [
            _Unreferenced(
                f"{item.key} of {item.modified}",
                GRACE,
                partial(self._api.kv.delete, item.key, cas=item.modified),
            )
            for item in stored
            if (item.record.id, item.lease.holder.id) not in present
        ]

    def _dead_services(
        self, stored: list[StoredRecord], presences: list[Presence]
    ) -> list[_Unreferenced]:
        leases = {(item.record.id, item.lease.holder.id): item.lease for item in stored}
        found: list[_Unreferenced] = []
        for presence in presences:
            lease = leases.get((presence.place.id, presence.holder or ""))
            if presence.unreachable and presence.holder is not None:
                grace = max(LEAST_REAP, lease.reap_after if lease is not None else 0.0)
                version = f"{presence.place} of {presence.index}"
                found.append(_Unreferenced(version, grace, partial(self._remove, presence)))
        return found

    async def _remove(self, presence: Presence) -> bool:
        await self._api.services.remove(presence.place)
        return True
