"""Registers an instance in etcd on two leases, and keeps it registered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial

from mcp_discovery.adapters.dns_names import SERVER, TAG, AmbiguousLabels
from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.documents import EtcdDocuments
from mcp_discovery.adapters.etcd.errors import LeaseNotFoundError
from mcp_discovery.adapters.etcd.keys import (
    Json,
    Keys,
    LiveValue,
    decode,
    delete,
    found,
    get,
    key_text,
    lease_is,
    prefix_end,
    put,
    revision_is,
)
from mcp_discovery.adapters.etcd.lease import grant, keep_alive, revoke
from mcp_discovery.adapters.etcd.skydns import DNSRecords, DNSZone, in_parts
from mcp_discovery.adapters.heartbeats import ScheduledRegistration
from mcp_discovery.adapters.kept_document import KeptDocument
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    DuplicateInstanceError,
    InvalidRecordError,
    RegistrationLostError,
    StoreError,
    StoreFault,
    StoreUnavailableError,
)
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import (
    Instance,
    Lease,
    decode_registration,
    encode_registration,
    is_leaving,
)
from mcp_discovery.record import Record, is_label

#: How often a registration is attempted while others write the same id.
_ATTEMPTS = 5
#: With these, etcd may well renew a lease.
_NO_WRITES = (StoreFault.DENIED, StoreFault.FORBIDDEN, StoreFault.OUT_OF_SPACE)
_LEASE_GONE = "its lease in etcd has expired or was revoked"


@dataclass(frozen=True, slots=True)
class EtcdNamespace:
    """What a registration needs: the gateway, the keys under one prefix, and the DNS zone."""

    gateway: EtcdGateway
    keys: Keys
    documents: EtcdDocuments
    zone: DNSZone | None = None


async def register(
    place: EtcdNamespace, new: Instance, document: CapabilityDocument, takeover: str | None
) -> EtcdRegistration:
    """Registers an instance; see :meth:`mcp_discovery.adapters.store.Store.register`."""
    spare: list[str] = []
    ambiguous = AmbiguousLabels(partial(_ambiguous_labels, place))
    for _ in range(_ATTEMPTS):
        before = await _before(place, new.id, document.digest)
        await ambiguous.look(new.record)
        if before.live is not None and before.live.holder not in (new.lease.holder.id, takeover):
            held = await _held(place, new.id, before.live)
            if held is None or not is_leaving(before.live.health, held[1]):
                await revoke(place.gateway, spare)  # no key is on them, all are the other holder's
                raise _duplicate(new.id, held)
        if not before.has_document:
            await place.documents.put(document)
        granted = await _granted(place, new.lease)
        registration = await _written(place, new, document, before, granted, ambiguous)
        if registration is None:
            # Another registrant was faster, or this transaction was executed twice: read again.
            # Its leases may carry the keys that exist now.
            spare += granted
            continue
        if before.live is not None:
            # The replaced registration's leases have no keys any more. Lapsed ones expire.
            spare += before.leases
        await revoke(place.gateway, set(spare))
        return registration
    raise StoreUnavailableError(
        place.gateway.store, f"others write {new.id!r} again and again; try later"
    )


@dataclass(frozen=True, slots=True)
class _Before:
    """What is stored for an id: guards for a transaction, the old record's key, the old leases."""

    guards: list[Json]
    has_document: bool
    live: LiveValue | None
    record_key: str | None
    leases: list[str]


async def _before(place: EtcdNamespace, id: str, digest: str) -> _Before:
    keys = (place.keys.live(id), place.keys.name_of(id))
    reads = [*(get(key) for key in keys), place.documents.lookup(digest)]
    _, responses = await place.gateway.txn([], reads)
    *kvs, head = (found(response) for response in responses)
    guards = [
        revision_is(key, kv["mod_revision"] if kv else "0")
        for key, kv in zip(keys, kvs, strict=True)
    ]
    live, named = kvs
    name = decode(named.get("value", "")).decode("utf-8", "replace") if named else ""
    leases = {kv["lease"] for kv in kvs if kv and "lease" in kv}
    record_key = place.keys.record(name, id) if is_label(name) else None
    return _Before(guards, head is not None, _readable(live), record_key, sorted(leases))


def _readable(kv: Json | None) -> LiveValue | None:
    try:
        return LiveValue.decode(decode(kv.get("value", ""))) if kv else None
    except ValueError:
        return None  # a malformed key does not prevent a registration, it is overwritten


async def _held(place: EtcdNamespace, id: str, live: LiveValue) -> tuple[Record, Lease] | None:
    """What the holder in ``live`` has registered; ``None`` where that cannot be read."""
    _, responses = await place.gateway.txn([], [get(place.keys.record(live.name, id))])
    kv = found(responses[0])
    try:
        return decode_registration(decode(kv.get("value", "")) if kv else b"")
    except InvalidRecordError:
        return None


def _duplicate(id: str, held: tuple[Record, Lease] | None) -> DuplicateInstanceError:
    if held is None:
        return DuplicateInstanceError(id, holder="another registrant")
    record, lease = held
    return DuplicateInstanceError(id, holder=str(lease.holder), url=record.endpoint.url)


async def _ambiguous_labels(place: EtcdNamespace, record: Record) -> set[str]:
    """The labels of ``record`` that are the name of one server and a tag of another; of the healthy
    ones, as far as tags are concerned."""
    if place.zone is None:
        return set()
    others = [tag for tag in record.tags if tag != record.name]
    own = [place.zone.below(f"{record.name}.{kind}") for kind in (TAG, SERVER)]
    records = [place.keys.record(tag, "") for tag in others]
    reads = [get(each, end=prefix_end(each), keys_only=True) for each in (*own, *records)]
    _, responses = await place.gateway.txn([], reads)
    tagged, named, *servers = (each["response_range"].get("kvs", ()) for each in responses)
    ids = [
        {key_text(kv["key"]).removeprefix(prefix).partition("/")[0] for kv in kvs}
        for prefix, kvs in zip(own, (tagged, named), strict=True)
    ]
    found = {tag for tag, kvs in zip(others, servers, strict=True) if kvs}
    return found | ({record.name} if ids[0] - ids[1] else set())


async def _granted(place: EtcdNamespace, lease: Lease) -> tuple[str, str]:
    """The two leases of a registration, for the record and for its health."""
    grants = [
        asyncio.create_task(grant(place.gateway, each)) for each in (lease.reap_after, lease.ttl)
    ]
    try:
        for_record, for_health = await asyncio.gather(*grants)
    except BaseException:
        for each in grants:
            each.cancel()
        found = await asyncio.gather(*grants, return_exceptions=True)
        await revoke(place.gateway, [each for each in found if isinstance(each, str)])
        raise
    return for_record, for_health


async def _written(
    place: EtcdNamespace,
    new: Instance,
    document: CapabilityDocument,
    before: _Before,
    granted: tuple[str, str],
    ambiguous: AmbiguousLabels,
) -> EtcdRegistration | None:
    """One attempt to register; ``None`` when the keys have changed since ``before``.

    Where it fails, its leases are left to expire: etcd may have executed it, and revoking them
    would remove a live instance from the list. The next registration moves the keys.
    """
    registration = EtcdRegistration(place, new, document, *granted, ambiguous)
    first, *rest = in_parts(registration._first_writes(before))
    try:
        done, responses = await place.gateway.txn(before.guards, first)
    except LeaseNotFoundError as error:
        problem = f"took longer to register than the TTL of {new.lease.ttl:g} s"
        raise StoreUnavailableError(place.gateway.store, problem) from error
    if not done:
        return None
    if found(responses[0]) is None:
        # A sweep has removed the document before the record referred to it.
        await place.documents.put(document)
    try:
        await registration._finish(rest)
    except RegistrationLostError:
        return None  # another registrant replaced it before all DNS records were written
    return registration


class EtcdRegistration(ScheduledRegistration):
    """See :class:`mcp_discovery.adapters.store.Registration`.

    ``live/<id>`` is on a lease of TTL, the record on one of ``reap_after``; both are renewed in one
    request. A key that is on our lease has not been written by anybody else.
    """

    def __init__(
        self,
        place: EtcdNamespace,
        new: Instance,
        document: CapabilityDocument,
        record_lease: str,
        live_lease: str,
        ambiguous: AmbiguousLabels,
    ) -> None:
        super().__init__(new)
        self._kept = KeptDocument(document, new.lease.ttl, place.documents.ensure)
        self._place = place
        self._record_lease = record_lease
        self._live_lease = live_lease
        self._record = new.record
        self._ambiguous = ambiguous
        self._dns = DNSRecords(place.zone, live_lease, ambiguous)

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        self._heartbeats.require_alive()
        renew, verify = self._heartbeats.due(time.monotonic(), renew=renew)
        renewed = False
        try:
            # Written first: if etcd cannot take the new health (NOSPACE, another password), a
            # better one must not be renewed.
            if (change := self._heartbeats.to_write(health, load)) is not None:
                try:
                    await self._write(*change)
                except StoreError as error:
                    if error.fault not in _NO_WRITES or self._heartbeats.flatters(change[0]):
                        raise
                    await self._renew()
                    renewed = True
                    raise
                renew, verify = True, False
            if renew:
                await self._renew()
                renewed = True
            if verify:
                await self._verify()
            await self._kept.look()
        except StoreError as error:
            error.renewed = renewed
            self._heartbeats.distrust()
            raise

    async def _renew(self) -> None:
        sent = time.monotonic()
        if not await keep_alive(self._place.gateway, self._live_lease, self._record_lease):
            raise RegistrationLostError(self.id, _LEASE_GONE)
        self._heartbeats.renewed(sent)

    async def _verify(self) -> None:
        """Compares what etcd has with what was written. The keys may have been deleted, a restored
        store has older values, and before etcd 3.5.23 and 3.6.5 a keepalive can succeed on a
        revoked lease."""
        (response,) = await self._guarded([get(self._place.keys.live(self.id))])
        live = self._live(self._heartbeats.health, self._heartbeats.load, self._record)
        if decode((found(response) or {}).get("value", "")) != live:
            raise RegistrationLostError(self.id, "etcd has another health than was written last")
        if self._ambiguous.due and await self._ambiguous.look(self._record):
            self._dns.distrust()
        await self._repair_dns_records()

    async def _update(self, record: Record, document: CapabilityDocument) -> None:
        await self._place.documents.put_missing(document)
        await self._ambiguous.look(record)
        writes, health = self._record_writes(record), self._heartbeats.health
        if record.name != self._record.name:
            writes += [
                delete(self._place.keys.record(self._record.name, self.id)),
                self._put_live(health, self._heartbeats.load, record),
            ]
        responses = await self._write_all(writes, record, health)
        if found(responses[0]) is None:
            await self._place.documents.put(document)
        self._kept.wrote(document)

    async def deregister(self) -> None:
        keys = self._place.keys
        record_key = keys.record(self._record.name, self.id)
        own = [delete(key) for key in (keys.live(self.id), record_key, keys.name_of(self.id))]
        # DNS records beyond the limit of a transaction are removed with their lease.
        removals = in_parts([*own, *self._dns.removals()])[0]
        # A takeover writes the record again, so its lease guards the other keys too.
        guard = lease_is(record_key, self._record_lease)
        await self._place.gateway.txn([guard], removals)
        await revoke(self._place.gateway, [self._live_lease, self._record_lease])

    def _first_writes(self, before: _Before) -> list[Json]:
        record, health = self._record, self._heartbeats.health
        writes = [*self._record_writes(record), self._put_live(health, None, record)]
        if before.record_key not in (None, self._place.keys.record(record.name, self.id)):
            writes.append(delete(before.record_key))
        return [*writes, *self._dns.to_write(record, health)]

    def _record_writes(self, record: Record) -> list[Json]:
        """Operations that look up the document and then put the record on its lease."""
        keys, lease = self._place.keys, self._record_lease
        return [
            self._place.documents.lookup(record.capabilities.digest or ""),
            put(keys.record(record.name, self.id), encode_registration(record, self._lease), lease),
            put(keys.name_of(self.id), record.name, lease),
        ]

    def _live(self, health: Health, load: Load | None, record: Record) -> bytes:
        return LiveValue(health, load, self._lease.holder.id, record.name).encode()

    def _put_live(self, health: Health, load: Load | None, record: Record) -> Json:
        live = self._live(health, load, record)
        return put(self._place.keys.live(self.id), live, self._live_lease)

    async def _write(self, health: Health, load: Load | None) -> None:
        write = self._put_live(health, load, self._record)
        await self._write_all([write], self._record, health)
        self._heartbeats.written(health, load)

    async def _write_all(self, writes: list[Json], record: Record, health: Health) -> list[Json]:
        """Executes ``writes``, and writes the DNS records of ``record`` in ``health``: in the same
        transaction, as far as they fit in."""
        first, *rest = in_parts([*writes, *self._dns.to_write(record, health)])
        responses = await self._guarded(first)
        self._record = record
        await self._finish(rest)
        return responses

    async def _finish(self, parts: list[list[Json]]) -> None:
        for part in parts:
            await self._guarded(part)
        self._dns.written()

    async def _repair_dns_records(self) -> None:
        """Writes the DNS records again if one was removed or overwritten, or may not have been
        written."""
        for guards in in_parts(self._dns.guards()):
            if guards and not (await self._place.gateway.txn(guards, []))[0]:
                await self._require_record()
                self._dns.distrust()
                break
        if not self._dns.settled:
            await self._write_all([], self._record, self._heartbeats.health)

    async def _require_record(self) -> None:
        """Raises :class:`RegistrationLostError` if etcd has another record: a restored store has an
        older one, and unknown DNS records, which are removed with the old lease."""
        key = self._place.keys.record(self._record.name, self.id)
        (response,) = await self._guarded([get(key)])
        written = encode_registration(self._record, self._lease)
        if decode((found(response) or {}).get("value", "")) != written:
            raise RegistrationLostError(self.id, "etcd has another record than was written last")

    async def _guarded(self, writes: list[Json]) -> list[Json]:
        """Executes ``writes`` if both keys are still on our leases; that verifies them.

        It may be executed twice without harm; a rename that is, counts as lost and is registered
        again.
        """
        keys = self._place.keys
        guards = [
            lease_is(keys.live(self.id), self._live_lease),
            lease_is(keys.record(self._record.name, self.id), self._record_lease),
        ]
        sent = time.monotonic()
        try:
            held, responses = await self._place.gateway.txn(guards, writes)
        except LeaseNotFoundError as error:
            raise RegistrationLostError(self.id, _LEASE_GONE) from error
        if not held:
            why = "its keys in etcd were removed, or another registrant took it over"
            raise RegistrationLostError(self.id, why)
        self._heartbeats.verified(sent)
        return responses
