"""Notices what an ACL token hides from a list, and keeps what was listed before it was hidden.

A record without a service in sight, or the other way round, is the trace of a hidden one: then
the token's rights on the other half are asked for, by
:mod:`mcp_discovery.adapters.consul.permissions`. What Consul before 1.12 hides altogether leaves no
trace: a node that is denied by its name, together with the records of its instances.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.checks import Presence
from mcp_discovery.adapters.consul.listing import ConsulListing, Joined
from mcp_discovery.adapters.consul.permissions import ANY_NODE, AclRight
from mcp_discovery.adapters.consul.records import StoredRecord
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance

#: Seconds between two looks for such traces.
LOOK_EVERY = 15.0
#: How many names a message gives.
_NAMED = 3
#: The reason of an instance that is hidden.
HIDDEN = "the store's token may no longer read it: it may be alive, or not"


@dataclass(frozen=True, slots=True)
class KeptInstance:
    """An instance as it was seen last, and the rights of which one is missing to see it again."""

    joined: Joined
    wanted: frozenset[AclRight]


@dataclass(slots=True)
class HiddenInstances:
    """What one watch is not shown.

    ``problem`` says what part of the list is missing, and what to grant; ``None`` for a whole one.
    """

    api: ConsulApi
    problem: str | None = None
    kept: dict[str, KeptInstance] = field(default_factory=dict)
    _due: float = 0.0

    @property
    def due(self) -> bool:
        """Whether :meth:`look` has something to do."""
        return time.monotonic() >= self._due

    async def look(self, listing: ConsulListing) -> None:
        """Sets :attr:`problem` by what is in ``listing`` now."""
        self._due = time.monotonic() + LOOK_EVERY
        stored, presences = listing.halves()
        seen = {each.place.id for each in presences}
        if self.api.services.filtered or any(each.record.id not in seen for each in stored):
            await self.api.services.all()  # only such an answer says whether it is a part
        self.problem = await hidden_part(self.api, stored, presences, kept=len(self.kept))

    async def with_kept(
        self, listed: Mapping[str, Instance], before: Mapping[str, Joined], listing: ConsulListing
    ) -> dict[str, Instance]:
        """``listed``, and those of ``before`` that the token hides by now, ``degraded``."""
        gone = {id: each.joined for id, each in self.kept.items() if id not in listed}
        gone |= {id: joined for id, joined in before.items() if id not in listed}
        missing = {
            id: KeptInstance(joined, self._wanted(id, joined, listing))
            for id, joined in gone.items()
        }
        asked = [each for id, each in missing.items() if self.due or self.kept.get(id) != each]
        rights = {right for each in asked for right in each.wanted}
        lacking = await self.api.permissions.lacking(rights) if rights else set()
        kept = {
            id: each
            for id, each in missing.items()
            if (lacking & each.wanted if each in asked else id in self.kept)
        }
        if kept.keys() != self.kept.keys():
            self._due = 0.0
        self.kept = kept
        return {**listed, **{id: _hidden(each.joined.instance) for id, each in kept.items()}}

    def _wanted(self, id: str, joined: Joined, listing: ConsulListing) -> frozenset[AclRight]:
        """The rights without which ``id`` is not seen any more, though it may be there."""
        has_service, has_record = listing.has(id)
        if not has_record:
            return frozenset({AclRight("key", joined.stored.key)})
        if not has_service:
            service = self.api.address.service_of(joined.stored.record.name)
            node = joined.presence.place.node
            return frozenset({AclRight("node", node), AclRight("service", service)})
        return frozenset()


async def hidden_part(
    api: ConsulApi,
    stored: Iterable[StoredRecord],
    presences: Iterable[Presence],
    *,
    kept: int = 0,
) -> str | None:
    """What part of the list the token hides, as far as that shows, and what to grant."""
    address = api.address
    records = {each.record.id: each.record.name for each in stored}
    services = {each.place.id: each.server for each in presences}
    names = {name for id, name in records.items() if id not in services}
    by_service = {AclRight("service", address.service_of(name)) for name in names}
    by_key = {
        AclRight("key", f"{address.records}{server}/{id}")
        for id, server in services.items()
        if server is not None and id not in records
    }
    wanted = by_service | by_key | ({ANY_NODE} if names else set())
    lacking = await api.permissions.lacking(wanted) if wanted else set()
    parts = []
    denied = sorted(right.name for right in lacking & by_service)
    if denied:
        more = f" and {len(denied) - _NAMED} more" if len(denied) > _NAMED else ""
        parts.append(f"services {', '.join(map(repr, denied[:_NAMED]))}{more} ({address.rule})")
    if api.services.filtered or ANY_NODE in lacking:
        parts.append(
            'some nodes, and with them their instances (node_prefix "" { policy = "read" })'
        )
    if api.kv.filtered or lacking & by_key:
        rule = f'key_prefix "{address.records}" {{ policy = "read" }}'
        parts.append(f"some records ({rule})")
    if not parts and kept:
        parts.append("some that it could read before")
    if not parts:
        return None
    return (
        f"the token may not read {'; '.join(parts)}: grant that, or remove the rule that denies it"
    )


def _hidden(instance: Instance) -> Instance:
    health = instance.health
    if health.status is not Status.HEALTHY:
        return instance
    return replace(instance, health=health.then(Status.DEGRADED, HIDDEN, heard=False))
