"""Wakes the readers of streams when there is something new, a few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from mcp_discovery.adapters.catalog import Catalog

#: Tells a reader that there is something new.
Wake: TypeAlias = Callable[[], None]

#: How many readers are woken before everything else has its turn again.
_AT_ONCE = 100
#: A round is followed by a pause as long as it took, at most of so many seconds: what comes in
#: meanwhile is told together. So a few readers have each change at once, and thousands leave half
#: of the time to everything else.
_PAUSE = 0.01


class Fanout:
    """The readers of one catalog's streams, whatever their protocol.

    Thousands of readers that wake at the same moment would keep requests waiting until the last
    of them has written; so they are woken in turns.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._readers: dict[Wake, None] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._readers)

    def join(self, wake: Wake) -> None:
        """``wake`` is called whenever there is something new. It must not take long."""
        self._readers[wake] = None

    def leave(self, wake: Wake) -> None:
        """The reader has gone."""
        self._readers.pop(wake, None)

    def touch(self) -> None:
        """There is something new besides the list."""
        self._news.set()

    async def run(self) -> None:
        """Wakes readers, for ever."""
        following = asyncio.create_task(self._follow(), name="follow the list")
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                began = time.monotonic()
                readers = list(self._readers)
                for start in range(0, len(readers), _AT_ONCE):
                    for wake in readers[start : start + _AT_ONCE]:
                        wake()
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
