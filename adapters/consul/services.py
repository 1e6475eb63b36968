"""Consul's services with their checks, as its servers have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from mcp_discovery.adapters.consul.checks import Check, Place, heartbeat_check, place_of
from mcp_discovery.adapters.consul.pieces import Pieces
from mcp_discovery.adapters.consul.transport import Reading, Transport
from mcp_discovery.adapters.http import Answer
from mcp_discovery.errors import StoreDeniedError

#: For each place the checks of the service and of its node.
Services = Mapping[Place, Sequence[Check]]


class ServiceCatalog:
    """The services of one store, on whatever node."""

    def __init__(self, http: Transport) -> None:
        self._http = http
        self._pieces = Pieces()

    async def watch(self, index: int, wait: float) -> Reading[Services]:
        """A blocking query for the services; ``index`` 0 answers at once, through the quorum.

        The checks of a service that are as they were are the same object in the next reading.
        """
        answer = await self._http.block(*self._query(), index, wait)
        now = self._http.index(answer)
        if now == index:
            return Reading(now, None)
        pieces = self._http.address.mode == "one-service"
        services = self._pieces.read(answer.body) if pieces else None
        return Reading(now, self._read(answer) if services is None else services)

    async def all(self) -> Services:
        """Every service of this store, as the leader has them now."""
        path, params = self._query()
        return self._read(await self._http.ask("GET", path, {**params, "consistent": ""}))

    async def require_nodes_readable(self) -> None:
        """Raises :class:`StoreDeniedError` when there are services and the token may read no node.

        Consul leaves them out of every answer then, but for the list of all services' names.
        """
        now = {"consistent": ""}
        names = self._http.json(await self._http.ask("GET", "/v1/catalog/services", now))
        if not isinstance(names, dict) or not any(map(self._is_ours, names)):
            return
        if not self._http.json(await self._http.ask("GET", "/v1/catalog/nodes", now)):
            raise StoreDeniedError(
                self._http.address.shown,
                "the token lacks node:read, without which no service can be seen",
            )

    def _is_ours(self, service: str) -> bool:
        if self._http.address.mode == "one-service":
            return service == self._http.address.service
        return service.startswith(f"{self._http.address.service}-")

    async def with_id(self, id: str) -> Services:
        """The services with that id, on whatever node, as the leader has them now."""
        if not await self._has_checks(id):
            return {}
        path, params = self._query(id)
        found = self._read(await self._http.ask("GET", path, {**params, "consistent": ""}))
        return {place: checks for place, checks in found.items() if place.id == id}

    async def _has_checks(self, id: str) -> bool:
        """Whether any check is that instance's, which costs Consul a third of the answer with
        services and nodes: a fleet that registers at once asks for nothing else."""
        if self._http.address.mode != "one-service":
            return True
        checks = f"/v1/health/checks/{self._http.address.service}"
        only = {"filter": f'ServiceID == "{id}"', "consistent": ""}
        answer = await self._http.ask("GET", checks, only)
        filtered = answer.headers.get("X-Consul-Results-Filtered-By-ACLs", "") == "true"
        return filtered or bool(self._http.json(answer))

    def _query(self, id: str | None = None) -> tuple[str, dict[str, str]]:
        service = self._http.address.service
        if self._http.address.mode == "one-service":
            only = {"filter": f'Service.ID == "{id}"'} if id else {}
            return f"/v1/health/service/{service}", only
        wanted = f'ServiceName matches "^{service}-"' if id is None else f'ServiceID == "{id}"'
        nodes = 'CheckID == "serfHealth" or CheckID == "_node_maintenance"'
        return "/v1/health/state/any", {"filter": f"{wanted} or {nodes}"}

    def _read(self, answer: Answer) -> Services:
        entries = self._http.json(answer)
        filtered = answer.headers.get("X-Consul-Results-Filtered-By-ACLs", "") == "true"
        if filtered and not entries:
            raise StoreDeniedError(
                self._http.address.shown,
                f"the token may not read service {self._http.address.service!r} or its nodes",
            )
        try:
            if self._http.address.mode == "one-service":
                return {
                    Place(item["Node"]["Node"], item["Service"]["ID"]): item["Checks"]
                    for item in entries
                }
            own: dict[Place, list[Check]] = {}
            of_nodes: dict[str, list[Check]] = {}
            for check in entries:
                if check["ServiceID"]:
                    own.setdefault(place_of(check), []).append(check)
                else:
                    of_nodes.setdefault(check["Node"], []).append(check)
            return {
                place: [*checks, *of_nodes.get(place.node, ())]
                for place, checks in own.items()
                if not _is_of_proxy(checks)
            }
        except (KeyError, TypeError) as error:
            raise self._http.strange(answer) from error

    async def remove(self, place: Place) -> None:
        """Removes a service from the catalog, for one whose node has no agent to do it."""
        body = {"Node": place.node, "ServiceID": place.id}
        if self._http.address.dc:
            body["Datacenter"] = self._http.address.dc
        await self._http.ask("PUT", "/v1/catalog/deregister", data=orjson.dumps(body))


def _is_of_proxy(checks: Sequence[Check]) -> bool:
    """Whether a service is a mesh proxy by Consul's convention, which puts it under our prefix.

    Checks do not tell a service's kind. A server may be called so, too: it has its heartbeat.
    """
    named = str(checks[0]["ServiceName"]).endswith("-sidecar-proxy")
    return named and not any(c["CheckID"] == heartbeat_check(c["ServiceID"]) for c in checks)
