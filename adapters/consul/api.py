"""Consul's HTTP API as this store uses it: the local agent, transactions, permissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import orjson

from mcp_discovery.adapters.consul.checks import Check, heartbeat_check, holder_in
from mcp_discovery.adapters.consul.kv import KVPair, KVStore
from mcp_discovery.adapters.consul.members import consul_members
from mcp_discovery.adapters.consul.permissions import AclRight, Permissions
from mcp_discovery.adapters.consul.services import ServiceCatalog
from mcp_discovery.adapters.consul.session import ConsulSessions
from mcp_discovery.adapters.consul.token import OwnToken
from mcp_discovery.adapters.consul.transport import ConsulTransport
from mcp_discovery.adapters.consul.url import ConsulAddress
from mcp_discovery.adapters.members import StoreMembers
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import DiscoveryError, StoreDeniedError


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What a registrant defines of a service: what its readers, DNS among them, go by."""

    service: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    weights: Mapping[str, int]

    @classmethod
    def read(cls, content: Mapping[str, Any], *, name: str = "Service") -> Self:
        """The facts in a service of Consul's API, or in its definition, where ``name`` is other.

        Raises :class:`KeyError` or :class:`TypeError` for what is neither.
        """
        return cls(
            content[name],
            content.get("Address") or "",
            content.get("Port") or 0,
            tuple(content.get("Tags") or ()),
            dict(content.get("Meta") or {}),
            dict(content.get("Weights") or {}),
        )


@dataclass(frozen=True, slots=True)
class AgentService:
    """A service as the local agent has it. ``service`` is the name of its Consul service."""

    service: str
    checks: Mapping[str, Check]
    facts: ServiceFacts


class StoredParts(NamedTuple):
    """What Consul's servers have of one registration: its record, its checks by id, its service."""

    entry: KVPair
    checks: Mapping[str, Check]
    facts: ServiceFacts


class UnknownCheckError(DiscoveryError):
    """The local agent has no such check: the registration is lost. Never leaves the adapter."""


class ConsulAgent:
    """Services and checks of the local agent, as the agent itself has them."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http

    async def register(self, definition: Mapping[str, Any]) -> None:
        """Registers a service with the local agent, replacing its checks."""
        await self._http.request(
            "PUT",
            "/v1/agent/service/register",
            {"replace-existing-checks": "true"},
            data=orjson.dumps(definition),
        )

    async def deregister_held(self, id: str, holder: str) -> bool:
        """Removes a service from the local agent, if there is one and ``holder`` holds it; returns
        whether so."""
        service = await self.service(id)
        if service is None or holder_in(service.checks.get(heartbeat_check(id))) != holder:
            return False
        where = f"/v1/agent/service/deregister/{quote(id)}"
        await self._http.request("PUT", where, missing=True)
        return True

    async def service(self, id: str) -> AgentService | None:
        """The service with that id at the local agent."""
        # The status is the health: 200 passing, 429 warning, 503 critical, 404 unknown.
        response = await self._http.send(
            "GET", f"/v1/agent/health/service/id/{quote(id)}", {"format": "json"}
        )
        if "X-Consul-Reason" not in response.headers and response.status != 200:
            self._http.refuse(response)
        content = self._http.json(response)
        with self._http.reading(response):
            if content["Service"] is None:
                return None
            checks = {check["CheckID"]: check for check in content["Checks"] or ()}
            facts = ServiceFacts.read(content["Service"])
            return AgentService(facts.service, checks, facts)

    async def update_check(self, id: str, status: str, output: str) -> None:
        """Sets a TTL check's status and output, which renews it. Raises
        :class:`UnknownCheckError`."""
        body = orjson.dumps({"Status": status, "Output": output})
        response = await self._http.send("PUT", f"/v1/agent/check/update/{quote(id)}", data=body)
        if response.status == 200:
            return
        # Consul 1.8 answers 500, later versions 404; only the text tells what it means.
        text = response.text.lower()
        if response.status in (404, 500) and (
            "unknown check" in text or "does not have associated ttl" in text
        ):
            raise UnknownCheckError(id)
        self._http.refuse(response)

    async def describe(self, part: str, name: str) -> str | None:
        """A fact about the local agent itself, such as ``("Config", "NodeName")``; ``None`` where
        the token may not read it."""
        try:
            response = await self._http.request("GET", "/v1/agent/self")
        except StoreDeniedError:
            return None
        with self._http.reading(response):
            return str(self._http.json(response)[part][name])


class ConsulApi:
    """One Consul agent's API, in parts, each of which raises what
    :class:`ConsulTransport` does."""

    def __init__(self, address: ConsulAddress, options: StoreOptions) -> None:
        self.address = address
        self._http = ConsulTransport(address, options)
        self.permissions = Permissions(self._http)
        self.kv = KVStore(self._http)
        self.token = OwnToken(self._http)
        self.sessions = ConsulSessions(self._http, self.kv, self.token)
        self.services = ServiceCatalog(self._http)
        self.agent = ConsulAgent(self._http)

    async def members(self) -> StoreMembers:
        """Who is in the agent's datacentre."""
        return await consul_members(self._http)

    async def close(self) -> None:
        """Closes every connection; requests in flight raise ``StoreUnavailableError``."""
        await self._http.close()

    async def parts(
        self, key: str, node: str, service: str, checks: Sequence[str]
    ) -> StoredParts | None:
        """The entry at ``key``, and of ``node`` the service with the id ``service`` and the
        ``checks``, as the leader has them, in one request that writes nothing; ``None`` where it
        does not return all of them.
        """
        wanted: list[dict[str, Any]] = [
            {"KV": {"Verb": "get", "Key": key}},
            {"Service": {"Verb": "get", "Node": node, "Service": {"ID": service}}},
            *({"Check": {"Verb": "get", "Check": {"Node": node, "CheckID": id}}} for id in checks),
        ]
        response = await self._http.send(
            "PUT", "/v1/txn", {"consistent": ""}, data=orjson.dumps(wanted)
        )
        if response.status in (404, 405, 409):  # no such key or check, or blocked by a proxy
            return None
        if response.status != 200:
            self._http.refuse(response)
        try:
            entry, registered, *rest = self._http.json(response)["Results"]
            found = {each["Check"]["CheckID"]: each["Check"] for each in rest}
            facts = ServiceFacts.read(registered["Service"])
            return StoredParts(KVPair.read(entry["KV"]), {id: found[id] for id in checks}, facts)
        except (KeyError, TypeError, ValueError):
            return None  # The token may not read all of it.

    async def servers_among(self, names: Sequence[str]) -> set[str]:
        """Which of at most 64 ``names`` a server has that has a record, in one request."""
        records = self.address.records
        wanted = [{"KV": {"Verb": "get-tree", "Key": f"{records}{name}/"}} for name in names]
        response = await self._http.request("PUT", "/v1/txn", data=orjson.dumps(wanted))
        with self._http.reading(response):
            keys = [each["KV"]["Key"] for each in self._http.json(response)["Results"] or ()]
        return {key.removeprefix(records).partition("/")[0] for key in keys}

    async def require_readable(self) -> None:
        """Raises :class:`StoreDeniedError` when the token may not read records, services and nodes.

        Consul answers a read without permission as if there were no such instance or key. Only
        these requests tell the two apart.
        """
        service = self.address.service
        if self.address.mode == "service-per-server":
            # Permission for a prefix cannot be queried, only for one name that has it.
            service = f"{service}-"
        wanted = [
            AclRight("key", self.address.records),
            AclRight("key", self.address.documents),
            AclRight("service", service),
        ]
        if await self.permissions.require(wanted):
            await self.services.require_nodes_readable()
