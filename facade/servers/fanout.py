"""Notifies the readers of streams when there is something new, a few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from mcp_discovery.adapters.live_list import LiveList

#: Tells a reader that there is something new.
Notify: TypeAlias = Callable[[], Awaitable[None]]

#: How many readers are notified before everything else has its turn again.
_BATCH = 100
#: The longest pause, in seconds, after a round: it is as long as the round took, and changes during
#: it are published together. So a few readers get each change at once, and thousands leave half of
#: the time to everything else.
_PAUSE = 0.01


class Fanout:
    """The readers of one catalog's streams, whatever their protocol.

    Thousands of readers that write at the same moment would keep requests waiting until the last of
    them is done; so they are notified in batches.
    """

    def __init__(self, catalog: LiveList) -> None:
        self._catalog = catalog
        self._readers: dict[Notify, None] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._readers)

    def join(self, notify: Notify) -> None:
        """``notify`` is awaited whenever there is something new. It must not wait for a client."""
        self._readers[notify] = None

    def leave(self, notify: Notify) -> None:
        """The reader has gone."""
        self._readers.pop(notify, None)

    def touch(self) -> None:
        """There is something new besides the list."""
        self._news.set()

    async def run(self) -> None:
        """Notifies readers, for ever."""
        following = asyncio.create_task(self._follow(), name="follow the list")
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                began = time.monotonic()
                readers = list(self._readers)
                for start in range(0, len(readers), _BATCH):
                    for notify in readers[start : start + _BATCH]:
                        await notify()
                    await asyncio.sleep(0)
                await asyncio.sleep(min(time.monotonic() - began, _PAUSE))
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        view = self._catalog.view
        while True:
            view = await self._catalog.after(view)
            self._news.set()
