"""Who may register an id in Consul: its present holder, or anyone once that drains it or its TTL
has lapsed.

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
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.checks import Presence, ServicePlace, read_presence
from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.consul.records import StoredRecord, read_known
from mcp_discovery.adapters.consul.registration import record_key
from mcp_discovery.errors import DuplicateInstanceError, StoreUnavailableError
from mcp_discovery.instance import Holder, is_leaving
from mcp_discovery.record import Record

#: Seconds for which a record of another holder counts as a registration in progress while no
#: service of that holder was ever renewed: it registers and renews that right after the record.
IN_PROGRESS = 0.5
_POLL_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a registration replaces: the KV entry, and the services of that id on all nodes, of
    which no agent removes those at the ``abandoned`` places."""

    entry: KVPair | None
    presences: Sequence[Presence] = ()
    abandoned: Sequence[ServicePlace] = ()


async def require_free(
    api: ConsulApi, record: Record, holder: Holder, takeover: str | None
) -> Replaced:
    """Returns what registering ``record`` replaces.

    Raises :class:`DuplicateInstanceError` while a holder other than ``takeover`` keeps the id
    alive and does not drain it, or when the local agent has a service of that id that is not an MCP
    server.
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
            return Replaced(entry)
        presences = await _presences(api, record.id)
        abandoned = [presence.place for presence in presences if presence.unreachable]
        for presence in presences:
            held = presence.alive and presence.holder not in (None, holder.id, takeover)
            if not held or await _is_leftover(api, presence):
                continue
            keeper = await _record_of(api, presence)
            if keeper is not None and keeper.ended:
                abandoned.append(presence.place)
            elif keeper is None or not is_leaving(presence.own, keeper.lease):
                raise _duplicate(record.id, presence, keeper)
        if stored is None or _has_begun(stored.lease.holder, presences):
            return Replaced(entry, presences, abandoned)
        if time.monotonic() >= deadline:
            if not presences:
                await api.require_readable()  # its service may exist and not be readable
            return Replaced(entry, presences, abandoned)
        await asyncio.sleep(_POLL_EVERY)


def _has_begun(holder: Holder, presences: Sequence[Presence]) -> bool:
    return any(each.began and each.holder == holder.id for each in presences)


async def _is_leftover(api: ConsulApi, presence: Presence) -> bool:
    """Whether it passes in the catalog, on this agent's node, and not at the agent: nobody renews
    it, and registering replaces it.

    The agent has none after a snapshot was restored. It has one that lapsed where its servers were
    not told, because the holder's token is gone.
    """
    service = await api.agent.service(presence.place.id)
    if service is None:
        return presence.place.node == await api.agent.describe("Config", "NodeName")
    check = service.checks.get(checks.heartbeat_check(presence.place.id), {})
    here = check.get("Node") == presence.place.node and checks.holder_in(check) == presence.holder
    return here and check.get("Status") == checks.CRITICAL


async def _presences(api: ConsulApi, id: str) -> list[Presence]:
    try:
        found = await api.services.with_id(id)
        return [read_presence(place, listed) for place, listed in found.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailableError(
            api.address.shown, f"answered checks that are not Consul's: {error!r}"
        ) from error


async def _record_of(api: ConsulApi, presence: Presence) -> StoredRecord | None:
    """The record of the holder of a service."""
    key = f"{api.address.records}{presence.server}/{presence.place.id}"
    stored = read_known(await api.kv.get(key), api.address.records)
    return stored if stored is not None and stored.lease.holder.id == presence.holder else None


def _duplicate(id: str, presence: Presence, keeper: StoredRecord | None) -> DuplicateInstanceError:
    if keeper is None:
        return DuplicateInstanceError(id, holder=f"a registrant on node {presence.place.node}")
    return keeper.duplicate()


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


async def remove_leftovers(api: ConsulApi, record: Record, replaced: Replaced, node: str) -> None:
    """After registering on ``node``: removes what an earlier registration of the id left behind,
    its record under a former name of the server, its service on a node where nobody removes it."""
    for presence in replaced.presences:
        if presence.server is not None and presence.server != record.name:
            entry = await api.kv.get(f"{api.address.records}{presence.server}/{record.id}")
            stored = read_known(entry, api.address.records)
            if entry and stored and stored.lease.holder.id == presence.holder:
                await api.kv.delete(entry.key, cas=entry.modified)
    for place in replaced.abandoned:
        if place.node != node:
            await api.services.remove(place)
