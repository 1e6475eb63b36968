"""One lock for each instance id, for as long as somebody uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class IdLocks:
    """Keeps changes to one instance in a row; those to different ones do not wait."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, id: str) -> AsyncIterator[None]:
        """Waits until nobody else changes ``id``, and keeps others from it inside the block."""
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        async with lock:
            yield
