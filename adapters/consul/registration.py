"""One instance in Consul: its service at the local agent, its checks there, its record in KV."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.agent import UnknownCheckError
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.documents import Documents
from mcp_discovery.adapters.consul.kv import Entry
from mcp_discovery.adapters.consul.listing import read_entry
from mcp_discovery.adapters.pulse import Pulse
from mcp_discovery.adapters.store import prepared
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import Health, Load
from mcp_discovery.instance import Lease, encode_registration
from mcp_discovery.record import Record

#: Consul's least ``DeregisterCriticalServiceAfter``, in seconds.
LEAST_REAP = 60.0
#: Consul's limit for one value of a service's Meta, in bytes.
META_BYTES = 512
#: Longer than anything runs: the health check has a TTL because Consul offers no check without.
_FOR_EVER = "87600h"

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def service_definition(
    service: str, record: Record, lease: Lease, health_status: str, edition: int
) -> dict[str, Any]:
    """The service as the agent takes it. ``edition`` tells one health check from the last: an
    agent tells its servers at once only of a check that differs in more than its output."""
    reap = max(LEAST_REAP, math.ceil(lease.reap_after))
    definition: dict[str, Any] = {
        "ID": record.id,
        "Name": service,
        "Tags": list(dict.fromkeys((record.name, *record.tags))),
        "Meta": _meta(record),
        "Weights": {"Passing": max(1, record.weight), "Warning": 1},
        "Checks": [
            {
                "CheckID": checks.heartbeat_check(record.id),
                "Name": "MCP heartbeat",
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
                "Notes": f"edition {edition}",
            },
        ],
    }
    if record.endpoint.url is not None:
        place = urlsplit(record.endpoint.url)
        definition["Address"] = place.hostname or ""
        definition["Port"] = place.port or _PORTS[place.scheme]
    return definition


def _meta(record: Record) -> dict[str, str]:
    """The little that a reader without KV needs; what does not fit is in the record alone."""
    meta = {
        "transport": record.endpoint.transport,
        "version": record.version,
        "digest": record.capabilities.digest or "",
    }
    if record.endpoint.url is not None:
        meta |= {"url": record.endpoint.url, "path": urlsplit(record.endpoint.url).path or "/"}
    return {key: value for key, value in meta.items() if len(value.encode()) <= META_BYTES}


@dataclass(slots=True)
class AgentHealth:
    """What the health check at the agent of ``node`` says now, and its edition."""

    node: str
    status: str
    output: str
    edition: int


class ConsulRegistration:
    """A registration; see :class:`mcp_discovery.adapters.store.Registration`.

    A heartbeat is one request to the local agent, and writes nothing to Consul's servers unless
    the health has changed. Some of them renew the check there; the others look whether the servers
    still have the record and the checks, and still for the same holder.
    """

    def __init__(
        self,
        api: ConsulApi,
        documents: Documents,
        record: Record,
        document: CapabilityDocument,
        lease: Lease,
        health: Health,
        at_agent: AgentHealth,
    ) -> None:
        self._api = api
        self._documents = documents
        self._record = record
        self._document: CapabilityDocument | None = document
        self._lease = lease
        self._at_agent = at_agent
        self._pulse = Pulse(record.id, lease.ttl, health)
        self._put = time.monotonic()
        self._written = _raw(record, lease)

    @property
    def id(self) -> str:
        """The instance's id."""
        return self._record.id

    async def begin(self) -> None:
        """The first heartbeat with the first health, right after the service was registered."""
        await self._beat()
        await self._write(self._pulse.health, None)
        self._pulse.looked(time.monotonic())

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        """See the seam."""
        self._pulse.require_alive()
        sent = time.monotonic()
        renew, look = self._pulse.due(sent, renew=renew)
        change = self._pulse.to_write(health, load)
        if renew or change is not None:
            await self._beat()  # It has arrived, whatever the servers behind the agent do.
        if change is not None:
            await self._write(*change)
        if look:
            await self._look()
        if self._document is not None and sent - self._put >= 0.9 * self._lease.ttl:
            # A sweeper may have been between; from here on the record keeps it.
            await self._documents.ensure(self._document)
            self._document = None

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        """See the seam."""
        self._pulse.require_alive()  # To define the service anew is to renew it.
        lease = self._lease
        terms = {"ttl": lease.ttl, "reap_after": lease.reap_after}
        record = prepared(record, document, **terms, id=self.id)
        if document.digest != self._record.capabilities.digest:
            await self._documents.put(document)
            self._document, self._put = document, time.monotonic()
        entry = await self.require_held()
        key = record_key(self._api, record)
        moved = key != entry.key
        if moved:
            there = await self._api.kv.get(key)
            cas = there.modified if there is not None else 0
        else:
            cas = entry.modified
        if not await self._api.kv.put(key, encode_registration(record, lease), cas=cas):
            raise RegistrationLostError(self.id, "another registrant wrote its record just now")
        self._record, self._written = record, _raw(record, lease)
        await self._define()
        await self._documents.ensure(document)
        if moved:
            await self._api.kv.delete(entry.key, cas=entry.modified)

    async def drain(self) -> None:
        """See the seam."""
        self._pulse.require_alive()
        await self._write(self._pulse.drain(), self._pulse.load)

    async def deregister(self) -> None:
        """See the seam."""
        service = await self._api.agent.service(self.id)
        if service is not None:
            beat = service.checks.get(checks.heartbeat_check(self.id))
            if checks.holder_in(beat) == self._lease.holder.id:
                await self._api.agent.deregister(self.id)
        entry = await self._api.kv.get(record_key(self._api, self._record))
        if entry is not None and self._holds(entry):
            await self._api.kv.delete(entry.key, cas=entry.modified)

    async def require_held(self) -> Entry:
        """The entry of its record; raises :class:`RegistrationLostError` when it is not ours."""
        entry = await self._api.kv.get(record_key(self._api, self._record))
        if entry is None:
            raise RegistrationLostError(self.id, "its record is gone from Consul's KV")
        if not self._holds(entry):
            raise RegistrationLostError(self.id, "its record in Consul's KV is another holder's")
        service = await self._api.agent.service(self.id)
        told = service.checks if service is not None else {}
        if checks.holder_in(told.get(checks.heartbeat_check(self.id))) != self._lease.holder.id:
            raise RegistrationLostError(self.id, "the local agent has it no longer, or for another")
        if (check := told.get(checks.health_check(self.id))) is None:
            raise RegistrationLostError(self.id, "its health check is gone from the local agent")
        if (check["Status"], check["Output"]) != (self._at_agent.status, self._at_agent.output):
            # The agent lost its checks' state, or somebody set the check by hand.
            self._at_agent.status, self._at_agent.output = check["Status"], check["Output"]
            await self._write(self._pulse.health, self._pulse.load)
        return entry

    async def _look(self) -> None:
        """Whether all that was written is there, in one request; what differs is looked into."""
        sent = time.monotonic()
        beat, told = checks.heartbeat_check(self.id), checks.health_check(self.id)
        key = record_key(self._api, self._record)
        found = await self._api.together(key, self._at_agent.node, (beat, told))
        if found is None or not self._in_order(found[0], found[1][beat], found[1][told]):
            await self.require_held()
        self._pulse.looked(sent)

    def _in_order(self, entry: Entry, beat: checks.Check, told: checks.Check) -> bool:
        return (
            entry.raw == self._written
            and checks.holder_in(beat) == self._lease.holder.id
            and told.get("Status") == self._at_agent.status
            and told.get("Output") == self._at_agent.output
        )

    def _holds(self, entry: Entry) -> bool:
        try:
            stored = read_entry(entry, self._api.address.records)
        except ValueError:
            return False  # Malformed: not what we wrote.
        return stored.lease.holder.id == self._lease.holder.id

    async def _beat(self) -> None:
        sent = time.monotonic()
        check = checks.heartbeat_check(self.id)
        await self._update(check, checks.PASSING, checks.beats_of(self._lease.holder.id))
        self._pulse.renewed(sent)

    async def _write(self, health: Health, load: Load | None) -> None:
        status, output = checks.to_check(health, load, self._lease.holder.id)
        before = self._at_agent
        await self._update(checks.health_check(self.id), status, output)
        told = before.status != status or before.output == output
        before.status, before.output = status, output
        if not told:
            await self._define()
        self._pulse.wrote(health, load)

    async def _define(self) -> None:
        """Registers the service anew; its checks keep their state."""
        self._at_agent.edition += 1
        await self._api.agent.register(
            service_definition(
                self._api.address.service_of(self._record.name),
                self._record,
                self._lease,
                self._at_agent.status,
                self._at_agent.edition,
            )
        )
        # The check is a new one to the agent, which has forgotten the output that it quotes later.
        await self._beat()

    async def _update(self, check: str, status: str, output: str) -> None:
        try:
            await self._api.agent.update_check(check, status, output)
        except UnknownCheckError as error:
            raise RegistrationLostError(self.id, "the Consul agent does not know it") from error


def _raw(record: Record, lease: Lease) -> str:
    """The value of a record's entry as Consul sends it."""
    return base64.b64encode(encode_registration(record, lease)).decode()


def record_key(api: ConsulApi, record: Record) -> str:
    """The KV key of a record."""
    return f"{api.address.records}{record.name}/{record.id}"
