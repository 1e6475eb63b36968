"""What a watch has to tell and its consumer has not taken yet, in bounded memory."""

from __future__ import annotations

import asyncio

from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreError

#: Changes that wait in full; beyond, only the last of each instance is kept.
MOST = 1024


class Feed:
    """A queue of changes in their order; a snapshot takes the place of all before it."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._changes: list[Change] = []
        self._merge_at = MOST
        self._failure: StoreError | None = None
        self._wakes = asyncio.Event()

    def snapshot(self, snapshot: Snapshot) -> None:
        """Tells the whole list anew."""
        self._snapshot = snapshot
        self._changes.clear()
        self._wakes.set()

    def change(self, change: Change) -> None:
        """Tells one change."""
        self._changes.append(change)
        if len(self._changes) > self._merge_at:
            latest = {each.id: each for each in self._changes}
            self._changes = list(latest.values())
            self._merge_at = max(MOST, 2 * len(latest))
        self._wakes.set()

    def fail(self, failure: StoreError) -> None:
        """Ends the feed; what waits is still told, then ``failure`` is raised."""
        self._failure = self._failure or failure
        self._wakes.set()

    async def take(self) -> list[Snapshot | Change]:
        """What waits, in order, at least one; raises the failure when there is nothing left."""
        await self._wakes.wait()
        news: list[Snapshot | Change] = [self._snapshot] if self._snapshot else []
        news += self._changes
        self._snapshot, self._changes = None, []
        if news:
            if self._failure is None:
                self._wakes.clear()
            return news
        if self._failure is not None:
            raise self._failure
        raise AssertionError("a feed woke for nothing")
