"""Registers an instance on two leases and keeps it there: the writing half of the store."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from mcp_discovery.adapters.etcd.api import Gateway
from mcp_discovery.adapters.etcd.documents import Documents
from mcp_discovery.adapters.etcd.errors import LeaseNotFoundError
from mcp_discovery.adapters.etcd.keys import Keys, decode
from mcp_discovery.adapters.etcd.lease import EtcdLease, keep_alive, revoke
from mcp_discovery.adapters.etcd.live import Live
from mcp_discovery.adapters.etcd.skydns import Names, Zone, in_parts
from mcp_discovery.adapters.etcd.txn import Json, delete, found, get, lease_is, put, revision_is
from mcp_discovery.adapters.pulse import Pulse
from mcp_discovery.adapters.store import prepared
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DuplicateInstanceError,
    InvalidRecordError,
    RegistrationLostError,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Lease, decode_registration, encode_registration
from mcp_discovery.record import Record, is_label

#: How often a registration is tried anew when others write the same id in between.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where registrations are kept."""

    gateway: Gateway
    keys: Keys
    documents: Documents
    zone: Zone | None = None


async def register(
    place: Place,
    record: Record,
    document: CapabilityDocument,
    lease: Lease,
    health: Health,
    takeover: str | None,
) -> EtcdRegistration:
    """Registers ``record``, which is :func:`~mcp_discovery.adapters.store.prepared`; see the
    seam's contract."""
    spare: list[str] = []
    for _ in range(_ATTEMPTS):
        before = await _before(place, record.id, document.digest)
        if before.live is not None and before.live.holder not in (lease.holder.id, takeover):
            await revoke(place.gateway, spare)  # All keys are the other's.
            raise await _duplicate(place, record.id, before.live)
        if not before.has_document:
            await place.documents.put(document)
        granted = await _granted(place, lease)
        registration = await _written(place, record, document, lease, health, before, granted)
        if registration is None:
            # Another registrant was faster, or this very transaction ran twice: look again. Its
            # leases may hold what is there by now.
            spare += [each.id for each in granted]
            continue
        if before.live is not None:
            # The same holder's or one's that was taken over, without keys by now. A dead one's
            # expire.
            spare += before.leases
        await revoke(place.gateway, set(spare))
        return registration
    raise StoreUnavailableError(
        place.gateway.store, f"others write {record.id!r} again and again; try later"
    )


@dataclass(frozen=True, slots=True)
class _Before:
    """What is there of an id: guards for a transaction, the old record's key, the old leases."""

    guards: list[Json]
    has_document: bool
    live: Live | None
    record_key: str | None
    leases: list[str]


async def _before(place: Place, id: str, digest: str) -> _Before:
    keys = (place.keys.live(id), place.keys.name_of(id))
    reads = [*(get(key) for key in keys), place.documents.look(digest)]
    _, responses = await place.gateway.txn([], reads)
    *kvs, head = (found(response) for response in responses)
    guards = [
        revision_is(key, kv["mod_revision"] if kv else "0")
        for key, kv in zip(keys, kvs, strict=True)
    ]
    live, named = kvs
    name = decode(named.get("value", "")).decode("utf-8", "replace") if named else ""
    leases = {kv["lease"] for kv in kvs if kv and "lease" in kv}
    return _Before(
        guards,
        head is not None,
        _readable(live),
        place.keys.record(name, id) if is_label(name) else None,
        sorted(leases),
    )


def _readable(kv: Json | None) -> Live | None:
    try:
        return Live.decode(decode(kv.get("value", ""))) if kv else None
    except ValueError:
        return None  # A stranger's key keeps nobody from registering: it is overwritten.


async def _duplicate(place: Place, id: str, live: Live) -> DuplicateInstanceError:
    _, responses = await place.gateway.txn([], [get(place.keys.record(live.name, id))])
    kv = found(responses[0])
    try:
        record, lease = decode_registration(decode(kv.get("value", "")) if kv else b"")
    except InvalidRecordError:
        return DuplicateInstanceError(id, holder="another registrant")
    return DuplicateInstanceError(id, holder=str(lease.holder), url=record.endpoint.url)


async def _granted(place: Place, lease: Lease) -> tuple[EtcdLease, EtcdLease]:
    """The two leases of a registration, for the record and for its health."""
    asking = [
        asyncio.create_task(EtcdLease.grant(place.gateway, each))
        for each in (lease.reap_after, lease.ttl)
    ]
    try:
        for_record, for_health = await asyncio.gather(*asking)
    except BaseException:
        for each in asking:
            each.cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
        await revoke(place.gateway, [each.id for each in found if isinstance(each, EtcdLease)])
        raise
    return for_record, for_health


async def _written(
    place: Place,
    record: Record,
    document: CapabilityDocument,
    lease: Lease,
    health: Health,
    before: _Before,
    granted: tuple[EtcdLease, EtcdLease],
) -> EtcdRegistration | None:
    """One attempt; ``None`` when what was there has changed.

    Where it fails, its leases are left to expire: etcd may have done it without an answer, and to
    revoke them would take a living instance off the list. Who registers it next moves its keys.
    """
    new = EtcdRegistration(place, record, lease, health, *granted)
    first, *rest = in_parts(new._first_writes(record, before))
    try:
        done, responses = await place.gateway.txn(before.guards, first)
    except LeaseNotFoundError as error:
        raise StoreUnavailableError(
            place.gateway.store, f"took longer to register than the TTL of {lease.ttl:g} s"
        ) from error
    if not done:
        return None
    if found(responses[0]) is None:
        # A sweep took it before the record was there to keep it.
        await place.documents.put(document)
    try:
        await new._finish(rest)
    except RegistrationLostError:
        return None  # It is another's already, before the last of its names was written.
    return new


class EtcdRegistration:
    """See :class:`mcp_discovery.adapters.store.Registration`.

    ``live/<id>`` is on a lease of TTL, the record on one of ``reap_after``; both are kept alive in
    one request. Our lease on a key is the proof that nobody else wrote it.
    """

    def __init__(
        self,
        place: Place,
        record: Record,
        lease: Lease,
        health: Health,
        record_lease: EtcdLease,
        live_lease: EtcdLease,
    ) -> None:
        self.id = record.id
        self._place = place
        self._lease = lease
        self._record_lease = record_lease
        self._live_lease = live_lease
        self._record = record
        self._names = Names(place.zone, live_lease.id)
        self._pulse = Pulse(record.id, lease.ttl, health)

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        """See :meth:`mcp_discovery.adapters.store.Registration.heartbeat`."""
        self._pulse.require_alive()
        renew, look = self._pulse.due(time.monotonic(), renew=renew)
        # First: a health that etcd cannot take (NOSPACE) must not be kept alive as it was.
        if (news := self._pulse.to_write(health, load)) is not None:
            await self._write(*news)
            renew, look = True, False
        if renew:
            await self._renew()
        if look:
            await self._look()

    async def _renew(self) -> None:
        sent = time.monotonic()
        if not await keep_alive(self._place.gateway, self._live_lease, self._record_lease):
            raise RegistrationLostError(self.id, "its lease in etcd has expired or was revoked")
        self._pulse.renewed(sent)

    async def _look(self) -> None:
        """Somebody may have deleted the keys, and before 3.5.23 and 3.6.5 a keepalive can succeed
        on a lease that is revoked. A store that was restored has an older health."""
        (there,) = await self._guarded([get(self._place.keys.live(self.id))])
        if decode((found(there) or {}).get("value", "")) != self._live().encode():
            raise RegistrationLostError(self.id, "etcd has another health than was written last")
        await self._mend_names()

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        """See :meth:`mcp_discovery.adapters.store.Registration.update`."""
        lease = self._lease
        terms = {"ttl": lease.ttl, "reap_after": lease.reap_after}
        record = prepared(record, document, **terms, id=self.id)
        await self._place.documents.put_missing(document)
        keys, writes = self._place.keys, self._record_writes(record)
        if record.name != self._record.name:
            live = Live(self._pulse.health, self._pulse.load, lease.holder.id, record.name)
            writes += [
                delete(keys.record(self._record.name, self.id)),
                put(keys.live(self.id), live.encode(), self._live_lease.id),
            ]
        responses = await self._write_all(writes, record, self._pulse.health)
        if found(responses[0]) is None:
            await self._place.documents.put(document)

    async def drain(self) -> None:
        """See :meth:`mcp_discovery.adapters.store.Registration.drain`."""
        await self._write(self._pulse.drain(), self._pulse.load)

    async def deregister(self) -> None:
        """See :meth:`mcp_discovery.adapters.store.Registration.deregister`."""
        keys = self._place.keys
        record_key = keys.record(self._record.name, self.id)
        own = [delete(key) for key in (keys.live(self.id), record_key, keys.name_of(self.id))]
        # Names that do not fit in go with their lease.
        removals = in_parts([*own, *self._names.removals()])[0]
        # Who takes the instance over writes its record anew, so its lease guards the other keys.
        guard = lease_is(record_key, self._record_lease.id)
        await self._place.gateway.txn([guard], removals)
        await revoke(self._place.gateway, [self._live_lease.id, self._record_lease.id])

    def _first_writes(self, record: Record, before: _Before) -> list[Json]:
        keys = self._place.keys
        live = Live(self._pulse.health, None, self._lease.holder.id, record.name)
        writes = self._record_writes(record)
        writes.append(put(keys.live(self.id), live.encode(), self._live_lease.id))
        if before.record_key and before.record_key != keys.record(record.name, self.id):
            writes.append(delete(before.record_key))
        return [*writes, *self._names.to_write(record, self._pulse.health)]

    def _record_writes(self, record: Record) -> list[Json]:
        """Puts the record on its lease; before that, looks whether its document is there."""
        keys, lease = self._place.keys, self._record_lease.id
        return [
            self._place.documents.look(record.capabilities.digest or ""),
            put(keys.record(record.name, self.id), encode_registration(record, self._lease), lease),
            put(keys.name_of(self.id), record.name, lease),
        ]

    def _live(self) -> Live:
        """What the store has of its health, for all that we know."""
        holder = self._lease.holder.id
        return Live(self._pulse.health, self._pulse.load, holder, self._record.name)

    async def _write(self, health: Health, load: Load | None) -> None:
        live = Live(health, load, self._lease.holder.id, self._record.name)
        write = put(self._place.keys.live(self.id), live.encode(), self._live_lease.id)
        await self._write_all([write], self._record, health)
        self._pulse.wrote(health, load)

    async def _write_all(self, writes: list[Json], record: Record, health: Health) -> list[Json]:
        """Does ``writes``, and makes the names those of ``record`` in ``health``: in the same
        transaction, unless it is full."""
        first, *rest = in_parts([*writes, *self._names.to_write(record, health)])
        responses = await self._guarded(first)
        self._record = record
        await self._finish(rest)
        return responses

    async def _finish(self, parts: list[list[Json]]) -> None:
        for part in parts:
            await self._guarded(part)
        self._names.wrote()

    async def _mend_names(self) -> None:
        """Writes the names anew where somebody removed or overwrote one, or nobody knows."""
        for guards in in_parts(self._names.guards()):
            if guards and not (await self._place.gateway.txn(guards, []))[0]:
                await self._require_record()
                self._names.doubt()
                break
        if not self._names.settled:
            await self._write_all([], self._record, self._pulse.health)

    async def _require_record(self) -> None:
        """A store that was restored has an older record, and names of which nobody knows here:
        they go with the old lease."""
        (there,) = await self._guarded([get(self._place.keys.record(self._record.name, self.id))])
        written = encode_registration(self._record, self._lease)
        if decode((found(there) or {}).get("value", "")) != written:
            raise RegistrationLostError(self.id, "etcd has another record than was written last")

    async def _guarded(self, writes: list[Json]) -> list[Json]:
        """Does ``writes`` if both keys are still on our leases.

        May run twice without harm; a rename that did is taken for a loss, and registered anew.
        """
        keys = self._place.keys
        guards = [
            lease_is(keys.live(self.id), self._live_lease.id),
            lease_is(keys.record(self._record.name, self.id), self._record_lease.id),
        ]
        sent = time.monotonic()
        try:
            held, responses = await self._place.gateway.txn(guards, writes)
        except LeaseNotFoundError as error:
            raise RegistrationLostError(
                self.id, "its lease in etcd has expired or was revoked"
            ) from error
        if not held:
            raise RegistrationLostError(
                self.id, "its keys in etcd were removed, or another registrant took it over"
            )
        self._pulse.looked(sent)
        return responses
