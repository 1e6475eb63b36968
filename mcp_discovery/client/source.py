"""Where the client reads the list of servers: a facade, or a store without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from mcp_discovery.balancing import RoundRobin
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    InvalidInputError,
    OutdatedRevisionError,
    StoreError,
    StoreUnavailableError,
)
from mcp_discovery.health import utcnow
from mcp_discovery.instance import Instance
from mcp_discovery.query.answer import Arrangement, Found, find, require_key
from mcp_discovery.query.definition import NamedQuery, QueryDefinition, QueryStep
from mcp_discovery.query.query import Query
from mcp_discovery.query.question import Question

if TYPE_CHECKING:
    from mcp_discovery.adapters.catalog import Catalog
    from mcp_discovery.adapters.named_queries import KnownQueries, NamedQueries
    from mcp_discovery.adapters.store import StoreOptions
    from mcp_discovery.adapters.view import Entry
    from mcp_discovery.client.word_search import WordSearch


@dataclass(frozen=True, slots=True)
class Everything:
    """All instances that match the query, by id."""

    instances: Mapping[str, Instance]


@dataclass(frozen=True, slots=True)
class One:
    """One instance as it is now; ``None`` when it is gone or does not match any more."""

    id: str
    instance: Instance | None


@dataclass(frozen=True, slots=True)
class Staleness:
    """Since when the list cannot be updated, and why; ``since`` is ``None`` when it can be."""

    since: datetime | None
    problem: str = ""


News = Everything | One | Staleness
#: Which instances: those that match, or those that a named query finds.
Wanted = Query | NamedQuery


def differences(before: Mapping[str, Instance], after: Mapping[str, Instance]) -> Iterator[One]:
    """What leads from one list to another."""
    for id in before.keys() - after.keys():
        yield One(id, None)
    for id, instance in after.items():
        if before.get(id) != instance:
            yield One(id, instance)


@dataclass(frozen=True, slots=True)
class ServerChange:
    """One change of the list.

    ``added``, ``changed``, ``removed``: of the instance ``id``, which was ``before`` and is
    ``instance``. ``stale`` since ``since`` because of ``problem``: what is known may be old;
    ``fresh``: it is not any more.
    """

    kind: Literal["added", "changed", "removed", "stale", "fresh"]
    id: str | None = None
    instance: Instance | None = None
    before: Instance | None = None
    since: datetime | None = None
    problem: str = ""


async def changes(watch: AsyncGenerator[News, None]) -> AsyncGenerator[ServerChange, None]:
    """The differences between the states that ``watch`` yields, which is closed at the end."""
    known: dict[str, Instance] = {}
    stale = False
    async with aclosing(watch):
        async for news in watch:
            match news:
                case One(id, instance):
                    found = {id: instance}
                case Everything(instances):
                    found = {**dict.fromkeys(known), **instances}
                case Staleness(since, problem):
                    if (since is not None) != stale:
                        stale = since is not None
                        yield ServerChange(
                            "stale" if stale else "fresh", since=since, problem=problem
                        )
                    continue
            for id, instance in found.items():
                before = known.pop(id, None)
                if instance is not None:
                    known[id] = instance
                if before is None and instance is not None:
                    yield ServerChange("added", id, instance)
                elif before != instance:
                    yield ServerChange("changed" if instance else "removed", id, instance, before)


class RankedTool(NamedTuple):
    """A tool that was searched for: its own name, the name of its server, and why in one line."""

    name: str
    server: str
    why: str


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How one call went: ``latency`` in seconds; ``error`` is a sentence without secrets."""

    instance: str
    tool: str
    success: bool
    latency: float
    error: str | None = None


class Source(Protocol):
    """A source of the list of servers.

    ``StoreUnavailableError`` and ``StoreDeniedError`` are raised by every method but :meth:`watch`
    after its first :class:`Everything`.
    """

    async def open(self) -> None:
        """Connects, where the source keeps a connection."""
        return

    async def servers(self, wanted: Wanted) -> list[Instance]:
        """The instances that match ``wanted`` now, by name and id, or in a named query's order.

        Raises :class:`~mcp_discovery.errors.InvalidInputError` for a name that is none.
        """

    def watch(self, wanted: Wanted) -> AsyncGenerator[News, None]:
        """First :class:`Everything`, then each change, without end. What a named query finds is
        what it finds in its zone, where that is anything.

        Raises before the first news where the list cannot be read. Afterwards :class:`Staleness`
        says that the source cannot be reached, and that it can be again.
        """

    async def document(self, digest: str) -> CapabilityDocument:
        """The document; raises :class:`~mcp_discovery.errors.DocumentNotFoundError`."""

    async def find(self, question: Question, within: Query | None) -> Sequence[RankedTool]:
        """The tools that ``question`` finds, whatever the health of their servers, the best
        first; of those that have one name, the best. Of other servers than those that ``within``
        selects there need be none. Not every source has a search."""
        raise InvalidInputError(f"{self!r} has no search; give the URL of a facade or a store")

    async def report(self, outcomes: Sequence[CallOutcome]) -> None:
        """Reports how calls went, where the source takes reports."""
        return

    async def close(self) -> None:
        """Closes every connection that is the source's own."""
        return


#: Seconds after which a named query that is followed is asked anew at the latest.
_ASK_AGAIN = 1.0


def _is_usable(instance: Instance) -> bool:
    # Imported here: it brings aiohttp, which who asks a facade does not need.
    from mcp_discovery.probe.verdict import is_usable

    return is_usable(instance.health)


def _load(entry: Entry) -> float | None:
    load = entry.instance.load
    return None if load is None else load.ratio


class CatalogSource(Source):
    """A catalog that its owner runs in this process, such as a facade's."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._queries: NamedQueries | None = None
        self._rotation = RoundRobin()
        self._search: WordSearch | None = None
        self.name = catalog.store.url

    async def open(self) -> None:
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

    async def servers(self, wanted: Wanted) -> list[Instance]:
        if isinstance(wanted, Query):
            return [entry.instance for entry in self._catalog.view.select(wanted)]
        _, definition, found = await self._found(wanted)
        arrangement: Arrangement[Entry] = Arrangement(_is_usable, _load, self._rotation)
        order = await arrangement.answer(definition, found, wanted.name, wanted.key)
        return [entry.instance for entry in order[: definition.limit]]

    async def document(self, digest: str) -> CapabilityDocument:
        return await self._catalog.document(digest)

    async def find(self, question: Question, within: Query | None) -> Sequence[RankedTool]:
        return await self._words().tools(question, within)

    async def _found(
        self, wanted: NamedQuery
    ) -> tuple[KnownQueries, QueryDefinition, Found[Entry]]:
        """What a named query finds now, evaluated here as a facade does."""
        from mcp_discovery.adapters.named_queries import NamedQueries

        if self._queries is None:
            self._queries = NamedQueries(self._catalog.store)
        known = await self._queries.current(wanted.name)
        definition = known[wanted.name]
        require_key(definition.strategy, wanted.key)
        return known, definition, await find(definition, self._matching, wanted.zone)

    async def _matching(self, step: QueryStep) -> Sequence[Entry]:
        if step.q is None:
            return self._catalog.view.select(step.query)
        return await self._words().found(step)

    def _words(self) -> WordSearch:
        from mcp_discovery.client.word_search import WordSearch

        if self._search is None:
            self._search = WordSearch(self._catalog)
        return self._search

    async def _watch_named(self, wanted: NamedQuery) -> AsyncGenerator[News, None]:
        listed: dict[str, Instance] | None = None
        told: Staleness | None = None
        while True:
            view = self._catalog.view
            try:
                known, definition, found = await self._found(wanted)
            except (StoreError, InvalidInputError) as error:
                if listed is None:
                    raise
                state = Staleness(utcnow(), str(error))
            else:
                chosen = (found.near or found.others)[: definition.limit]
                instances = {entry.id: entry.instance for entry in chosen}
                if listed is None:
                    yield Everything(instances)
                else:
                    for one in differences(listed, instances):
                        yield one
                listed = instances
                since = view.stale_since or known.stale_since
                state = Staleness(since, view.problem or known.problem or "")
            if told is None or told.since != state.since:
                told = state
                yield state
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_AGAIN):
                    await self._catalog.after(view)

    async def watch(self, wanted: Wanted) -> AsyncGenerator[News, None]:
        if isinstance(wanted, NamedQuery):
            async with aclosing(self._watch_named(wanted)) as found:
                async for news in found:
                    yield news
        assert isinstance(wanted, Query)
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
        await self._stack.enter_async_context(self._store)
        await self._stack.enter_async_context(self._catalog)
        await super().open()

    async def close(self) -> None:
        await self._stack.aclose()
