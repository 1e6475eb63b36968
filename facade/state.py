"""The parts of one facade that registering an entry needs, whichever API it comes by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.named_queries import NamedQueries
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.ownership import NameOwners
from mcp_discovery.facade.documents.documents import Documents
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.registration.leased import LeasedRegistrations
from mcp_discovery.facade.registration.posted_entries import IdLocks, PostedEntries
from mcp_discovery.facade.servers.current_list import current_view, entry_in
from mcp_discovery.facade.usage.usage import Usage


@dataclass(frozen=True, slots=True)
class Facade:
    """The whole list, and the parts that change it; what shows the list takes
    :func:`mcp_discovery.facade.access.parts.parts_of` instead."""

    catalog: Catalog
    documents: Documents
    leased: LeasedRegistrations
    posted: PostedEntries
    locks: IdLocks
    options: FacadeOptions
    usage: Usage
    missed: MissedInstances
    names: NameOwners
    queries: NamedQueries

    def view(self) -> View:
        """The list as it is now; raises :class:`ProblemError` (503) until there is a first one."""
        return current_view(self.catalog)

    def entry(self, id: str) -> Entry:
        """One instance, whatever its health; raises :class:`ProblemError` (404)."""
        return entry_in(self.view(), id)

    async def settle(self, id: str, shown: Callable[[Entry | None], bool]) -> None:
        """Waits, for a bounded time, until the list shows the change that was just written.

        A client that writes and then reads finds what it wrote. It is no error if this takes
        longer: the change is in the store.
        """
        if not self.catalog.is_ready or self.catalog.view.stale_since is not None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.settle):
                while not shown((view := self.catalog.view).entries.get(id)):
                    await self.catalog.after(view)


FACADE = web.AppKey("facade", Facade)


def facade_of(request: web.Request) -> Facade:
    """The facade that answers ``request``."""
    return request.app[FACADE]
