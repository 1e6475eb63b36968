"""etcd's leases: granting, renewing and revoking them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable

from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.errors import LeaseNotFoundError
from mcp_discovery.errors import StoreError

log = logging.getLogger(__name__)

#: Seconds that revoking leases may take; they expire anyway.
_REVOKE_WITHIN = 2.0


async def grant(gateway: EtcdGateway, ttl: float) -> str:
    """The id of a new lease of at least ``ttl`` seconds.

    etcd counts in whole seconds and grants at least one and a half election time-outs.
    """
    response = await gateway.call("lease/grant", {"TTL": str(math.ceil(ttl)), "ID": "0"})
    return str(response["ID"])


async def revoke(gateway: EtcdGateway, ids: Iterable[str]) -> None:
    """Revokes leases, which removes all their keys. Raises no error: what cannot be revoked in
    time expires.
    """
    try:
        async with asyncio.timeout(_REVOKE_WITHIN):
            await asyncio.gather(*(_revoke(gateway, id) for id in ids))
    except TimeoutError:
        log.debug("leases are left to expire: no answer within %g s", _REVOKE_WITHIN)


async def _revoke(gateway: EtcdGateway, id: str) -> None:
    try:
        await gateway.call("lease/revoke", {"ID": id})
    except LeaseNotFoundError:
        pass
    except StoreError as error:
        log.debug("lease %s is left to expire: %s", id, error)


async def keep_alive(gateway: EtcdGateway, *ids: str) -> bool:
    """Renews all leases in one request; returns whether all of them exist.

    For one that does not, etcd answers with TTL 0 or none. It writes no key and wakes no watcher.
    """
    answers = await gateway.call_each("lease/keepalive", [{"ID": id} for id in ids])
    alive = {response["ID"] for response in answers if int(response.get("TTL", 0)) > 0}
    return alive.issuperset(ids)


async def heard_ago(gateway: EtcdGateway, lease: str) -> int | None:
    """Seconds since ``lease`` was last renewed; ``None`` when it does not exist."""
    response = await gateway.call("lease/timetolive", {"ID": lease})
    left, granted = int(response.get("TTL", -1)), int(response.get("grantedTTL", 0))
    return max(0, granted - left) if left >= 0 else None
