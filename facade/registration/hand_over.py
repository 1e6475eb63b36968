"""Which facade keeps a posted entry registered, and how one takes it over from another."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Set
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.store import Snapshot
from mcp_discovery.adapters.tombstone import is_tombstone
from mcp_discovery.adapters.view import Entry
from mcp_discovery.errors import (
    DuplicateInstanceError,
    OutdatedRevisionError,
    RegistrationLostError,
    StoreError,
    StoreUnavailableError,
)
from mcp_discovery.facade.registration.posted_entry import PostedEntry
from mcp_discovery.instance import Holder, Instance
from mcp_discovery.registrant.registrar import TakenOverError

if TYPE_CHECKING:
    from mcp_discovery.facade.registration.posted_entries import PostedEntries

log = logging.getLogger(__name__)

#: How often a take-over is tried anew when other facades do the same at the same time.
_ATTEMPTS = 5
#: Seconds that two facades which were in each other's way wait at most, so that they part.
_CONFLICT_JITTER = 0.3
#: Seconds that reading the whole store once may take.
_STORE_TIMEOUT = 15.0
#: Seconds between two passes over the whole list.
_FULL_PASS_EVERY = 60.0
#: Facades that see the same orphan wait up to so many seconds, so that they do not all probe it.
_ADOPTION_JITTER = 2.0
#: How many orphans are adopted at the same time.
_ADOPTIONS_AT_ONCE = 16


def is_posted(entry: Entry) -> bool:
    """Whether a facade registered ``entry``."""
    return entry.instance.lease.holder.by == "facade"


@dataclass(eq=False)
class HandOver:
    """Who holds an instance, by the list and by the store itself; ``own`` is this facade.

    ``patience`` is how many seconds the list may be behind the store.
    """

    catalog: Catalog
    own: Holder
    patience: float

    def __post_init__(self) -> None:
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")  # monotonic seconds
        self._foreign: Mapping[str, Instance] = {}

    # -- taking over -----------------------------------------------------------------------------

    def former_holder(self, id: str) -> str | None:
        """The id of the other facade that holds ``id`` by the list, or of the tombstone there."""
        view = self.catalog.view
        if (removed := view.removed.get(id)) is not None:
            return removed.lease.holder.id
        entry = view.entries.get(id)
        if entry is None or not is_posted(entry):
            return None
        holder = entry.instance.lease.holder.id
        return None if holder == self.own.id else holder

    async def take_over(self, id: str, make: Callable[[Entry | None], PostedEntry]) -> PostedEntry:
        """What ``make`` makes of the entry in the list, started.

        Where the list was behind, it is tried again as soon as the list shows who holds ``id``.
        Raises what ``make`` and :meth:`PostedEntry.start` raise.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            former = self.former_holder(id)
            posted = make(self.catalog.view.entries.get(id))
            try:
                await posted.start()
            except RegistrationLostError:  # another wrote the same at the same moment
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, _CONFLICT_JITTER))
            except DuplicateInstanceError:
                if attempt == _ATTEMPTS or not await self._shows_another(id, former):
                    raise
            else:
                return posted
        raise AssertionError("the last attempt returns or raises")

    async def _shows_another(self, id: str, former: str | None) -> bool:
        """Whether the list shows soon that another facade than ``former`` holds ``id``."""
        try:
            async with asyncio.timeout(self.patience):
                while self.former_holder(id) in (None, former):
                    await self.catalog.after(self.catalog.view)
        except TimeoutError:
            return False
        return True

    # -- being taken over ------------------------------------------------------------------------

    async def require_own(self, id: str) -> None:
        """Raises :class:`TakenOverError` where another holds ``id`` in the store, or removed it."""
        found = await self.foreign_instance(id)
        if found is not None:
            what = "removed by" if is_tombstone(found.record) else "taken over by"
            raise TakenOverError(id, f"it was {what} {found.lease.holder}")

    async def foreign_instance(self, id: str) -> Instance | None:
        """What stands for ``id`` in the store when it is not this facade's: an instance that
        another holds, or a tombstone. ``None`` when it is this facade's, or nothing.

        The store itself is read, because the list may be behind what was just written. Callers at
        the same time share a reading, so that a store which lost a thousand entries is not read a
        thousand times. Raises :class:`~mcp_discovery.errors.StoreError`.
        """
        called = time.monotonic()
        async with self._reading:
            if self._read_at < called:
                began = time.monotonic()
                self._foreign = await self._read_foreign()
                self._read_at = began
        return self._foreign.get(id)

    async def _read_foreign(self) -> Mapping[str, Instance]:
        try:
            async with (
                asyncio.timeout(_STORE_TIMEOUT),
                aclosing(self.catalog.store.watch()) as items,
            ):
                async for first in items:
                    assert isinstance(first, Snapshot)  # as the seam says
                    return {
                        id: instance
                        for id, instance in first.instances.items()
                        if instance.lease.holder.id != self.own.id
                    }
        except TimeoutError as error:
            raise StoreUnavailableError(
                self.catalog.store.url, f"gave no whole list within {_STORE_TIMEOUT:g} s"
            ) from error
        raise StoreUnavailableError(self.catalog.store.url, "its watch ended before the first list")


# -- following the list --------------------------------------------------------------------------


async def follow(posted: PostedEntries, catalog: Catalog) -> None:
    """For ever: adopts what nobody keeps any more, lets go of what another facade has taken."""
    await catalog.ready()
    view = catalog.view
    suspects: set[str] = set(view.entries)
    while True:
        try:
            if catalog.view.stale_since is None:
                for id in [id for id in suspects if posted.seems_taken(id)]:
                    try:
                        await posted.let_go(id)
                    except StoreError as error:
                        seems = "seems to be another's now, which is not certain yet"
                        log.info("%s %s: %s", id, seems, error)
                await _adopt_all(posted, catalog, suspects)
        except Exception:  # the guard that keeps adoption alive
            log.exception("adopting what was posted failed in a way it must not")
        try:
            async with asyncio.timeout(_FULL_PASS_EVERY):
                await catalog.after(view)
            suspects = {event.id for event in catalog.since(view.epoch, view.revision)}
        except (TimeoutError, OutdatedRevisionError):
            suspects = set(catalog.view.entries) | set(catalog.view.removed)
        view = catalog.view


async def _adopt_all(posted: PostedEntries, catalog: Catalog, suspects: Set[str]) -> None:
    view = catalog.view
    orphans = [
        entry
        for entry in map(view.entries.get, suspects)
        if entry is not None and posted.adoptable(entry)
    ]
    if not orphans:
        return
    if any(entry.instance.lease.holder.id != posted.holder.id for entry in orphans):
        await asyncio.sleep(random.uniform(0, _ADOPTION_JITTER))
    few = asyncio.Semaphore(_ADOPTIONS_AT_ONCE)

    async def adopt(id: str) -> None:
        async with few:
            await posted.adopt(id)

    async with asyncio.TaskGroup() as group:
        for entry in orphans:
            group.create_task(adopt(entry.id))
