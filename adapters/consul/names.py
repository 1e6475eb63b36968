"""The names under which Consul serves an instance: those of its service, and the service's tags."""

from __future__ import annotations

from collections.abc import Sequence, Set

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.dns_names import AmbiguousLabels, dns_names
from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.record import MAX_NAME, Record


class ConsulNames:
    """The names of one registration.

    A tag is a DNS name below its service, and may have several labels (``<name>.server``). With a
    service for each server there are no names to be taken for another's.
    """

    def __init__(self, api: ConsulApi) -> None:
        self._api = api
        #: Labels that would lead to several servers.
        self.ambiguous = AmbiguousLabels(self._find_ambiguous)

    def tags(self, record: Record) -> Sequence[str]:
        """The tags of the Consul service; the first one names the server."""
        if self._api.address.mode == "service-per-server":
            return list(dict.fromkeys((record.name, *record.tags)))
        return dns_names(record, self.ambiguous.found)

    def require_fit(self, record: Record) -> None:
        """Raises :class:`InvalidRecordError` where the name of the Consul service would be too long
        for DNS, of which Consul says nothing: the service would have no name at all."""
        address = self._api.address
        over = len(address.service_of(record.name)) - MAX_NAME
        if address.mode == "service-per-server" and over > 0:
            most = len(record.name) - over
            problem = (
                f"has {len(record.name)} letters, and DNS has room for {most} behind "
                f"'{address.service}-'; shorten it to {most}, with --name"
            )
            raise InvalidRecordError("name", problem)

    async def _find_ambiguous(self, record: Record) -> Set[str]:
        if self._api.address.mode == "service-per-server":
            return frozenset()
        others = [tag for tag in record.tags if tag != record.name]
        found = await self._api.servers_among(others) if others else set()
        if await self._api.services.other_servers_with_tag(record.name):
            found.add(record.name)
        return found
