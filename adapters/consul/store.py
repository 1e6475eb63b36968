"""The store over Consul 1.8 and later, through the HTTP API of an agent."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.api import ConsulApi, ServiceFacts
from mcp_discovery.adapters.consul.checks import Presence, read_presence
from mcp_discovery.adapters.consul.documents import ConsulDocuments
from mcp_discovery.adapters.consul.hidden import HiddenInstances, hidden_part
from mcp_discovery.adapters.consul.labels import CatalogExtras, ServiceLabels
from mcp_discovery.adapters.consul.listing import WatchMemory
from mcp_discovery.adapters.consul.ownership import remove_leftovers, require_free, withdraw_if_lost
from mcp_discovery.adapters.consul.permissions import ANY_NODE, lacking_sentence, of_sidecar
from mcp_discovery.adapters.consul.queries import ConsulQueries
from mcp_discovery.adapters.consul.records import StoredRecord, read_known
from mcp_discovery.adapters.consul.registration import (
    LEAST_REAP,
    AgentHealth,
    ConsulRegistration,
    Editions,
    record_key,
    service_definition,
)
from mcp_discovery.adapters.consul.session import RecordSession
from mcp_discovery.adapters.consul.url import parse_url
from mcp_discovery.adapters.consul.watch import watch
from mcp_discovery.adapters.members import StoreMembers
from mcp_discovery.adapters.store import (
    BaseStore,
    Change,
    CredentialsEnd,
    Snapshot,
    StoredQuery,
    StoreOptions,
)
from mcp_discovery.adapters.unreferenced_keys import UnreferencedKeys
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    InvalidStoreURLError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from mcp_discovery.instance import Holder, Instance, Lease, encode_registration
from mcp_discovery.record import Record

log = logging.getLogger(__name__)

#: How often a registration is attempted while others write the same record.
_ATTEMPTS = 5
#: Seconds for which records and documents have to be unreferenced before they are removed.
GRACE = 60.0


class ConsulStore(BaseStore[ConsulRegistration]):
    """``consul://host:8500/<service>``, ``consul+https://…``; see
    :class:`mcp_discovery.adapters.store.Store`.

    The path names the Consul service and the KV prefix (default ``mcp``). Parameters: ``dc``, a
    datacenter other than the agent's; ``mode=service-per-server``, a Consul service for each MCP
    server, ``<service>-<name>``. To register, the host must be the local agent, which keeps the
    checks; to watch, it may be any agent or server.

    Raises :class:`InvalidStoreURLError`, and :class:`~mcp_discovery.errors.InvalidInputError` for
    TLS files, or tags and Meta for other programs, that cannot be used.
    """

    def __init__(
        self, url: str, options: StoreOptions | None = None, *, holder: Holder | None = None
    ) -> None:
        self._address = parse_url(url)
        super().__init__(self._address.shown, holder)
        options = options or StoreOptions()
        self._extras = CatalogExtras(options.catalog_tags, options.catalog_meta)
        self._api = ConsulApi(self._address, options)
        self._documents = ConsulDocuments(self._api)
        self._queries = ConsulQueries(self._api)
        self._unreferenced = UnreferencedKeys()
        self._memory = WatchMemory()
        self._hidden = HiddenInstances(self._api)
        #: Sessions of registrations that were begun and not completed, for the next attempt.
        self._sessions: dict[tuple[str, str, float], RecordSession] = {}
        self._same_datacenter = self._address.dc is None

    async def _register(
        self, new: Instance, document: CapabilityDocument, takeover: str | None
    ) -> ConsulRegistration:
        """Also raises :class:`DuplicateInstanceError` when the agent has a service of that id that
        is not an MCP server, and :class:`InvalidStoreURLError` for an agent of another
        datacenter."""
        try:
            return await self._registered(new, document, takeover)
        except StoreDeniedError as error:  # of which some versions say no more than that
            lacking = None
            with suppress(StoreError):
                lacking = await self.would_refuse(new.record)
            if lacking is None or lacking in error.problem:
                raise
            raise StoreDeniedError(self.url, f"{error.problem}; {lacking}") from error

    async def _registered(
        self, new: Instance, document: CapabilityDocument, takeover: str | None
    ) -> ConsulRegistration:
        record, lease = new.record, new.lease
        labels = ServiceLabels(self._api, self._extras)
        labels.require_fit(record)
        await self._require_agents_datacenter()
        await self._documents.put(document)
        await labels.ambiguous.look(record)
        key = record.id, lease.holder.id, lease.ttl
        session = self._sessions.setdefault(key, RecordSession(self._api.sessions, lease.ttl))
        for _ in range(_ATTEMPTS):
            replaced = await require_free(self._api, record, lease.holder, takeover)
            if await session.write(
                record_key(self._api, record),
                encode_registration(record, lease),
                cas=replaced.entry.modified if replaced.entry is not None else 0,
            ):
                break
        else:
            # The compare-and-set also fails for a key that exists and cannot be read.
            await self._api.require_readable()
            raise StoreUnavailableError(
                self.url, f"others keep writing the record of {record.id!r}"
            )
        at_agent = await self._register_service(record, lease, labels)
        registration = ConsulRegistration(
            self._api, self._documents, new, document, at_agent, labels, session
        )
        await registration.begin()
        await withdraw_if_lost(self._api, record, lease.holder)
        self._sessions.pop(key, None)
        await self._documents.ensure(document)
        await remove_leftovers(self._api, record, replaced, at_agent.node)
        return registration

    async def _register_service(
        self, record: Record, lease: Lease, labels: ServiceLabels
    ) -> AgentHealth:
        service = self._address.service_of(record.name)
        # Critical until the first health is written: until then it must not be offered.
        editions = Editions.first()
        definition = service_definition(
            service,
            record,
            lease,
            checks.CRITICAL,
            editions,
            tags=labels.tags(record),
            meta=labels.meta(record),
        )
        await self._api.agent.register(definition)
        # If the agent had these checks already, they keep their state.
        known = await self._api.agent.service(record.id)
        check = known.checks.get(checks.health_check(record.id)) if known is not None else None
        if check is None:
            await withdraw_if_lost(self._api, record, lease.holder)  # another has won meanwhile
            raise StoreUnavailableError(
                self.url, f"its agent has no service {record.id!r} right after registering it"
            )
        defined = ServiceFacts.read(definition, name="Name")
        return AgentHealth(
            str(check["Node"]), str(check["Status"]), str(check["Output"]), editions, defined
        )

    async def _require_agents_datacenter(self) -> None:
        """Raises :class:`InvalidStoreURLError` when service and record would be in different
        datacenters."""
        if self._same_datacenter:
            return
        agents = await self._api.agent.describe("Config", "Datacenter")
        if agents is not None and agents != self._address.dc:
            raise InvalidStoreURLError(
                self.url,
                f"its agent is of datacenter {agents!r} and registers services only there; use an "
                f"agent of {self._address.dc!r} to register",
            )
        self._same_datacenter = True

    def watch(self) -> AsyncGenerator[Snapshot | Change, None]:
        return watch(self._api, self.skipped, self._memory, self._hidden)

    async def document(self, digest: str) -> CapabilityDocument:
        """See :meth:`mcp_discovery.adapters.store.Store.document`. The next registration of the
        version replaces a damaged document."""
        return await self._documents.get(digest)

    async def queries(self) -> Mapping[str, StoredQuery]:
        return await self._queries.all()

    async def put_query(
        self, name: str, definition: bytes | None, *, expected: str | None = None
    ) -> str | None:
        return await self._queries.put(name, definition, expected)

    async def keeps_queries(self) -> str | None:
        return await self._queries.lacking()

    async def sweep(self) -> int:
        """Removes what :meth:`_removals` finds. Raises :class:`StoreDeniedError` where it may not
        read everything."""
        await self._api.require_readable()
        # Documents are listed before records: one that is written later is not in the list, and
        # one that is in the list is named by a record that is read afterwards.
        parts = await self._api.kv.keys(self._api.address.documents)
        services = await self._api.services.all()
        entries = await self._api.kv.entries(self._api.address.records)
        known = (read_known(entry, self._api.address.records) for entry in entries)
        stored = [item for item in known if item is not None]
        presences = [read_presence(place, found) for place, found in services.items()]
        if (problem := await hidden_part(self._api, stored, presences)) is not None:
            raise StoreDeniedError(self.url, f"{problem}, before anything is swept")
        removals = self._removals(parts, stored, presences)
        ages = self._unreferenced.ages(removals)
        removed = 0
        for version, (grace, remove) in removals.items():
            if ages[version] >= grace and await remove() is not False:
                removed += 1
        return removed

    def _removals(
        self, parts: list[str], stored: list[StoredRecord], presences: list[Presence]
    ) -> Mapping[str, tuple[float, Callable[[], Awaitable[bool | None]]]]:
        """Documents that no record names, records without a service (Consul removes a lapsed
        service, not its record), and services that no agent removes: those on failed nodes, and
        those whose token is gone, see :mod:`mcp_discovery.adapters.consul.session`.

        The key identifies each with its last change, so that a change starts the time anew; then
        the seconds for which it has to be unreferenced, and how it is removed.
        """
        named = {item.record.capabilities.digest for item in stored}
        records = {(item.record.id, item.lease.holder.id): item for item in stored}
        present = {(presence.place.id, presence.holder) for presence in presences}
        found: dict[str, tuple[float, Callable[[], Awaitable[bool | None]]]] = {}
        for key in parts:
            if (digest := self._documents.digest_of(key)) is not None and digest not in named:
                found[key] = GRACE, partial(self._api.kv.delete, key)
        for item in stored:
            if (item.record.id, item.lease.holder.id) not in present:
                remove = partial(self._api.kv.delete, item.key, cas=item.modified)
                found[f"{item.key} of {item.modified}"] = GRACE, remove
        for presence in presences:
            if presence.holder is None:
                continue
            record = records.get((presence.place.id, presence.holder))
            if presence.unreachable or (record is not None and record.ended):
                grace = max(LEAST_REAP, record.lease.reap_after if record is not None else 0.0)
                dead = partial(self._api.services.remove, presence.place)
                changed = max(presence.index, record.modified if record is not None else 0)
                found[f"{presence.place} of {changed}"] = grace, dead
        return found

    @property
    def credentials_end(self) -> CredentialsEnd | None:
        return self._api.token.end

    @property
    def lacking(self) -> str | None:
        return self._api.sessions.lacking

    @property
    def unguarded(self) -> str | None:
        return self._api.token.unguarded

    async def would_refuse(self, record: Record | None) -> str | None:
        rights = [ANY_NODE]
        if record is None:
            try:
                await self._api.require_readable()
            except StoreDeniedError as error:
                return error.problem
        else:
            rights = of_sidecar(self._address, record)
        lacking = await self._api.permissions.lacking(rights)
        if not lacking:
            return None
        sentence = lacking_sentence(lacking, self._api.token.secret)
        if record is not None and lacking.issuperset(rights[:3]):
            sentence += f"; or is {self._address.service!r} not the path that it was granted?"
        return sentence

    async def node_address(self) -> str | None:
        """The address of the local agent's node in the cluster. Logs a warning when the token may
        not read it."""
        address = await self._api.agent.describe("Member", "Addr")
        if address is None:
            log.warning(
                "%s: the token lacks agent:read, so this machine's address stays unknown; grant "
                "that, or give --advertise-url",
                self.url,
            )
        return address

    async def members(self) -> StoreMembers:
        return await self._api.members()

    async def close(self) -> None:
        await self._api.close()
