"""Watches Consul with two blocking queries, one for the services and one for the records.

It follows Consul's documentation ("Blocking Queries", "Implementation Details"): a query that
returns does not prove a change, an index that goes backwards is reset to 0, an index is at least 1,
and the client limits its own rate.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.checks import ServicePlace
from mcp_discovery.adapters.consul.hidden import HiddenInstances
from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.consul.listing import ConsulListing, WatchMemory
from mcp_discovery.adapters.consul.services import Services
from mcp_discovery.adapters.consul.transport import QueryResult
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreDeniedError, StoreUnavailableError
from mcp_discovery.instance import Instance

#: Seconds for which a blocking query waits for a change.
WAIT = 20.0

#: Seconds between reads that check whether Consul still serves. A blocking query that waits does
#: not show that the agent hangs, the cluster has no leader or the token was revoked.
CHECK_EVERY = 4.0
#: Seconds within which such a read has to be answered.
CHECK_WITHIN = 2.5
#: Seconds within which a change that the leader has must have been brought.
CHANGE_WITHIN = 2.5

#: Seconds between looks for services that pass though their holder's session has ended.
GHOSTS_EVERY = 1.0

#: The number of queries that may follow each other at once.
BURST = 2
#: Seconds after which one further query may be sent.
REFILL = 0.25

log = logging.getLogger(__name__)

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
    from a store that was reset, so that what it lacks has not been removed for certain. ``index``
    is that of the last value, and ``empty`` whether nothing was in it.
    """

    query: Callable[[int, float], Awaitable[QueryResult[T]]]
    feed: Callable[[T], None]
    changed: asyncio.Event
    answered: bool = False
    uncertain: bool = False
    index: int = 0
    empty: bool = True

    async def run(self) -> None:
        limit, reset = RateLimit(), False
        while True:
            await limit.take()
            try:
                result = await self.query(self.index, WAIT)
            except StoreUnavailableError:
                if not self.answered:
                    raise
                await asyncio.sleep(Backoff(0.3).next())
                self.index, reset = 0, True
                result = await self.query(self.index, WAIT)
            if result.index < self.index:
                self.index, reset = 0, True
                continue
            self.index = result.index
            if result.value is not None:
                self.feed(result.value)
                self.empty = not result.value
                self.uncertain = self.uncertain or reset
                self.answered, reset = True, False
                self.changed.set()
            del result  # it may be many megabytes, which must not be kept during the next query


async def watch(
    api: ConsulApi, skipped: SkippedKeys, memory: WatchMemory, hidden: HiddenInstances
) -> AsyncGenerator[Snapshot | Change, None]:
    """See :meth:`mcp_discovery.adapters.store.Store.watch`."""
    await api.require_readable()
    await api.token.follow()
    changed = asyncio.Event()
    listing = ConsulListing(api.address.records, skipped, memory)
    services = _QueryLoop(api.services.watch, listing.feed_services, changed)
    records = _QueryLoop(api.kv.watch, listing.feed_records, changed)
    queries: list[_QueryLoop[Any]] = [services, records]
    tasks = [
        asyncio.create_task(services.run(), name="consul services"),
        asyncio.create_task(records.run(), name="consul records"),
        asyncio.create_task(_check(api, services, records, changed, hidden), name="consul check"),
        asyncio.create_task(_fail_ghosts(api, listing), name="consul ghosts"),
    ]
    for task in tasks:
        task.add_done_callback(lambda _: changed.set())
    try:
        shown: dict[str, Instance] | None = None
        partial: str | None = None
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
            before = memory.joined
            listed = await hidden.with_kept(listing.instances(), before, listing)
            if hidden.due:
                await hidden.look(listing)
            if not listed and shown != {}:
                # A token without permission gets an empty list as well.
                await api.require_readable()
            uncertain = any(query.uncertain for query in queries)
            for query in queries:
                query.uncertain = False
            news = hidden.problem != partial
            if shown is None or uncertain or news or _is_mass_drop(shown, listed):
                shown, partial = listed, hidden.problem
                yield Snapshot(listed, partial)
                continue
            changes = _changes(shown, listed)
            shown = listed
            for change in changes:
                yield change
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _check(
    api: ConsulApi,
    services: _QueryLoop[Services],
    records: _QueryLoop[list[KVPair]],
    changed: asyncio.Event,
    hidden: HiddenInstances,
) -> NoReturn:
    while True:
        await asyncio.sleep(CHECK_EVERY)
        if hidden.due:
            changed.set()
        shown = records.index
        _require_risen(api, shown, await api.kv.leaders_index(CHECK_WITHIN))
        await _require_current(api, services)
        await api.token.follow()


async def _fail_ghosts(api: ConsulApi, listing: ConsulListing) -> NoReturn:
    """Takes services out of DNS that pass though their holder's session has ended; leaves those to
    others for which the token lacks the permission."""
    denied: set[ServicePlace] = set()
    while True:
        await asyncio.sleep(GHOSTS_EVERY)
        for place, check in listing.ghosts():
            if place in denied:
                continue
            try:
                await api.services.fail(place, check)
            except StoreDeniedError as error:
                denied.add(place)
                log.info("%s stays in DNS, this token may not change that: %s", place.id, error)
            except StoreUnavailableError as error:
                log.info("%s stays in DNS for now: %s", place.id, error)
            else:
                log.warning(
                    "%s on %s was made critical in Consul: its session has ended, and its agent "
                    "may not tell its servers. Was its token revoked, or has it expired?",
                    place.id,
                    place.node,
                )


async def _require_current(api: ConsulApi, services: _QueryLoop[Services]) -> None:
    """Raises :class:`StoreUnavailableError` where the query for services lags behind the leader.

    Agents of Consul 1.10 and later answer from a copy that is kept by a stream from a server. One
    that hangs brings nothing for up to 40 s, and nothing shows that: other requests may go to
    another server. After a snapshot was restored, queries with a higher index wait on, also in
    earlier versions.
    """
    shown = services.index
    index, empty = await api.services.leaders(empty=services.empty)
    _require_risen(api, shown, index)
    behind = services.index
    if empty or not 0 < behind < index:
        return
    await asyncio.sleep(CHANGE_WITHIN)
    if services.index == behind:
        api.services.streaming = False
        raise StoreUnavailableError(
            api.address.shown,
            f"its agent has brought no change of services for {CHANGE_WITHIN:g} s, though the "
            "leader has some: the server that it follows may hang",
        )


def _require_risen(api: ConsulApi, shown: int, index: int) -> None:
    """Raises :class:`StoreUnavailableError` where the leader's index is below one that it brought:
    a query with the higher one would wait on."""
    if index < shown:
        raise StoreUnavailableError(
            api.address.shown, "its index went backwards: it was reset or restored"
        )


def _is_mass_drop(old: dict[str, Instance], new: dict[str, Instance]) -> bool:
    """Whether more than half are missing at once, as when records are deleted by hand. That is
    rarely intended by each of them, so it is not reported as certain removals."""
    gone = len(old.keys() - new.keys())
    return gone > 1 and gone * 2 > len(old)


def _changes(old: dict[str, Instance], new: dict[str, Instance]) -> list[Change]:
    gone = [Change(id, None) for id in old if id not in new]
    return gone + [Change(id, new[id]) for id in new if old.get(id) != new[id]]
