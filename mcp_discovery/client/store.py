"""A store as the client's source, without a facade: the catalog runs in the agent's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from mcp_discovery.client.source import CallOutcome, Everything, News, One, Staleness
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import OutdatedRevisionError, StoreUnavailableError
from mcp_discovery.instance import Instance

if TYPE_CHECKING:
    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.query.query import Query


class CatalogSource:
    """Reads a catalog that its owner runs, such as a facade's. See :class:`Source`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.name = catalog.store.url

    async def open(self) -> None:
        """Waits for the whole list; raises ``StoreUnavailableError`` when it cannot be read."""
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

    async def servers(self, wanted: Query) -> list[Instance]:
        """The instances that match ``wanted``, by name and id."""
        return [entry.instance for entry in self._catalog.view.select(wanted)]

    async def document(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``."""
        return await self._catalog.document(digest)

    async def report(self, outcomes: Sequence[CallOutcome]) -> None:
        """Does nothing: a store takes no reports."""

    async def close(self) -> None:
        """Does nothing: the owner of the catalog closes it."""

    async def watch(self, wanted: Query) -> AsyncGenerator[News, None]:
        """The catalog's changes that concern ``wanted``."""
        view = self._catalog.view
        yield Everything({entry.id: entry.instance for entry in view.select(wanted)})
        yield Staleness(view.stale_since, view.problem or "")
        while True:
            before, view = view, await self._catalog.after(view)
            try:
                events = self._catalog.since(before.epoch, before.revision)
            except OutdatedRevisionError:
                yield Everything({entry.id: entry.instance for entry in view.select(wanted)})
                events = []
            for event in events:
                if event.entry is not None and wanted.matches(event.entry.instance):
                    yield One(event.id, event.entry.instance)
                elif event.before is not None and wanted.matches(event.before.instance):
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
