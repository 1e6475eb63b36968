"""A store as the client's source, with no facade: the catalog runs in the agent's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from mcp_discovery.client.source import Everything, News, One, Outcome, Selection, Staleness
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import InvalidInputError, OutdatedRevisionError, StoreUnavailableError
from mcp_discovery.health import Status
from mcp_discovery.instance import Instance

if TYPE_CHECKING:
    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.query.query import Query


class CatalogSource:
    """Reads a catalog that somebody else keeps, such as a facade's own. See :class:`Source`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.name = catalog.store.url

    async def open(self) -> None:
        """Waits until the whole list is there; raises StoreUnavailable when it is not to be had."""
        catalog = self._catalog
        ready = asyncio.ensure_future(catalog.ready())
        problem = asyncio.ensure_future(catalog.after(catalog.view))
        try:
            await asyncio.wait({ready, problem}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            problem.cancel()
        if not catalog.is_ready:
            raise StoreUnavailableError(self.name, catalog.view.problem or "it gave no list")

    async def servers(self, wanted: Selection) -> list[Instance]:
        """The instances of ``wanted``, by name and id."""
        return [entry.instance for entry in self._catalog.view.select(_query(wanted))]

    async def document(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``."""
        return await self._catalog.document(digest)

    async def report(self, outcomes: Sequence[Outcome]) -> None:
        """A store keeps no figures of calls."""

    async def close(self) -> None:
        """The catalog is its owner's."""

    async def watch(self, wanted: Selection) -> AsyncGenerator[News, None]:
        """The catalog's changes, as far as they are of ``wanted``."""
        query = _query(wanted)
        view = self._catalog.view
        yield Everything({entry.id: entry.instance for entry in view.select(query)})
        yield Staleness(view.stale_since, view.problem or "")
        while True:
            before, view = view, await self._catalog.after(view)
            try:
                events = self._catalog.since(before.epoch, before.revision)
            except OutdatedRevisionError:
                yield Everything({entry.id: entry.instance for entry in view.select(query)})
                events = []
            for event in events:
                if event.entry is not None and query.matches(event.entry.instance):
                    yield One(event.id, event.entry.instance)
                elif event.before is not None and query.matches(event.before.instance):
                    yield One(event.id, None)
            if before.stale_since != view.stale_since:
                yield Staleness(view.stale_since, view.problem or "")


class StoreSource(CatalogSource):
    """Watches a store with a catalog of its own."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        from mcp_discovery.adapters import open_store
        from mcp_discovery.adapters.catalog import Catalog

        self._store = open_store(url, options)
        self._stack = AsyncExitStack()
        super().__init__(Catalog(self._store))

    async def open(self) -> None:
        """Connects and waits for the whole list."""
        await self._stack.enter_async_context(self._store)
        await self._stack.enter_async_context(self._catalog)
        await super().open()

    async def close(self) -> None:
        """Ends the watch and closes the store."""
        await self._stack.aclose()


def _query(wanted: Selection) -> Query:
    from mcp_discovery.query.query import Query
    from mcp_discovery.query.versions import VersionRange

    try:
        versions = frozenset(map(VersionRange.parse, wanted.versions))
    except ValueError as error:
        raise InvalidInputError(f"version: {error}; write for example ^1.2 or >=1.2,<2") from error
    return Query(
        tags=frozenset(tag.lower() for tag in wanted.tags),
        any_tag=wanted.match != "all",
        capabilities=frozenset(wanted.capabilities),
        statuses=frozenset(map(Status, wanted.statuses)),
        names=frozenset(wanted.names),
        transports=frozenset(wanted.transports),
        tools=frozenset(wanted.tools),
        versions=versions,
        zones=frozenset(wanted.zones),
        owners=frozenset(wanted.owners),
    )
