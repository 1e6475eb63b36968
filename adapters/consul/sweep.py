"""Removes from Consul what nobody references any more, a minute after it was first seen so."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.checks import Presence, read_presence
from mcp_discovery.adapters.consul.documents import Documents
from mcp_discovery.adapters.consul.listing import Stored, read_entry
from mcp_discovery.adapters.consul.registration import LEAST_REAP

#: Seconds between the sweep that first finds something unreferenced and one that removes it.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class _Waste:
    """Something unreferenced, ``name``d with its version; ``after`` seconds it may go."""

    name: str
    after: float
    remove: Callable[[], Awaitable[bool]]


class Sweeper:
    """The sweeps of one store object.

    It removes records without a service (Consul reaps a silent service, not its record), documents
    that no record names, and services on nodes that are gone, which have no agent to reap them.
    Keys that are not ours to read are not ours to remove.
    """

    def __init__(self, api: ConsulApi, documents: Documents) -> None:
        self._api = api
        self._documents = documents
        self._seen: dict[str, float] = {}

    async def sweep(self) -> int:
        """See :meth:`mcp_discovery.adapters.store.Store.sweep`."""
        await self._api.require_readable()
        # Documents first: one that is written from here on is not among the keys, and one that
        # was there is named by a record that is read later.
        parts = await self._api.kv.keys(self._api.address.documents)
        services = await self._api.services.all()
        stored = await self._records()
        presences = [read_presence(place, checks) for place, checks in services.items()]
        waste = [
            *self._unnamed_documents(parts, stored),
            *self._orphans(stored, presences),
            *self._dead_services(stored, presences),
        ]
        now = time.monotonic()
        self._seen = {item.name: self._seen.get(item.name, now) for item in waste}
        removed = 0
        for item in waste:
            if now - self._seen[item.name] >= item.after and await item.remove():
                removed += 1
        return removed

    async def _records(self) -> list[Stored]:
        found: list[Stored] = []
        for entry in await self._api.kv.entries(self._api.address.records):
            try:
                found.append(read_entry(entry, self._api.address.records))
            except ValueError:
                continue  # Foreign or malformed: the watch reports it.
        return found

    def _unnamed_documents(self, parts: list[str], stored: list[Stored]) -> list[_Waste]:
        named = {item.record.capabilities.digest for item in stored}
        return [
            _Waste(key, PATIENCE, partial(self._api.kv.delete, key))
            for key in parts
            if (digest := self._documents.digest_of(key)) is not None and digest not in named
        ]

    def _orphans(self, stored: list[Stored], presences: list[Presence]) -> list[_Waste]:
        kept = {(presence.place.id, presence.holder) for presence in presences}
        return [
            _Waste(
                f"{item.key} of {item.modified}",
                PATIENCE,
                partial(self._api.kv.delete, item.key, cas=item.modified),
            )
            for item in stored
            if (item.record.id, item.lease.holder.id) not in kept
        ]

    def _dead_services(self, stored: list[Stored], presences: list[Presence]) -> list[_Waste]:
        leases = {(item.record.id, item.lease.holder.id): item.lease for item in stored}
        waste: list[_Waste] = []
        for presence in presences:
            lease = leases.get((presence.place.id, presence.holder or ""))
            if presence.unreachable and presence.holder is not None:
                after = max(LEAST_REAP, lease.reap_after if lease is not None else 0.0)
                name = f"{presence.place} of {presence.index}"
                waste.append(_Waste(name, after, partial(self._remove, presence)))
        return waste

    async def _remove(self, presence: Presence) -> bool:
        await self._api.services.remove(presence.place)
        return True
