"""What the handlers of one facade share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.balancing import Rotation
from mcp_discovery.facade.documents.cache import Documents
from mcp_discovery.facade.http.metrics import Metrics
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.registration.id_locks import IdLocks
from mcp_discovery.facade.registration.leased import LeasedRegistrations
from mcp_discovery.facade.registration.posted_entries import PostedEntries
from mcp_discovery.facade.servers.events import EventStreams
from mcp_discovery.facade.servers.long_poll import LongPolls
from mcp_discovery.facade.servers.results import ServerLists
from mcp_discovery.facade.usage.usage import Usage
from mcp_discovery.facade.websocket.sockets import Sockets


@dataclass(frozen=True, slots=True)
class Facade:
    """The parts of one facade; ``started`` is in seconds of the monotonic clock."""

    catalog: Catalog
    documents: Documents
    leased: LeasedRegistrations
    posted: PostedEntries
    streams: EventStreams
    metrics: Metrics
    locks: IdLocks
    options: FacadeOptions
    usage: Usage
    lists: ServerLists
    polls: LongPolls
    sockets: Sockets
    rotation: Rotation = field(default_factory=Rotation)
    started: float = field(default_factory=time.monotonic)

    def view(self) -> View:
        """The list as it is now; raises :class:`ProblemError` (503) until there is a first one."""
        if not self.catalog.is_ready:
            raise not_ready(self.catalog)
        return self.catalog.view

    def entry(self, id: str) -> Entry:
        """One instance, whatever its health; raises :class:`ProblemError` (404)."""
        entry = self.view().entries.get(id)
        if entry is None:
            raise unknown(id)
        return entry

    async def settle(self, id: str, shown: Callable[[Entry | None], bool]) -> None:
        """Waits, for a bounded time, until the list shows of ``id`` what was just written.

        So that whoever writes and then reads finds what was written. That it takes longer is no
        error: it is written.
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


def unknown(id: str) -> ProblemError:
    """There is no such server."""
    detail = f"there is no server with id {id[:100]!r}; GET /servers?status=all lists them"
    return ProblemError(404, "unknown-server", detail, id=id[:100])


def not_ready(catalog: Catalog) -> ProblemError:
    """The store has not told its first whole list yet."""
    why = catalog.view.problem or "it has not answered yet"
    detail = f"the first list from {catalog.store.url} has not come, try again soon: {why}"
    return ProblemError(503, "not-ready", detail)
