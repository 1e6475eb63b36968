"""Pauses in which others have the event loop, for work that is long and has to be done in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

#: For how many seconds work goes on without a pause.
_AT_ONCE = 0.005


class Pauses:
    """Those of one piece of work."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    @property
    def are_due(self) -> bool:
        """Whether this has gone on for long."""
        return time.monotonic() - self._since > _AT_ONCE

    async def pause(self) -> None:
        """Lets others go on, if this has gone on for long; to be awaited between two steps."""
        if self.are_due:
            await asyncio.sleep(0)
            self._since = time.monotonic()


async def sliced(items: Iterable[Item]) -> AsyncIterator[Item]:
    """``items``, however many there are, with a pause between two now and then."""
    pauses = Pauses()
    for each in items:
        yield each
        await pauses.pause()


async def made_of_each(items: Iterable[Item], make: Callable[[Item], Made]) -> list[Made]:
    """What ``make`` makes of each of ``items``, however many there are."""
    return [make(each) async for each in sliced(items)]
