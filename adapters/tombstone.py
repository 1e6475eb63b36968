"""What stands in a store for an instance that was removed while its keeper may not know it.

A facade that removes what another facade keeps puts a tombstone in its place, so that the keeper,
whose registration is lost by that, does not register it again. It is a record like any other to a
store, registered for a second and never renewed, so that anyone may register the id again; it lies
there until the keeper has seen it, at most ``reap_after`` seconds. The catalog shows none.
"""

from __future__ import annotations

from mcp_discovery.adapters.store import Registration, Store, new_holder
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Holder
from mcp_discovery.record import Record

#: The field of a record that marks it; a record keeps fields that it does not know.
FIELD = "removed"
#: The TTL of a tombstone, in seconds: the least that a store takes.
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
    """Registers a tombstone in the place of what ``takeover`` holds, for ``reap_after`` seconds.

    Its own holder is nobody else, so that who takes the tombstone's place cannot take that of
    anything registered later. Raises what :meth:`mcp_discovery.adapters.store.Store.register` does.
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
