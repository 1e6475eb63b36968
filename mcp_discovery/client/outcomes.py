"""How calls went, told to the facade in batches; never in the way of a call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from mcp_discovery.client.source import CallOutcome, Source
from mcp_discovery.errors import DiscoveryError

log = logging.getLogger(__name__)

#: Seconds between two batches, and for the last one.
_EVERY = 1.0
#: The most outcomes in one batch, and in memory while the facade is away: the oldest go first.
_BATCH, _MOST = 500, 5_000


class Outcomes:
    """Collects and sends. ``run`` is its task; ``flush`` sends what is left."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: deque[CallOutcome] = deque(maxlen=_MOST)
        self._some = asyncio.Event()

    def add(self, outcome: CallOutcome) -> None:
        """Notes how a call went."""
        self._waiting.append(outcome)
        self._some.set()

    async def run(self) -> None:
        """Sends a batch every second while there is something to tell, for ever."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Sends what there is; what cannot be sent is kept for the next time."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                async with asyncio.timeout(_EVERY * 5):
                    await self._source.report(batch)
            except (DiscoveryError, TimeoutError) as error:
                log.debug("%d outcomes are not told: %s", len(batch), error)
                room = _MOST - len(self._waiting)
                self._waiting.extendleft(reversed(batch[-room:] if room else []))
                return
        self._some.clear()
