"""Consul's HTTP API as this adapter uses it: KV, services, the local agent, permissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from mcp_discovery.adapters.consul.agent import Agent
from mcp_discovery.adapters.consul.checks import Check
from mcp_discovery.adapters.consul.kv import Entry, Kv
from mcp_discovery.adapters.consul.services import ServiceCatalog
from mcp_discovery.adapters.consul.transport import Transport
from mcp_discovery.adapters.consul.url import ConsulAddress
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.errors import StoreDeniedError


class ConsulApi:
    """One Consul agent, in four parts. Their methods raise what :class:`Transport` says."""

    def __init__(self, address: ConsulAddress, options: StoreOptions) -> None:
        self.address = address
        self._http = Transport(address, options)
        self.kv = Kv(self._http)
        self.services = ServiceCatalog(self._http)
        self.agent = Agent(self._http)

    async def close(self) -> None:
        """Closes every connection; requests in flight raise ``StoreUnavailableError``."""
        await self._http.close()

    async def together(
        self, key: str, node: str, checks: Sequence[str]
    ) -> tuple[Entry, Mapping[str, Check]] | None:
        """The entry at ``key`` and the ``checks`` of ``node`` by their ids, as the leader has them
        now, in one request that writes nothing; ``None`` where it does not give all of them.
        """
        wanted = [
            {"KV": {"Verb": "get", "Key": key}},
            *({"Check": {"Verb": "get", "Check": {"Node": node, "CheckID": id}}} for id in checks),
        ]
        answer = await self._http.send(
            "PUT", "/v1/txn", {"consistent": ""}, data=orjson.dumps(wanted)
        )
        if answer.status in (404, 405, 409):  # no such key or check, or a proxy in between
            return None
        if answer.status != 200:
            self._http.refuse(answer)
        try:
            entry, *told = self._http.json(answer)["Results"]
            kv = entry["KV"]
            found = {each["Check"]["CheckID"]: each["Check"] for each in told}
            return Entry(kv["Key"], kv["Value"] or "", kv["ModifyIndex"]), {
                id: found[id] for id in checks
            }
        except (KeyError, TypeError, ValueError):
            return None  # The token may not read all of it.

    async def require_readable(self) -> None:
        """Raises :class:`StoreDeniedError` when the token may not read records, services and nodes.

        To Consul, what may not be read is not there: an unreadable service has no instances, an
        unreadable prefix no keys. Only these questions tell them apart.
        """
        service = self.address.service
        wanted = [
            {"Resource": "key", "Segment": self.address.records, "Access": "read"},
            {"Resource": "key", "Segment": self.address.documents, "Access": "read"},
            {"Resource": "service", "Segment": service, "Access": "read"},
        ]
        if self.address.mode == "service-per-server":
            # An example of such a name: a prefix cannot be asked for.
            wanted[2]["Segment"] = f"{service}-"
        answer = await self._http.send(
            "POST", "/v1/internal/acl/authorize", data=orjson.dumps(wanted)
        )
        if answer.status in (401, 404, 405):  # ACLs are off, or a proxy does not let this through.
            return
        if answer.status != 200:
            self._http.refuse(answer)
        try:
            lacking = [
                f"{item['Resource']}:{item['Access']} on {item['Segment']!r}"
                for item in self._http.json(answer)
                if not item["Allow"]
            ]
        except (KeyError, TypeError) as error:
            raise self._http.strange(answer) from error
        if lacking:
            raise StoreDeniedError(self.address.shown, f"the token lacks {', '.join(lacking)}")
        await self.services.require_nodes_readable()
