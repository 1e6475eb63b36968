"""Who may register an id: the one who holds it, or anyone once nobody keeps it alive.

Two writes decide. The record's compare-and-set lets one of two that start at once win; the check's
notes at the agent say for whom the service is. Whoever finds afterwards that the record names
another withdraws.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.checks import Presence, read_presence
from mcp_discovery.adapters.consul.kv import Entry
from mcp_discovery.adapters.consul.listing import Stored, read_entry
from mcp_discovery.adapters.consul.registration import record_key
from mcp_discovery.errors import DuplicateInstanceError, StoreUnavailableError
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

#: Seconds that a record of another holder may lack its service: a registration in progress
#: writes the one right after the other.
IN_PROGRESS = 0.5
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Former:
    """What registering replaces: the KV entry, and the services of that id wherever they are."""

    entry: Entry | None
    presences: Sequence[Presence]


async def require_free(
    api: ConsulApi, record: Record, holder: Holder, takeover: str | None
) -> Former:
    """Returns what registering ``record`` replaces.

    Raises :class:`DuplicateInstanceError` while another holder than ``takeover`` keeps the id
    alive, or when the local agent has a service of that id that is not an MCP server's at all.
    """
    await _require_no_stranger(api, record)
    deadline = time.monotonic() + IN_PROGRESS
    while True:
        entry = await api.kv.get(record_key(api, record))
        stored = _read(api, entry)
        if stored is not None and stored.lease.holder.id == holder.id:
            return Former(entry, ())
        presences = await _presences(api, record.id)
        for presence in presences:
            kept = presence.alive and presence.holder not in (None, holder.id, takeover)
            if kept and not await _is_leftover(api, presence):
                raise await _duplicate(api, record.id, presence)
        if stored is None or presences:
            return Former(entry, presences)
        if time.monotonic() >= deadline:
            await api.require_readable()  # Its service may be there and not ours to see.
            return Former(entry, presences)
        await asyncio.sleep(_LOOK_EVERY)


async def _is_leftover(api: ConsulApi, presence: Presence) -> bool:
    """Whether the catalog has it on this agent's node while the agent has not, as after a snapshot
    was restored: nobody keeps it, and registering replaces it."""
    if await api.agent.service(presence.place.id) is not None:
        return False
    return presence.place.node == await api.agent.node()


async def _require_no_stranger(api: ConsulApi, record: Record) -> None:
    service = await api.agent.service(record.id)
    if service is None or checks.heartbeat_check(record.id) in service.checks:
        return
    raise DuplicateInstanceError(
        record.id, holder=f"the Consul service {service.service!r} on the local agent"
    )


async def _presences(api: ConsulApi, id: str) -> list[Presence]:
    try:
        found = await api.services.with_id(id)
        return [read_presence(place, told) for place, told in found.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailableError(
            api.address.shown, f"answered checks that are not Consul's: {error!r}"
        ) from error


async def _duplicate(api: ConsulApi, id: str, presence: Presence) -> DuplicateInstanceError:
    entry = await api.kv.get(f"{api.address.records}{presence.server}/{id}")
    stored = _read(api, entry)
    if stored is None:
        return DuplicateInstanceError(id, holder=f"a registrant on node {presence.place.node}")
    return DuplicateInstanceError(
        id, holder=str(stored.lease.holder), url=stored.record.endpoint.url
    )


async def withdraw_if_lost(api: ConsulApi, record: Record, holder: Holder) -> None:
    """After registering: raises :class:`DuplicateInstanceError` if another has won the record."""
    stored = _read(api, await api.kv.get(record_key(api, record)))
    if stored is not None and stored.lease.holder.id == holder.id:
        return
    service = await api.agent.service(record.id)
    beat = service.checks.get(checks.heartbeat_check(record.id)) if service is not None else None
    if checks.holder_in(beat) == holder.id:
        await api.agent.deregister(record.id)
    if stored is None:
        raise StoreUnavailableError(
            api.address.shown, f"the record of {record.id!r} was removed while it was registered"
        )
    raise DuplicateInstanceError(
        record.id, holder=str(stored.lease.holder), url=stored.record.endpoint.url
    )


async def remove_leftovers(api: ConsulApi, record: Record, former: Former) -> None:
    """Removes what an earlier life of the id left behind: its record under a name that the server
    had before, its service on a node that is gone."""
    for presence in former.presences:
        if presence.server is not None and presence.server != record.name:
            entry = await api.kv.get(f"{api.address.records}{presence.server}/{record.id}")
            stored = _read(api, entry)
            if entry and stored and stored.lease.holder.id == presence.holder:
                await api.kv.delete(entry.key, cas=entry.modified)
        if presence.unreachable:
            await api.services.remove(presence.place)


def _read(api: ConsulApi, entry: Entry | None) -> Stored | None:
    """The record in ``entry``; ``None`` where none can be read, which holds nothing."""
    if entry is None:
        return None
    try:
        return read_entry(entry, api.address.records)
    except ValueError:
        return None
