"""One registered instance in Consul: service and checks at the local agent, record in KV."""

from __future__ import annotations

import asyncio
import base64
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.api import (
    ConsulApi,
    ServiceFacts,
    StoredParts,
    UnknownCheckError,
)
from mcp_discovery.adapters.consul.checks import ServicePlace
from mcp_discovery.adapters.consul.documents import ConsulDocuments
from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.consul.labels import ServiceLabels
from mcp_discovery.adapters.consul.records import read_known
from mcp_discovery.adapters.consul.session import RecordSession
from mcp_discovery.adapters.heartbeats import ScheduledRegistration
from mcp_discovery.adapters.kept_document import KeptDocument
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import RegistrationLostError, StoreUnavailableError
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Instance, Lease, encode_registration
from mcp_discovery.record import Record

#: The shortest ``DeregisterCriticalServiceAfter`` that Consul accepts, in seconds.
LEAST_REAP = 60.0
#: The TTL of the health check: it must never lapse, and Consul has no check without a TTL.
_FOR_EVER = "87600h"
#: The part of the TTL within which Consul's servers have to answer all that one heartbeat asks: the
#: renewal before it may be 0.4 of the TTL ago, and the next must not be late …
_ANSWERS_WITHIN = 0.45
#: … but a second at least.
_LEAST_PATIENCE = 1.0

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Editions:
    """What makes a definition of the two checks differ from the one before, so that the agent sends
    them to its servers at once.

    It sends no check that is defined as it was, also where the servers have lost it or refused it,
    and a check of which nothing but the output differs only after minutes.
    """

    heartbeat: str
    health: str

    @classmethod
    def first(cls) -> Editions:
        """Those of a new registration, unlike those of whichever was before."""
        return cls(_edition(), _edition())

    def next(self, *, all: bool) -> Editions:
        """Another of the health check, or of both checks."""
        return Editions(_edition() if all else self.heartbeat, _edition())


def _edition() -> str:
    return secrets.token_hex(4)


def service_definition(
    service: str,
    record: Record,
    lease: Lease,
    health_status: str,
    editions: Editions,
    *,
    tags: Sequence[str],
    meta: Mapping[str, str],
) -> dict[str, Any]:
    """The service definition for the agent, with Consul's ``tags`` and ``meta``."""
    reap = max(LEAST_REAP, math.ceil(lease.reap_after))
    definition: dict[str, Any] = {
        "ID": record.id,
        "Name": service,
        "Tags": tags,
        "Meta": meta,
        "Weights": {"Passing": max(1, record.weight), "Warning": 1},
        "Checks": [
            {
                "CheckID": checks.heartbeat_check(record.id),
                "Name": f"MCP heartbeat, edition {editions.heartbeat}",
                "TTL": f"{round(lease.ttl * 1000)}ms",
                "DeregisterCriticalServiceAfter": f"{reap:g}s",
                "Status": checks.CRITICAL,
                "Notes": checks.holder_notes(lease.holder.id),
            },
            {
                "CheckID": checks.health_check(record.id),
                "Name": "MCP health",
                "TTL": _FOR_EVER,
                "Status": health_status,
                "Notes": f"edition {editions.health}",
            },
        ],
    }
    if record.endpoint.url is not None:
        place = urlsplit(record.endpoint.url)
        definition["Address"] = place.hostname or ""
        definition["Port"] = place.port or _PORTS[place.scheme]
    return definition


@dataclass(slots=True)
class AgentHealth:
    """The health check as the agent of ``node`` has it, the editions of both checks, and what the
    service was ``defined`` as.

    ``announced`` is false while the agent may not have passed the check on to its servers.
    """

    node: str
    status: str
    output: str
    editions: Editions
    defined: ServiceFacts
    announced: bool = True


class ConsulRegistration(ScheduledRegistration):
    """See :class:`mcp_discovery.adapters.store.Registration`.

    To renew is to set the heartbeat check at the local agent, which writes nothing to Consul's
    servers; to verify is to read record and checks from the servers and compare them with what was
    written. With ACLs, a session at the servers is renewed besides, in the place of a renewal or
    verification that can wait.
    """

    def __init__(
        self,
        api: ConsulApi,
        documents: ConsulDocuments,
        new: Instance,
        document: CapabilityDocument,
        at_agent: AgentHealth,
        labels: ServiceLabels,
        session: RecordSession,
    ) -> None:
        super().__init__(new)
        self._labels = labels
        self._session = session
        self._api = api
        self._documents = documents
        self._kept = KeptDocument(document, new.lease.ttl, documents.ensure)
        self._record = new.record
        self._at_agent = at_agent
        self._written = _raw(new.record, new.lease)
        self._writing: str | None = None  # what may have been written in its place
        self._token = api.token.secret

    async def begin(self) -> None:
        """The first renewal and the initial health, right after the service was registered."""
        await self._renew()
        await self._write(self._heartbeats.health, None)
        self._heartbeats.verified(time.monotonic())

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        self._heartbeats.require_alive()
        sent = time.monotonic()
        hold = self._session.due(sent)
        renew, verify = self._heartbeats.due(sent, renew=renew, other=hold)
        change = self._heartbeats.to_write(health, load)
        hold = (hold and not (renew or verify or change)) or self._session.overdue(sent)
        if change is not None:
            # First: while the agent does not take it, a better health must not be renewed.
            await self._write(*change)
        if renew or change is not None:
            await self._renew()
        patience = max(_LEAST_PATIENCE, _ANSWERS_WITHIN * self._lease.ttl)
        try:
            async with asyncio.timeout(patience):
                await self._compare(hold=hold, verify=verify)
        except StoreUnavailableError as error:
            await self._renew_without(error)
        except TimeoutError:
            no_answer = f"its servers give no answer within {patience:g} s"
            await self._renew_without(StoreUnavailableError(self._api.address.shown, no_answer))

    async def _renew_without(self, error: StoreUnavailableError) -> NoReturn:
        """Renews at the agent, which needs no servers for that, and may follow some that hang for a
        minute; raises ``error``, which its servers are away with."""
        await self._renew()
        error.renewed = True
        raise error

    async def _compare(self, *, hold: bool, verify: bool) -> None:
        """What a heartbeat has to ask the servers."""
        await self._api.token.follow()
        if self._token != self._api.token.secret:
            # With the old one, the agent could tell its servers nothing once it is revoked.
            await self._define()
        if hold:
            await self._hold()
        if verify:
            await self._verify()
            if self._labels.ambiguous.due and await self._labels.ambiguous.look(self._record):
                await self._define()
        await self._kept.look()

    async def _update(self, record: Record, document: CapabilityDocument) -> None:
        self._labels.require_fit(record)
        if document.digest != self._record.capabilities.digest:
            await self._documents.put(document)
            self._kept.wrote(document)
        entry = await self.require_held()
        key = record_key(self._api, record)
        renamed, self._writing = key != entry.key, _raw(record, self._lease)
        existing = await self._api.kv.get(key) if renamed else entry
        cas = existing.modified if existing is not None else 0
        await self._put_record(key, record, cas)
        self._record, self._written, self._writing = record, _raw(record, self._lease), None
        await self._labels.ambiguous.look(record)
        await self._define()
        await self._documents.ensure(document)
        if renamed:
            await self._api.kv.delete(entry.key, cas=entry.modified)

    async def deregister(self) -> None:
        removed = await self._api.agent.deregister_held(self.id, self._lease.holder.id)
        entry = await self._api.kv.get(record_key(self._api, self._record))
        if entry is not None and self._holds(entry):
            await self._api.kv.delete(entry.key, cas=entry.modified)
        if removed and self._session.id is not None:
            # With ACLs the agent removes it with a token of its own, which may not do it.
            await self._api.services.remove(ServicePlace(self._at_agent.node, self.id))
        await self._session.end()

    async def require_held(self) -> KVPair:
        """The entry of its record. Raises :class:`RegistrationLostError` when record, service or
        checks are missing, another holder's or not as they were written; writes the health again
        if the check has lost it, and the record if the session does not hold it.
        """
        entry = await self._held_entry()
        service = await self._api.agent.service(self.id)
        found = service.checks if service is not None else {}
        if checks.holder_in(found.get(checks.heartbeat_check(self.id))) != self._lease.holder.id:
            raise RegistrationLostError(self.id, "the local agent has it no longer, or for another")
        if service is not None and service.facts != self._at_agent.defined:
            why = "another program has registered its service at the local agent in another way"
            raise RegistrationLostError(self.id, why)
        if (check := found.get(checks.health_check(self.id))) is None:
            raise RegistrationLostError(self.id, "its health check is gone from the local agent")
        if (check["Status"], check["Output"]) != (self._at_agent.status, self._at_agent.output):
            # The agent has lost the state of its checks, or another program has set the check.
            self._at_agent.status, self._at_agent.output = check["Status"], check["Output"]
            await self._write(self._heartbeats.health, self._heartbeats.load)
        if not self._is_guarded(entry):
            await self._put_record(entry.key, self._record, entry.modified)
            entry = await self._held_entry()
        return entry

    async def _held_entry(self) -> KVPair:
        entry = await self._api.kv.get(record_key(self._api, self._record))
        if entry is None:
            raise RegistrationLostError(self.id, "its record is gone from Consul's KV")
        if not self._holds(entry):
            raise RegistrationLostError(self.id, "its record in Consul's KV is another holder's")
        if entry.raw not in (self._written, self._writing):
            why = "its record in Consul's KV is another than was written last"
            raise RegistrationLostError(self.id, why)
        return entry

    async def _put_record(self, key: str, record: Record, cas: int) -> None:
        if not await self._session.write(key, encode_registration(record, self._lease), cas=cas):
            raise RegistrationLostError(self.id, "another registrant wrote its record just now")

    async def _hold(self) -> None:
        """Renews the session, and where it is another then, has it hold the record."""
        held = self._session.id
        await self._session.hold()
        if self._session.id != held:
            await self.require_held()

    async def _verify(self) -> None:
        """Compares everything that was written in one request; on a difference finds out what is
        wrong with :meth:`require_held`."""
        sent = time.monotonic()
        heartbeat, health = checks.heartbeat_check(self.id), checks.health_check(self.id)
        key = record_key(self._api, self._record)
        found = await self._api.parts(key, self._at_agent.node, self.id, (heartbeat, health))
        if found is None or not self._as_written(found):
            await self.require_held()
            if self._at_agent.announced:
                self._at_agent.announced = False  # the servers may only be a moment behind
            else:
                await self._define(all=True)
        else:
            self._at_agent.announced = True
        self._heartbeats.verified(sent)

    def _as_written(self, found: StoredParts) -> bool:
        entry = found.entry
        heartbeat = found.checks[checks.heartbeat_check(self.id)]
        health = found.checks[checks.health_check(self.id)]
        return (
            entry.raw == self._written
            and found.facts == self._at_agent.defined
            and self._is_guarded(entry)
            and checks.holder_in(heartbeat) == self._lease.holder.id
            and heartbeat.get("Status") == checks.PASSING
            and health.get("Status") == self._at_agent.status
            and health.get("Output") == self._at_agent.output
        )

    def _holds(self, entry: KVPair) -> bool:
        stored = read_known(entry, self._api.address.records)
        return stored is not None and stored.lease.holder.id == self._lease.holder.id

    def _is_guarded(self, entry: KVPair) -> bool:
        """Whether its session holds the record, and where it has none, nobody expects one to."""
        if self._session.id is None:
            return not entry.guarded
        return entry.guarded and entry.session == self._session.id

    async def _renew(self) -> None:
        sent = time.monotonic()
        check = checks.heartbeat_check(self.id)
        await self._set_check(check, checks.PASSING, checks.heartbeat_output(self._lease.holder.id))
        self._heartbeats.renewed(sent)

    async def _write(self, health: Health, load: Load | None) -> None:
        status, output = checks.to_check(health, load, self._lease.holder.id)
        last = self._at_agent
        await self._set_check(checks.health_check(self.id), status, output)
        if last.status == status and last.output != output:
            last.announced = False  # the agent passes such a change on minutes later
        last.status, last.output = status, output
        if not last.announced:
            await self._define()
        self._heartbeats.written(health, load)

    async def _define(self, *, all: bool = False) -> None:
        """Registers the service again, with a new edition of the health check, or of ``all``
        checks; they keep their state."""
        self._at_agent.editions = self._at_agent.editions.next(all=all)
        token = self._api.token.secret
        service = self._api.address.service_of(self._record.name)
        status, editions = self._at_agent.status, self._at_agent.editions
        definition = service_definition(
            service,
            self._record,
            self._lease,
            status,
            editions,
            tags=self._labels.tags(self._record),
            meta=self._labels.meta(self._record),
        )
        await self._api.agent.register(definition)
        self._at_agent.defined = ServiceFacts.read(definition, name="Name")
        # The agent has replaced the check and with it the output that it quotes when TTL lapses.
        await self._renew()
        self._at_agent.announced, self._token = True, token

    async def _set_check(self, check: str, status: str, output: str) -> None:
        try:
            await self._api.agent.update_check(check, status, output)
        except UnknownCheckError as error:
            raise RegistrationLostError(self.id, "the Consul agent does not know it") from error


def _raw(record: Record, lease: Lease) -> str:
    """The value of a record's entry in base64, as Consul sends it."""
    return base64.b64encode(encode_registration(record, lease)).decode()


def record_key(api: ConsulApi, record: Record) -> str:
    """The KV key of a record."""
    return f"{api.address.records}{record.name}/{record.id}"
