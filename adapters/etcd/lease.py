"""A lease of etcd: what keeps a key there for as long as its owner is heard of."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

from mcp_discovery.adapters.etcd.api import Gateway
from mcp_discovery.adapters.etcd.errors import LeaseNotFoundError
from mcp_discovery.errors import StoreError

log = logging.getLogger(__name__)

#: Seconds that giving leases back may take; they expire anyway.
_REVOKE_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class EtcdLease:
    """A granted lease; ``ttl`` is what etcd granted, in whole seconds, perhaps more than asked."""

    id: str
    ttl: int

    @classmethod
    async def grant(cls, gateway: Gateway, ttl: float) -> EtcdLease:
        """A new lease of at least ``ttl`` seconds, with an id that etcd chooses.

        etcd counts in whole seconds and grants no less than one and a half election time-outs.
        """
        answer = await gateway.call("lease/grant", {"TTL": str(math.ceil(ttl)), "ID": "0"})
        return cls(answer["ID"], int(answer["TTL"]))


async def revoke(gateway: Gateway, ids: Iterable[str]) -> None:
    """Gives leases back with all their keys, as well as that can be done in a moment.

    What cannot be revoked expires: no error is raised.
    """
    try:
        async with asyncio.timeout(_REVOKE_WITHIN):
            await asyncio.gather(*(_revoke(gateway, id) for id in ids))
    except TimeoutError:
        log.debug("leases are left to expire: no answer within %g s", _REVOKE_WITHIN)


async def _revoke(gateway: Gateway, id: str) -> None:
    try:
        await gateway.call("lease/revoke", {"ID": id})
    except LeaseNotFoundError:
        pass
    except StoreError as error:
        log.debug("lease %s is left to expire: %s", id, error)


async def keep_alive(gateway: Gateway, *leases: EtcdLease) -> bool:
    """Starts each lease's time anew, in one request; returns whether all of them are there.

    One that is gone is answered with no TTL (or 0). Costs etcd no write and wakes no watcher.
    """
    answers = await gateway.call_each("lease/keepalive", [{"ID": lease.id} for lease in leases])
    alive = {answer["ID"] for answer in answers if int(answer.get("TTL", 0)) > 0}
    return all(lease.id in alive for lease in leases)


async def heard_ago(gateway: Gateway, lease: str) -> int | None:
    """Seconds since ``lease`` was last kept alive; ``None`` when it is gone."""
    answer = await gateway.call("lease/timetolive", {"ID": lease})
    left, granted = int(answer.get("TTL", -1)), int(answer.get("grantedTTL", 0))
    return max(0, granted - left) if left >= 0 else None
