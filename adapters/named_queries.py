"""The named queries of a store as they are known here: read again while they are asked for.

Whoever asks is answered from memory. While anybody does, the store is read every second, so that a
change is known everywhere within about two; when nobody has asked for a minute, it is not read at
all. What was known last is used while the store is away, and is marked as that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import ValidationError

from mcp_discovery.adapters.store import Store, StoredQuery, without_queries
from mcp_discovery.errors import (
    InvalidInputError,
    StoreError,
    UnknownQueryError,
)
from mcp_discovery.health import rfc3339, utcnow
from mcp_discovery.nearest import all_nearest
from mcp_discovery.query.definition import MAX_QUERIES, QueryDefinition

log = logging.getLogger(__name__)

#: Seconds between two reads while anybody asks; for how long after the last one that goes on.
INTERVAL, IN_USE = 1.0, 60.0
#: Seconds for which what was read counts as new, and for which a read is waited for after that.
_FRESH, _PATIENCE = 2 * INTERVAL, 1.0
#: … and where a name is asked for that was not among it.
_NEWS = 0.1
#: How many definitions are parsed without a pause: a large one takes half a millisecond.
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class KnownQueries:
    """All named queries as of one reading; ``unreadable`` says of those that are none why.

    ``stale_since`` is when they were read last, where the store cannot be read now: ``problem``.
    """

    definitions: Mapping[str, QueryDefinition] = field(default_factory=dict)
    stored: Mapping[str, StoredQuery] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    stale_since: datetime | None = None
    problem: str | None = None

    def __getitem__(self, name: str) -> QueryDefinition:
        """The definition of that name.

        Raises :class:`UnknownQueryError`, and :class:`StoreError` for one that another program has
        written and that cannot be read.
        """
        if (found := self.definitions.get(name)) is not None:
            return found
        if name in self.unreadable:  # why, it is not for everybody to know
            raise StoreError("the store", f"its query {name!r} cannot be read; PUT it anew")
        raise UnknownQueryError(name, all_nearest(name, self.definitions))

    @property
    def caveats(self) -> dict[str, str]:
        """What is said of definitions that may be old."""
        if self.stale_since is None:
            return {}
        since, why = rfc3339(self.stale_since), self.problem or ""
        return {"definitionsStaleSince": since, "definitionsProblem": why}


class NamedQueries:
    """The named queries of ``store``, kept in step with it while :meth:`run` runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: KnownQueries | None = None
        self._read_at = utcnow()
        self._tried = self._asked = -IN_USE
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()

    async def latest(self) -> KnownQueries:
        """What the store has now; raises what :meth:`mcp_discovery.adapters.store.Store.queries`
        does."""
        return await self._read(first=True)

    async def current(self, name: str | None = None) -> KnownQueries:
        """What is known now, at most some two seconds old unless it says so; of a ``name`` that is
        not known, at most a tenth of a second: it may be kept just now by another.

        Raises :class:`~mcp_discovery.errors.StoreError` where nothing is known yet and the store
        cannot be read, and :class:`~mcp_discovery.errors.StoreUnsupportedError`.
        """
        self._asked = time.monotonic()
        self._wanted.set()
        known = self._known
        if known is None:
            return await self._read(first=True)
        age = self._asked - self._tried
        if age < (_FRESH if name is None or name in known.stored else _NEWS):
            return known
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._read()
        except TimeoutError:
            self._tried = time.monotonic()
            return self._take(self._stale(known, f"no answer within {_PATIENCE:g} s"))

    async def after(self, known: KnownQueries) -> KnownQueries:
        """Waits until other queries than ``known`` are known; whoever waits is one that asks."""
        while self._known is known:
            self._asked = time.monotonic()
            self._wanted.set()
            try:
                async with asyncio.timeout(IN_USE / 2):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return await self.current()

    async def put(
        self, name: str, definition: QueryDefinition | None, *, expected: str | None = None
    ) -> str | None:
        """Keeps ``definition``, or removes what is kept under ``name``; see
        :meth:`mcp_discovery.adapters.store.Store.put_query`. What is known here has it on return.

        Raises what that does, and :class:`InvalidInputError` where the store, as it was read last,
        has too many.
        """
        self._require_supported()
        known = (self._known or await self.latest()).stored
        if definition is not None and name not in known and len(known) >= MAX_QUERIES:
            raise InvalidInputError(
                f"the store keeps {MAX_QUERIES:,} queries, which is the most; remove one first"
            )
        data = None if definition is None else definition.encode()
        version = await self._store.put_query(name, data, expected=expected)
        await self._read()
        return version

    async def run(self) -> None:
        """Reads the store again while anybody asks, for ever."""
        while True:
            await self._wanted.wait()
            if time.monotonic() - self._asked > IN_USE:
                self._wanted.clear()
                continue
            try:
                await self._read()
            except Exception:  # the guard that keeps them in step
                log.exception("reading named queries failed in a way it must not")
            await asyncio.sleep(INTERVAL)

    async def _read(self, *, first: bool = False) -> KnownQueries:
        """Reads the store; ``first``: raises where that fails, whatever was known."""
        self._require_supported()
        async with self._turn:
            try:
                stored = await self._store.queries()
            except StoreError as error:
                if self._known is None or first:
                    raise
                found = self._stale(self._known, str(error))
            else:
                self._read_at = utcnow()
                found = await self._parsed(stored)
            finally:
                self._tried = time.monotonic()
            return self._take(found)

    def _take(self, found: KnownQueries) -> KnownQueries:
        """What is known from now on: the same object for as long as it is the same."""
        before = self._known
        if before == found:
            return before
        if found.problem is not None and (before is None or before.problem is None):
            log.warning("answering by the last known queries: %s", found.problem)
        self._known = found
        self._changed.set()
        self._changed = asyncio.Event()
        return found

    async def _parsed(self, stored: Mapping[str, StoredQuery]) -> KnownQueries:
        definitions: dict[str, QueryDefinition] = {}
        unreadable: dict[str, str] = {}
        before = self._known or KnownQueries()
        taken = dict(sorted(stored.items())[: 2 * MAX_QUERIES])
        for name, each in taken.items():
            if name in before.definitions and before.stored.get(name) == each:
                definitions[name] = before.definitions[name]
                continue
            if (len(definitions) + len(unreadable)) % _AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                definitions[name] = QueryDefinition.decode(each.definition)
            except ValidationError as error:
                unreadable[name] = str(error.errors()[0]["msg"])
            except ValueError as error:
                unreadable[name] = str(error)
        return KnownQueries(definitions, taken, unreadable)

    def _stale(self, known: KnownQueries, problem: str) -> KnownQueries:
        since = known.stale_since or self._read_at
        return replace(known, stale_since=since, problem=problem)

    def _require_supported(self) -> None:
        """Raises :class:`StoreUnsupportedError` for the store of another distribution that has no
        such method, because it is of before."""
        if getattr(self._store, "queries", None) is None:
            raise without_queries(self._store.url)
