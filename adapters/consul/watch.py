"""Follows Consul with two blocking queries, one for who is alive and one for what they are.

The rules of blocking queries come from Consul's documentation ("Blocking Queries", "Implementation
Details"): a return is no proof of change, an index that goes backwards starts over from 0, an
index is at least 1, and a client limits its own rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, NoReturn, TypeVar

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.listing import Listing, Memory
from mcp_discovery.adapters.consul.transport import Reading
from mcp_discovery.adapters.skipped import Skipped
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.instance import Instance

#: Seconds that Consul may hold a query.
WAIT = 20.0

#: Held queries say nothing of an agent that hangs, of a cluster without a leader, of a token that
#: was revoked: so often, in seconds, the agent is asked …
CHECK_EVERY = 4.0
#: … and the seconds that it has to answer.
CHECK_WITHIN = 2.5

#: Queries that may follow each other at once, and the seconds that each further one costs.
BURST, REFILL = 2, 0.25


T = TypeVar("T")


class Pace:
    """A token bucket for one query."""

    def __init__(self, burst: int = BURST, refill: float = REFILL) -> None:
        self._burst = burst
        self._refill = refill
        self._tokens = float(burst)
        self._at = time.monotonic()

    async def take(self) -> None:
        """Waits until the next query may go."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._refill)
        self._at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens * self._refill)


class _Query(Generic[T]):
    """One blocking query, asked for ever."""

    def __init__(
        self,
        ask: Callable[[int, float], Awaitable[Reading[T]]],
        take: Callable[[T], None],
        news: asyncio.Event,
    ) -> None:
        self._ask = ask
        self._take = take
        self._news = news
        #: Whether there was an answer yet.
        self.answered = False
        #: Whether the last answer may belong to another history: what is absent from it then is
        #: not gone for certain.
        self.uncertain = False

    async def run(self) -> None:
        pace, index, another = Pace(), 0, False
        while True:
            await pace.take()
            try:
                reading = await self._ask(index, WAIT)
            except StoreUnavailableError:
                if not self.answered:
                    raise
                await asyncio.sleep(Backoff(0.3).next())
                index, another = 0, True
                reading = await self._ask(index, WAIT)
            if reading.index < index:
                index, another = 0, True
                continue
            index = reading.index
            if reading.value is not None:
                self._take(reading.value)
                self.uncertain = self.uncertain or another
                self.answered, another = True, False
                self._news.set()
            del reading  # of many megabytes, while the next is waited for


async def watch(
    api: ConsulApi, skipped: Skipped, memory: Memory
) -> AsyncGenerator[Snapshot | Change, None]:
    """The watch of the seam; see :meth:`mcp_discovery.adapters.store.Store.watch`."""
    await api.require_readable()
    news = asyncio.Event()
    listing = Listing(api.address.records, skipped, memory)
    services = _Query(api.services.watch, listing.feed_services, news)
    records = _Query(api.kv.watch, listing.feed_records, news)
    queries: list[_Query[Any]] = [services, records]
    tasks = [
        asyncio.create_task(services.run(), name="consul services"),
        asyncio.create_task(records.run(), name="consul records"),
        asyncio.create_task(_check(api), name="consul check"),
    ]
    for task in tasks:
        task.add_done_callback(lambda _: news.set())
    try:
        shown: dict[str, Instance] | None = None
        while True:
            await _until(news, listing.due)
            news.clear()
            for task in tasks:
                if task.done():
                    task.result()
            if not (services.answered and records.answered):
                continue
            listed = listing.instances()
            if not listed and shown != {}:
                # A token that lacks or lost its rights sees nothing, too.
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
    """Asks again and again whether Consul serves; raises what is wrong when it does not."""
    while True:
        await asyncio.sleep(CHECK_EVERY)
        await api.kv.require_served(CHECK_WITHIN)


async def _until(news: asyncio.Event, due: float) -> None:
    """Waits for news, at most until the monotonic second ``due``."""
    try:
        async with asyncio.timeout_at(_loop_time(due)):
            await news.wait()
    except TimeoutError:
        return


def _loop_time(due: float) -> float:
    return asyncio.get_running_loop().time() + (due - time.monotonic())


def _is_mass_drop(old: dict[str, Instance], new: dict[str, Instance]) -> bool:
    """Whether more than half is gone at once, as when the records are deleted by hand: rarely each
    one's own doing, so it is not told as certain."""
    gone = len(old.keys() - new.keys())
    return gone > 1 and gone * 2 > len(old)


def _changes(old: dict[str, Instance], new: dict[str, Instance]) -> list[Change]:
    gone = [Change(id, None) for id in old if id not in new]
    other = [
        Change(id, instance)
        for id, instance in new.items()
        if (before := old.get(id)) is None or not before.same_as(instance)
    ]
    return gone + other
