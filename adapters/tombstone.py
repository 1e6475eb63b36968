"""Tombstones: records that mark an instance as removed by a facade that did not register it.

A facade that removes an entry which another facade registered puts a tombstone in its place. The
other one loses its registration by that, finds the tombstone and does not register the entry again.
To a store a tombstone is an ordinary record, registered with a TTL of one second and never renewed,
so that anyone may register the id again. It stays until the other facade has removed it, at most
``reap_after`` seconds. The catalog lists none.
"""

from __future__ import annotations

from mcp_discovery.adapters.store import Registration, Store, new_holder
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

#: The field that marks a record as a tombstone; records keep unknown fields, so any version can
#: carry it.
FIELD = "removed"
#: The TTL of a tombstone in seconds: the shortest that stores accept.
_TTL = 1.0
_NOTHING = CapabilityDocument()


def tombstone(record: Record) -> Record:
    """The tombstone for ``record``."""
    endpoint = record.endpoint.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Record.parse({"id": record.id, "name": record.name, "endpoint": endpoint, FIELD: True})


def is_tombstone(record: Record) -> bool:
    """Whether ``record`` is a tombstone."""
    return (record.model_extra or {}).get(FIELD) is True


async def bury(
    store: Store, record: Record, *, takeover: str, reap_after: float, by: Holder
) -> Registration:
    """Replaces the registration that the holder ``takeover`` has of ``record`` by a tombstone.

    It expires after ``reap_after`` seconds. Its holder is a new random one, so that whoever is
    allowed to replace the tombstone is not allowed to replace a later registration. Raises what
    :meth:`mcp_discovery.adapters.store.Store.register` does.
    """
    return await store.register(
        tombstone(record),
        _NOTHING,
        ttl=_TTL,
        reap_after=reap_after,
        health=Health(Status.DOWN, f"removed by {by}"),
        holder=new_holder("facade"),
        takeover=takeover,
    )
