"""Where a history is kept, as it is written and asked; and the one in memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Literal, Protocol

from cachetools import LRUCache

from mcp_discovery.facade.history.change import Period, Span, StateChange
from mcp_discovery.facade.http.pauses import sliced

#: For how many seconds whoever writes is taken to be alive.
LEAD = 15.0
#: How many periods are read for one answer at most, the latest ones.
MOST_READ = 20_000
#: Which periods are asked for: those of all instances of a name, or of one instance.
Of = Literal["server", "instance"]


@dataclass(frozen=True, slots=True)
class HistoryBounds:
    """How much is kept: for how many seconds, how many periods of one instance and in all, and how
    many bytes of documents, compressed."""

    keep: float
    each: int
    total: int
    document_bytes: int


#: What a store in a database keeps unless told otherwise, and what memory does.
STORED = HistoryBounds(90 * 86400.0, 1000, 500_000, 256 * 2**20)
IN_MEMORY = HistoryBounds(7 * 86400.0, 100, 20_000, 16 * 2**20)


@dataclass(frozen=True, slots=True)
class Lead:
    """Who writes: ``mine`` or not, and up to when all is written."""

    mine: bool
    until: int


class HistoryStore(Protocol):
    """Keeps periods, spans and documents. Of several facades over one, one writes at a time.

    All methods raise :class:`~mcp_discovery.facade.access.audit.journal.AuditLogError` while it
    is away. Moments are microseconds of POSIX time.
    """

    kind: Literal["store", "memory"]
    bounds: HistoryBounds

    async def lead(self, watcher: str, now: int) -> Lead:
        """Takes the lead for ``watcher``, unless another has it."""

    async def listed(self) -> Mapping[str, Period]:
        """The periods that have no end, by their instances."""

    async def write(self, watcher: str, changes: Sequence[StateChange], span: Span) -> bool:
        """Writes ``changes``, which are in their order, and that the list was watched in ``span``;
        ``False``, and nothing, where another has the lead. May be repeated."""

    async def leave(self, watcher: str) -> None:
        """Gives the lead up."""

    async def prune(self, now: int) -> int:
        """Removes what is too old, or too much; returns how many periods."""

    async def spans(self) -> Sequence[Span]:
        """When the list was watched, oldest first."""

    async def cut(self) -> int:
        """Up to when periods were removed since there were too many in all; 0: none were."""

    async def periods(self, of: Of, key: str, since: int, until: int) -> Sequence[Period]:
        """The latest :data:`MOST_READ` that fall into that time, oldest first."""

    async def kept(self, keys: Iterable[str]) -> set[str]:
        """Those of the documents that are kept."""

    async def put(self, documents: Mapping[str, bytes], now: int) -> None:
        """Keeps documents by their keys, compressed with gzip."""

    async def document(self, key: str) -> bytes | None:
        """A document, compressed; ``None`` where it is not kept (any more)."""


class MemoryStore:
    """A small history of one process."""

    kind: Literal["store", "memory"] = "memory"

    def __init__(self, bounds: HistoryBounds = IN_MEMORY) -> None:
        self.bounds = bounds
        self._periods: dict[str, deque[Period]] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._total = self._cut = 0
        self._spans: deque[Span] = deque(maxlen=1000)
        self._documents: LRUCache[str, bytes] = LRUCache(bounds.document_bytes, getsizeof=len)

    async def lead(self, watcher: str, now: int) -> Lead:
        """See :meth:`HistoryStore.lead`."""
        return Lead(True, self._spans[-1].ended if self._spans else 0)

    async def listed(self) -> Mapping[str, Period]:
        """See :meth:`HistoryStore.listed`."""
        lasts = ((id, known[-1]) for id, known in self._periods.items())
        return {id: last for id, last in lasts if last.until is None}

    async def write(self, watcher: str, changes: Sequence[StateChange], span: Span) -> bool:
        """See :meth:`HistoryStore.write`."""
        for each in changes:
            known = self._periods.setdefault(each.instance, deque())
            if known and known[-1].until is None:
                known[-1] = replace(known[-1], until=each.at)
            if each.state is not None:
                known.append(Period(each.instance, each.at, None, each.state))
                self._names[each.state.name].add(each.instance)
                self._total += 1
            if len(known) > self.bounds.each or not known:
                self._drop_first(each.instance)
        if self._spans and self._spans[-1].began == span.began:
            self._spans[-1] = span
        else:
            self._spans.append(span)
        return True

    async def leave(self, watcher: str) -> None:
        """See :meth:`HistoryStore.leave`."""

    async def prune(self, now: int) -> int:
        """See :meth:`HistoryStore.prune`."""
        ended = (each for known in self._periods.values() for each in known if each.until)
        order = sorted((each.until or 0, each.instance) for each in ended)
        before = now - round(self.bounds.keep * 1e6)
        removed = 0
        for until, id in order:
            if until >= before and self._total <= self.bounds.total:
                break
            if until >= before:
                self._cut = max(self._cut, until)
            self._drop_first(id)
            removed += 1
        return removed

    def _drop_first(self, id: str) -> None:
        known = self._periods[id]
        if known:
            self._total -= 1
            name = known.popleft().state.name
            if all(each.state.name != name for each in known):
                self._names[name].discard(id)
                if not self._names[name]:
                    del self._names[name]
        if not known:
            del self._periods[id]

    async def spans(self) -> Sequence[Span]:
        """See :meth:`HistoryStore.spans`."""
        return tuple(self._spans)

    async def cut(self) -> int:
        """See :meth:`HistoryStore.cut`."""
        return self._cut

    async def periods(self, of: Of, key: str, since: int, until: int) -> Sequence[Period]:
        """See :meth:`HistoryStore.periods`."""
        ids = self._names.get(key, ()) if of == "server" else (key,)
        found: list[Period] = []
        async for id in sliced(tuple(ids)):
            found += [
                each
                for each in self._periods.get(id, ())
                if each.at < until and (each.until is None or each.until > since)
                if of == "instance" or each.state.name == key
            ]
        found = await asyncio.to_thread(sorted, found, key=attrgetter("at"))
        return found[-MOST_READ:]

    async def kept(self, keys: Iterable[str]) -> set[str]:
        """See :meth:`HistoryStore.kept`."""
        return {key for key in keys if key in self._documents}

    async def put(self, documents: Mapping[str, bytes], now: int) -> None:
        """See :meth:`HistoryStore.put`."""
        for key, content in documents.items():
            if len(content) <= self.bounds.document_bytes // 4:
                self._documents[key] = content

    async def document(self, key: str) -> bytes | None:
        """See :meth:`HistoryStore.document`."""
        return self._documents.get(key)
