"""The changes that a watch has found and its consumer has not taken yet, in bounded memory."""

from __future__ import annotations

import asyncio

from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreError

#: The number of changes that are queued one by one; beyond that only the last of each instance is.
MOST = 1024


class ChangeQueue:
    """A queue of changes in their order; a snapshot replaces everything before it."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._changes: list[Change] = []
        self._merge_at = MOST
        self._failure: StoreError | None = None
        self._ready = asyncio.Event()

    def snapshot(self, snapshot: Snapshot) -> None:
        """Puts in a complete list."""
        self._snapshot = snapshot
        self._changes.clear()
        self._ready.set()

    def change(self, change: Change) -> None:
        """Puts in one change."""
        self._changes.append(change)
        if len(self._changes) > self._merge_at:
            latest = {each.id: each for each in self._changes}
            self._changes = list(latest.values())
            self._merge_at = max(MOST, 2 * len(latest))
        self._ready.set()

    def fail(self, failure: StoreError) -> None:
        """Ends the queue: what is in it can still be taken, after that ``failure`` is raised."""
        self._failure = self._failure or failure
        self._ready.set()

    async def take(self) -> list[Snapshot | Change]:
        """Waits for and takes everything in the queue; raises the failure once it is empty."""
        await self._ready.wait()
        taken: list[Snapshot | Change] = [self._snapshot] if self._snapshot else []
        taken += self._changes
        self._snapshot, self._changes = None, []
        if self._failure is None:
            self._ready.clear()
        elif not taken:
            raise self._failure
        return taken
