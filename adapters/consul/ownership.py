"""Who may register an id in Consul: its present holder, or anyone once its TTL has lapsed.

Of two registrants that start at the same time, the compare-and-set of the record lets one win. The
notes of the heartbeat check name the holder of the service at the agent. A registrant that finds
another holder in the record after registering removes its service again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.api import ConsulApi, KVPair
from mcp_discovery.adapters.consul.checks import Presence, read_presence
from mcp_discovery.adapters.consul.listing import read_known
from mcp_discovery.adapters.consul.registration import record_key
from mcp_discovery.errors import DuplicateInstanceError, StoreUnavailableError
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

#: Seconds for which a record of another holder without a service counts as a registration in
#: progress, which writes the service right after the record.
IN_PROGRESS = 0.5
_POLL_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a registration replaces: the KV entry, and the services of that id on all nodes."""

    entry: KVPair | None
    presences: Sequence[Presence]


async def require_free(
    api: ConsulApi, record: Record, holder: Holder, takeover: str | None
) -> Replaced:
    """Returns what registering ``record`` replaces.

    Raises :class:`DuplicateInstanceError` while a holder other than ``takeover`` keeps the id
    alive, or when the local agent has a service of that id that is not an MCP server.
    """
    service = await api.agent.service(record.id)
    if service is not None and checks.heartbeat_check(record.id) not in service.checks:
        raise DuplicateInstanceError(
            record.id, holder=f"the Consul service {service.service!r} on the local agent"
        )
    deadline = time.monotonic() + IN_PROGRESS
    while True:
        entry = await api.kv.get(record_key(api, record))
        stored = read_known(entry, api.address.records)
        if stored is not None and stored.lease.holder.id == holder.id:
            return Replaced(entry, ())
        presences = await _presences(api, record.id)
        for presence in presences:
            held = presence.alive and presence.holder not in (None, holder.id, takeover)
            if held and not await _is_leftover(api, presence):
                raise await _duplicate(api, record.id, presence)
        if stored is None or presences:
            return Replaced(entry, presences)
        if time.monotonic() >= deadline:
            await api.require_readable()  # its service may exist and not be readable
            return Replaced(entry, presences)
        await asyncio.sleep(_POLL_EVERY)


async def _is_leftover(api: ConsulApi, presence: Presence) -> bool:
    """Whether the catalog has it on this agent's node and the agent has not, as after a restored
    snapshot: nobody renews it, and registering replaces it."""
    if await api.agent.service(presence.place.id) is not None:
        return False
    return presence.place.node == await api.agent.describe("Config", "NodeName")


async def _presences(api: ConsulApi, id: str) -> list[Presence]:
    try:
        found = await api.services.with_id(id)
        return [read_presence(place, listed) for place, listed in found.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailableError(
            api.address.shown, f"answered checks that are not Consul's: {error!r}"
        ) from error


async def _duplicate(api: ConsulApi, id: str, presence: Presence) -> DuplicateInstanceError:
    entry = await api.kv.get(f"{api.address.records}{presence.server}/{id}")
    stored = read_known(entry, api.address.records)
    if stored is None:
        return DuplicateInstanceError(id, holder=f"a registrant on node {presence.place.node}")
    return stored.duplicate()


async def withdraw_if_lost(api: ConsulApi, record: Record, holder: Holder) -> None:
    """After registering: removes the service and raises :class:`DuplicateInstanceError` if another
    registrant has won the record."""
    stored = read_known(await api.kv.get(record_key(api, record)), api.address.records)
    if stored is not None and stored.lease.holder.id == holder.id:
        return
    await api.agent.deregister_held(record.id, holder.id)
    if stored is None:
        raise StoreUnavailableError(
            api.address.shown, f"the record of {record.id!r} was removed while it was registered"
        )
    raise stored.duplicate()


async def remove_leftovers(api: ConsulApi, record: Record, replaced: Replaced) -> None:
    """Removes what an earlier registration of the id left behind: its record under a former name
    of the server, its service on a node that is gone."""
    for presence in replaced.presences:
        if presence.server is not None and presence.server != record.name:
            entry = await api.kv.get(f"{api.address.records}{presence.server}/{record.id}")
            stored = read_known(entry, api.address.records)
            if entry and stored and stored.lease.holder.id == presence.holder:
                await api.kv.delete(entry.key, cas=entry.modified)
        if presence.unreachable:
            await api.services.remove(presence.place)
