"""Consul's services with their checks, as its servers have them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mcp_discovery.adapters.consul.checks import (
    CRITICAL,
    READ,
    Check,
    ServicePlace,
    heartbeat_check,
)
from mcp_discovery.adapters.consul.transport import ConsulTransport, QueryResult, is_filtered
from mcp_discovery.adapters.dns_names import TAG, server_in
from mcp_discovery.adapters.http import StoreResponse
from mcp_discovery.errors import StoreDeniedError

#: For each place the checks of the service and of its node.
Services = Mapping[ServicePlace, Sequence[Check]]

#: The first bytes of each element of ``/v1/health/service/…``. Inside a JSON string the quotes
#: would be escaped; a nested object that began so would leave pieces that are not JSON.
_BEGINS = b'{"Node":{'
_FIRST, _NEXT = b"[" + _BEGINS, b"," + _BEGINS


class ServiceListParser:
    """Parses successive responses with all services, and of each only the elements that are new.

    Consul returns every service each time, however little has changed. Parsing all of it takes a
    second of processor time for some tens of thousands of instances, and most of the delay of a
    change for a thousand. Elements are recognized by a digest of their bytes; of each check only
    the fields that are read later are kept, a third of them.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[ServicePlace, Sequence[Check]]] = {}

    def read(self, body: bytes) -> dict[ServicePlace, Sequence[Check]] | None:
        """The checks of each service by its place; the same object as last time where the bytes
        are the same. ``None`` where ``body`` does not have the expected form."""
        if not body.startswith(_FIRST):
            return None
        known: dict[bytes, tuple[ServicePlace, Sequence[Check]]] = {}
        try:
            for piece in body.rstrip()[len(_FIRST) : -1].split(_NEXT):
                digest = hashlib.blake2b(piece, digest_size=16).digest()
                known[digest] = self._known.get(digest) or _parsed(_BEGINS + piece)
        except (ValueError, KeyError, TypeError):
            return None
        self._known = known
        return dict(known.values())


def _parsed(element: bytes) -> tuple[ServicePlace, Sequence[Check]]:
    entry = orjson.loads(element)
    checks = [{name: each[name] for name in READ if name in each} for each in entry["Checks"]]
    return ServicePlace(entry["Node"]["Node"], entry["Service"]["ID"]), checks


class ServiceCatalog:
    """The services of one store, on all nodes."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http
        self._parser = ServiceListParser()
        #: Whether the agent may answer :meth:`watch` from its own copy.
        self.streaming = True
        #: Whether Consul has left out services because of their nodes, where it says so. Only of
        #: one service: of the checks of all it leaves out some for everybody who may not read all.
        self.filtered = False

    async def watch(self, index: int, wait: float) -> QueryResult[Services]:
        """A blocking query for all services; see :meth:`ConsulTransport.block`.

        The checks of a service that has not changed are the same object in the next result.
        """
        path, params = self._query()
        if not self.streaming:
            params["near"] = "_agent"  # what is sorted by distance is never streamed
        response = await self._http.block(path, params, index, wait)
        now = self._http.index(response)
        if now == index:
            return QueryResult(now, None)
        one_service = self._http.address.mode == "one-service"
        if index == 0:
            self._note_filtered(response)
        services = self._parser.read(response.body) if one_service else None
        return QueryResult(now, self._read(response) if services is None else services)

    async def leaders(self, *, empty: bool) -> tuple[int, bool]:
        """The index of the services as the leader has them, and whether there are none. That is
        only looked at if ``empty`` is true: otherwise the response lists none, and costs as good
        as nothing."""
        path, params = self._query()
        if not empty:
            own = self._http.address.mode == "one-service"
            params["filter"] = f'{"Service.ID" if own else "CheckID"} == ""'
        response = await self._http.request("GET", path, {**params, "consistent": ""})
        return self._http.index(response), empty and not self._http.json(response)

    async def all(self) -> Services:
        """Every service of this store, confirmed by the quorum."""
        path, params = self._query()
        response = await self._http.request("GET", path, {**params, "consistent": ""})
        self._note_filtered(response)
        return self._read(response)

    def _note_filtered(self, response: StoreResponse) -> None:
        self.filtered = self._http.address.mode == "one-service" and is_filtered(response)

    async def require_nodes_readable(self) -> None:
        """Raises :class:`StoreDeniedError` when there are services and the token may read no node.

        Consul then leaves the services out of every response but the list of service names.
        """
        now = {"consistent": ""}
        names = self._http.json(await self._http.request("GET", "/v1/catalog/services", now))
        if not isinstance(names, dict) or not any(map(self._http.address.is_ours, names)):
            return
        if not self._http.json(await self._http.request("GET", "/v1/catalog/nodes", now)):
            raise StoreDeniedError(
                self._http.address.shown,
                "the token lacks node:read, without which no service can be seen",
            )

    async def with_id(self, id: str) -> Services:
        """The services with that id, on all nodes, confirmed by the quorum."""
        if not await self._has_checks(id):
            return {}
        path, params = self._query(id)
        found = self._read(await self._http.request("GET", path, {**params, "consistent": ""}))
        return {place: checks for place, checks in found.items() if place.id == id}

    async def other_servers_with_tag(self, name: str) -> bool:
        """Whether any server but the one called ``name`` has that for a tag, as the names say that
        its registrant gave Consul."""
        where = f"/v1/catalog/service/{self._http.address.service}"
        response = await self._http.request("GET", where, {"tag": f"{name}.{TAG}"})
        with self._http.reading(response):
            tags = [each["ServiceTags"] for each in self._http.json(response)]
            return any(server_in(each[0]) != name for each in tags)

    async def _has_checks(self, id: str) -> bool:
        """Whether any check belongs to that instance. It costs Consul a third of the query with
        services and nodes, and is the only query that registering a new instance needs."""
        if self._http.address.mode != "one-service":
            return True
        checks = f"/v1/health/checks/{self._http.address.service}"
        only = {"filter": f'ServiceID == "{id}"', "consistent": ""}
        response = await self._http.request("GET", checks, only)
        return is_filtered(response) or bool(self._http.json(response))

    def _query(self, id: str | None = None) -> tuple[str, dict[str, str]]:
        service = self._http.address.service
        if self._http.address.mode == "one-service":
            only = {"filter": f'Service.ID == "{id}"'} if id else {}
            return f"/v1/health/service/{service}", only
        wanted = f'ServiceName matches "^{service}-"' if id is None else f'ServiceID == "{id}"'
        nodes = 'CheckID == "serfHealth" or CheckID == "_node_maintenance"'
        return "/v1/health/state/any", {"filter": f"{wanted} or {nodes}"}

    def _read(self, response: StoreResponse) -> Services:
        entries = self._http.json(response)
        if is_filtered(response) and not entries:
            raise StoreDeniedError(
                self._http.address.shown,
                f"the token may not read {self._http.address.services} or their nodes: grant "
                f'{self._http.address.rule} and node_prefix "" {{ policy = "read" }}',
            )
        with self._http.reading(response):
            if self._http.address.mode == "one-service":
                return {
                    ServicePlace(item["Node"]["Node"], item["Service"]["ID"]): item["Checks"]
                    for item in entries
                }
            own: dict[ServicePlace, list[Check]] = {}
            of_nodes: dict[str, list[Check]] = {}
            for check in entries:
                if check["ServiceID"]:
                    place = ServicePlace(check["Node"], check["ServiceID"])
                    own.setdefault(place, []).append(check)
                else:
                    of_nodes.setdefault(check["Node"], []).append(check)
            return {
                place: [*checks, *of_nodes.get(place.node, ())]
                for place, checks in own.items()
                if not _is_proxy(checks)
            }

    async def fail(self, place: ServicePlace, check: Check) -> None:
        """Makes a check of a service critical in the catalog, where its agent cannot. The agent
        overwrites that once it may write again."""
        failed = {
            "Node": place.node,
            "ServiceID": place.id,
            "CheckID": check["CheckID"],
            "Name": check.get("Name", ""),
            "Notes": check.get("Notes", ""),
            "Status": CRITICAL,
            "Output": "TTL lapsed, and the agent may not say so: is the token of its holder gone?",
        }
        body: dict[str, Any] = {"Node": place.node, "SkipNodeUpdate": True, "Check": failed}
        if self._http.address.dc:
            body["Datacenter"] = self._http.address.dc
        await self._http.request("PUT", "/v1/catalog/register", data=orjson.dumps(body))

    async def remove(self, place: ServicePlace) -> None:
        """Removes a service from the catalog, if it is there, where its agent does not do it."""
        body = {"Node": place.node, "ServiceID": place.id}
        if self._http.address.dc:
            body["Datacenter"] = self._http.address.dc
        where = "/v1/catalog/deregister"
        response = await self._http.send("PUT", where, data=orjson.dumps(body))
        if response.status != 200 and "Unknown service" not in response.text:
            self._http.refuse(response)


def _is_proxy(checks: Sequence[Check]) -> bool:
    """Whether a service is a mesh proxy, by the name that Consul gives these: checks do not contain
    a service's kind. An MCP server of such a name has a heartbeat check."""
    name = checks[0]["ServiceName"]
    named = isinstance(name, str) and name.endswith("-sidecar-proxy")
    return named and not any(c["CheckID"] == heartbeat_check(c["ServiceID"]) for c in checks)
