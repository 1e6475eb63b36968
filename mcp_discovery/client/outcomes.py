"""The outcomes of calls, reported to the facade in batches; a call never waits for a report."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from mcp_discovery.client.source import CallOutcome, Source
from mcp_discovery.errors import DiscoveryError

log = logging.getLogger(__name__)

#: Seconds between two batches.
_INTERVAL = 1.0
#: The most outcomes in one batch, and in memory while the facade is away; the oldest are dropped.
_BATCH, _MOST = 500, 5_000


class OutcomeReporter:
    """Collects outcomes and sends them. ``run`` is its task; ``flush`` sends what is left."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: deque[CallOutcome] = deque(maxlen=_MOST)
        self._available = asyncio.Event()

    def add(self, outcome: CallOutcome) -> None:
        """Adds the outcome of a call to the next batch."""
        self._waiting.append(outcome)
        self._available.set()

    async def run(self) -> None:
        """Sends a batch every second while there are outcomes, for ever."""
        while True:
            await self._available.wait()
            await asyncio.sleep(_INTERVAL)
            await self.flush()

    async def flush(self) -> None:
        """Sends all outcomes; those that cannot be sent stay for the next batch."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                async with asyncio.timeout(_INTERVAL * 5):
                    await self._source.report(batch)
            except (DiscoveryError, TimeoutError) as error:
                log.debug("%d outcomes are not reported: %s", len(batch), error)
                room = _MOST - len(self._waiting)
                self._waiting.extendleft(reversed(batch[-room:] if room else []))
                return
        self._available.clear()
