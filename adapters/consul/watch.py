"""Watches Consul with two blocking queries, one for the services and one for the records.

It follows Consul's documentation ("Blocking Queries", "Implementation Details"): a query that
returns does not prove a change, an index that goes backwards is reset to 0, an index is at least 1,
and the client limits its own rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.listing import ConsulListing, WatchMemory
from mcp_discovery.adapters.consul.transport import QueryResult
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.instance import Instance

#: Seconds for which a blocking query waits for a change.
WAIT = 20.0

#: Seconds between reads that check whether Consul still serves. A blocking query that waits does
#: not show that the agent hangs, the cluster has no leader or the token was revoked.
CHECK_EVERY = 4.0
#: Seconds within which such a read has to be answered.
CHECK_WITHIN = 2.5

#: The number of queries that may follow each other at once.
BURST = 2
#: Seconds after which one further query may be sent.
REFILL = 0.25

T = TypeVar("T")


class RateLimit:
    """A token bucket that limits how often one query is sent."""

    def __init__(self, burst: int = BURST, refill: float = REFILL) -> None:
        self._burst = burst
        self._refill = refill
        self._tokens = float(burst)
        self._at = time.monotonic()

    async def take(self) -> None:
        """Waits until the next query may be sent."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._refill)
        self._at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens * self._refill)


@dataclass(slots=True)
class _QueryLoop(Generic[T]):
    """Repeats one blocking query for ever and passes on each new value.

    ``answered`` is whether a value has been received; ``uncertain`` whether the last one may come
    from a store that was reset, so that what it lacks has not been removed for certain.
    """

    query: Callable[[int, float], Awaitable[QueryResult[T]]]
    feed: Callable[[T], None]
    changed: asyncio.Event
    answered: bool = False
    uncertain: bool = False

    async def run(self) -> None:
        limit, index, reset = RateLimit(), 0, False
        while True:
            await limit.take()
            try:
                result = await self.query(index, WAIT)
            except StoreUnavailableError:
                if not self.answered:
                    raise
                await asyncio.sleep(Backoff(0.3).next())
                index, reset = 0, True
                result = await self.query(index, WAIT)
            if result.index < index:
                index, reset = 0, True
                continue
            index = result.index
            if result.value is not None:
                self.feed(result.value)
                self.uncertain = self.uncertain or reset
                self.answered, reset = True, False
                self.changed.set()
            del result  # it may be many megabytes, which must not be kept during the next query


async def watch(
    api: ConsulApi, skipped: SkippedKeys, memory: WatchMemory
) -> AsyncGenerator[Snapshot | Change, None]:
    """See :meth:`mcp_discovery.adapters.store.Store.watch`."""
    await api.require_readable()
    changed = asyncio.Event()
    listing = ConsulListing(api.address.records, skipped, memory)
    services = _QueryLoop(api.services.watch, listing.feed_services, changed)
    records = _QueryLoop(api.kv.watch, listing.feed_records, changed)
    queries: list[_QueryLoop[Any]] = [services, records]
    tasks = [
        asyncio.create_task(services.run(), name="consul services"),
        asyncio.create_task(records.run(), name="consul records"),
        asyncio.create_task(_check(api), name="consul check"),
    ]
    for task in tasks:
        task.add_done_callback(lambda _: changed.set())
    try:
        shown: dict[str, Instance] | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(listing.due - time.monotonic()):
                    await changed.wait()
            changed.clear()
            for task in tasks:
                if task.done():
                    task.result()
            if not (services.answered and records.answered):
                continue
            listed = listing.instances()
            if not listed and shown != {}:
                # A token without permission gets an empty list as well.
                await api.require_readable()
            uncertain = any(query.uncertain for query in queries)
            for query in queries:
                query.uncertain = False
            if shown is None or uncertain or _is_mass_drop(shown, listed):
                shown = listed
                yield Snapshot(listed)
                continue
            changes = _changes(shown, listed)
            shown = listed
            for change in changes:
                yield change
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _check(api: ConsulApi) -> NoReturn:
    while True:
        await asyncio.sleep(CHECK_EVERY)
        await api.kv.require_served(CHECK_WITHIN)


def _is_mass_drop(old: dict[str, Instance], new: dict[str, Instance]) -> bool:
    """Whether more than half are missing at once, as when records are deleted by hand. That is
    rarely intended by each of them, so it is not reported as certain removals."""
    gone = len(old.keys() - new.keys())
    return gone > 1 and gone * 2 > len(old)


def _changes(old: dict[str, Instance], new: dict[str, Instance]) -> list[Change]:
    gone = [Change(id, None) for id in old if id not in new]
    return gone + [Change(id, new[id]) for id in new if old.get(id) != new[id]]
