"""Who else holds, in the store, what this facade keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing

from mcp_discovery.adapters.store import Snapshot, Store
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.instance import Holder, Instance

#: How long, in seconds, one look at the whole store may take.
_TIMEOUT = 15.0


class Rivals:
    """Looks into the store itself, because the catalog may be behind what was just written.

    Those who ask at the same time share a look, so that a store which lost a thousand entries is
    not read a thousand times.
    """

    def __init__(self, store: Store, holder: Holder) -> None:
        self._store = store
        self._holder = holder
        self._looking = asyncio.Lock()
        self._looked = float("-inf")  # monotonic seconds
        self._found: Mapping[str, Instance] = {}

    async def of(self, id: str) -> Instance | None:
        """What stands for ``id`` in the store when it is not this facade's: an instance that
        another holds, or a tombstone. ``None`` when it is this facade's, or nothing.

        Raises :class:`~mcp_discovery.errors.StoreError`.
        """
        asked = time.monotonic()
        async with self._looking:
            if self._looked < asked:
                began = time.monotonic()
                self._found = await self._look()
                self._looked = began
        return self._found.get(id)

    async def _look(self) -> Mapping[str, Instance]:
        """Everything that is not this facade's."""
        try:
            async with asyncio.timeout(_TIMEOUT), aclosing(self._store.watch()) as news:
                async for first in news:
                    assert isinstance(first, Snapshot)  # as the seam says
                    return {
                        id: instance
                        for id, instance in first.instances.items()
                        if instance.lease.holder.id != self._holder.id
                    }
        except TimeoutError as error:
            raise StoreUnavailableError(
                self._store.url, f"told no whole list within {_TIMEOUT:g} s"
            ) from error
        raise StoreUnavailableError(self._store.url, "its watch ended before the first list")
