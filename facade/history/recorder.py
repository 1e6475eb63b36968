"""Writes what becomes of the instances of a list into a history, in batches and off the list's way.

While it does not know what happens (it is not running, the list is stale, too much waits for a
store that is away) nobody watched, and the spans that it writes say so. Of several facades over one
store one writes; another takes over when that ends, and then compares the list with what is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import View
from mcp_discovery.facade.access.audit.journal import AuditLogError
from mcp_discovery.facade.history.change import Span, State, StateChange, micros
from mcp_discovery.facade.history.documents import DocumentKeeper
from mcp_discovery.facade.history.store import HistoryStore
from mcp_discovery.facade.history.watcher import ended, new_watcher
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.health import Status, utcnow

log = logging.getLogger(__name__)

#: Seconds for which changes lie there, to be written with what comes meanwhile; and those after
#: which it is written that the list is still watched.
_LINGER, _BEAT = 0.5, 5.0
#: How many changes are written at once, and wait in memory, at most.
_GROUP, _MOST = 250, 20_000
#: Seconds until a store that is away is tried again, at first and at most.
_RETRY, _LONGEST_RETRY = 0.25, 5.0
#: Seconds at most that are left to what waits when the facade ends.
_LAST = 5.0
#: By how many seconds a facade may see a change later than another.
_LATE = 2.0
#: Seconds between two removals of what is too old or too much; and after how many changes, or bytes
#: of documents, one is due as well.
_PRUNE_EVERY, _PRUNE_AFTER, _PRUNE_BYTES = 3600.0, 5000, 64 * 2**20


class Recorder:
    """Records what becomes of the instances of ``catalog`` in ``store``."""

    def __init__(self, catalog: LiveList, store: HistoryStore) -> None:
        self._catalog = catalog
        self.store = store
        self._watcher = new_watcher()
        self._events: deque[CatalogEvent] = deque()
        self._pending: deque[StateChange] = deque()
        #: What happened while another writes, since that one has written last.
        self._while_another: deque[CatalogEvent] = deque()
        self._documents = DocumentKeeper(catalog, store)
        self._last_at: dict[str, int] = {}
        #: The time of which all that happened is in the store or waits here; ``None`` while this
        #: one does not write.
        self._span: Span | None = None
        #: Since when nothing was missed of the list, in this process.
        self._live_since: int | None = None
        #: Whether it was found out once who writes.
        self._tried = False
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._lingering = self._closing = False
        #: How many changes were written since the last removal.
        self._written_since = 0
        self._pruned_at = time.monotonic()
        #: Why it cannot be written now.
        self.trouble: str | None = None
        #: How many changes were written, and did not fit into memory.
        self.written = self.dropped = 0

    def __len__(self) -> int:
        """How many changes wait."""
        return len(self._events) + len(self._pending)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application."""
        self._catalog.listeners.append(self._receive)
        writing = asyncio.create_task(self._run(), name="history: write")
        keeping = asyncio.create_task(self._documents.run(), name="history: documents")
        try:
            yield
        finally:
            self._catalog.listeners.remove(self._receive)
            self._closing = True
            self._news.set()
            if self._catalog.is_ready:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST):
                        await asyncio.shield(writing)
            for task in (writing, keeping):
                task.cancel()
            await asyncio.gather(writing, keeping, return_exceptions=True)
            ended(self._watcher)
            if len(self):
                log.error("history: the facade ends with %d changes not written", len(self))

    @property
    def is_away(self) -> bool:
        """Whether it cannot be written now."""
        return self.trouble is not None

    @property
    def is_writing(self) -> bool:
        """Whether this one watches, and no other has to."""
        return self._span is not None

    @property
    def is_stale(self) -> bool:
        """Whether it does not know what happens to the list."""
        return self._catalog.view.stale_since is not None

    @property
    def never_written(self) -> str | None:
        """Why it could not be written so far; ``None`` where it could."""
        return None if self._tried else self.trouble

    async def caught_up(self, seconds: float, *, documents: bool) -> None:
        """Waits, for so long at most, until all is written that came before, and with
        ``documents`` what was offered is kept, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.is_away and (len(self) or not self._tried):
                    self._news.set()
                    await self._idle.wait()
                while documents and not self.is_away and len(self._documents):
                    await self._documents.tried()

    def _receive(self, events: Sequence[CatalogEvent], view: View) -> None:
        if self._span is None:  # the list is compared as a whole when this one begins to write
            if self._live_since is not None:
                self._while_another.extend(events)
                if len(self._while_another) > max(_MOST, 2 * len(view)):
                    self._while_another.clear()
                    self._live_since = micros(utcnow())
            elif view.stale_since is None:
                self._news.set()  # the list is back
            return
        self._events.extend(events)
        if len(self) > max(_MOST, 2 * len(self._catalog.view)):
            self._lose()
        elif events and not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(_LINGER, self._linger_no_more)

    def _linger_no_more(self) -> None:
        self._lingering = False
        self._news.set()

    def _lose(self) -> None:
        """Too much waits: from the first of it on nobody watched."""
        self.dropped += len(self)
        self._events.clear()
        self._pending.clear()
        self._span = None
        self._live_since = micros(utcnow())

    # -- writing -------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._catalog.ready()
        pause = 0.0
        while True:
            try:
                await self._write()
                self._tried = True
                if self.trouble is not None:
                    log.warning("history: written again")
                self.trouble, pause = None, _BEAT
            except AuditLogError as error:
                if self.trouble is None:
                    log.error("history: %s cannot be written: %s", self.store.kind, error)
                    pause = 0.0
                self.trouble = str(error)
                pause = min(max(2 * pause, _RETRY), _LONGEST_RETRY)
            except Exception:  # the guard that keeps the history alive
                log.exception("history: writing failed in a way it must not")
                self._lose()
                self.trouble, pause = "it failed", _LONGEST_RETRY
            self._woken()
            if self._closing and (self.trouble is None or not len(self)):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
                    if self.trouble is not None:  # what is away is not asked more often
                        self._news.clear()
                        await asyncio.Event().wait()
            self._news.clear()

    def _woken(self) -> None:
        self._idle.set()
        self._idle = asyncio.Event()

    async def _write(self) -> None:
        stale = self._catalog.view.stale_since
        if stale is not None:
            self._live_since = None
            self._while_another.clear()
            if self._span is not None:
                await self._flush(micros(stale))
                self._span = None
                await self.store.leave(self._watcher)
            return
        if self._live_since is None:
            self._live_since = micros(utcnow())
        if self._span is None:
            await self._begin()
        if self._span is not None:
            await self._flush(micros(utcnow()))
            if self._closing and self._span is not None:
                await self.store.leave(self._watcher)
        if self._span is not None and not self._closing:
            await self._prune()

    async def _begin(self) -> None:
        """Takes the lead, if nobody has it, and writes what has become different since the store
        was written last."""
        assert self._live_since is not None
        lead = await self.store.lead(self._watcher, now := micros(utcnow()))
        others = self._while_another
        if not lead.mine:
            while others and micros(others[0].at) <= lead.until:
                others.popleft()
            return
        known = await self.store.listed()
        seen = self._live_since <= lead.until  # and all the time, though another wrote
        spans = await self.store.spans() if seen else ()
        # What happens from here on is received; up to here the list is compared.
        view, now = self._catalog.view, micros(utcnow())
        self._span = Span(spans[-1].began if spans else now, now)
        self._while_another = deque()
        states = {id: period.state for id, period in known.items()}
        changes: list[StateChange] = []
        if seen:
            async for event in sliced(others):
                changes += _replayed(event, states, lead.until)
        async for entry in sliced(view):
            state = State.of(entry)
            self._documents.want(entry.record.capabilities)
            before = states.get(entry.id)
            if before is None or not _same(before, state):
                at = state.since if lead.until < state.since < now and seen else now
                changes.append(StateChange(entry.id, at, state))
        changes += [StateChange(id, now, None) for id in states if id not in view.entries]
        changes.sort(key=lambda each: each.at)
        self._last_at = {id: period.at for id, period in known.items()}
        self._pending.extendleft(reversed([self._in_order(each) for each in changes]))

    async def _flush(self, now: int) -> None:
        """Writes what waits, and that up to ``now`` the list was watched."""
        events = [self._events.popleft() for _ in range(len(self._events))]
        async for event in sliced(events):
            self._take(event)
        while self._span is not None:
            group = [self._pending[i] for i in range(min(_GROUP, len(self._pending)))]
            more = len(self._pending) > len(group)
            until = group[-1].at if more else max(now, group[-1].at if group else 0)
            span = Span(self._span.began, max(self._span.ended, until))
            if not await self.store.write(self._watcher, group, span):
                self._span = None  # another has taken over, and compares the list itself
                self._events.clear()
                self._pending.clear()
                return
            if self._span is None:  # too much has come meanwhile
                return
            self._span = span
            for each in group:
                self._pending.popleft()
                if each.state is None:
                    self._last_at.pop(each.instance, None)
            self.written += len(group)
            self._written_since += len(group)
            if not more:
                return

    def _take(self, event: CatalogEvent) -> None:
        state = None if event.entry is None else State.of(event.entry)
        if state is not None and event.before is not None and State.of(event.before) == state:
            return
        if event.entry is not None:
            self._documents.want(event.entry.record.capabilities)
        self._pending.append(self._in_order(StateChange(event.id, micros(event.at), state)))

    def _in_order(self, change: StateChange) -> StateChange:
        """``change``, later than the one before of its instance, whatever clocks say."""
        last = self._last_at.pop(change.instance, 0)
        if change.at <= last:
            change = replace(change, at=last + 1)
        self._last_at[change.instance] = change.at
        return change

    async def _prune(self) -> None:
        due = time.monotonic() - self._pruned_at > _PRUNE_EVERY
        many = self._written_since > _PRUNE_AFTER or self._documents.bytes_since > _PRUNE_BYTES
        if not due and not many:
            return
        self._pruned_at, self._written_since = time.monotonic(), 0
        self._documents.bytes_since = 0
        removed = await self.store.prune(micros(utcnow()))
        log.debug("history: removed %d periods", removed)


def _replayed(event: CatalogEvent, states: dict[str, State], until: int) -> Iterator[StateChange]:
    """What ``event`` changes of ``states``, which another wrote up to ``until``: what that one has
    seen a little earlier, and written, is nothing new."""
    at, before = micros(event.at), states.get(event.id)
    if at <= until:
        return
    if event.entry is None:
        if before is not None:
            del states[event.id]
            yield StateChange(event.id, at, None)
        return
    state = State.of(event.entry)
    late = state.since <= until and at <= until + round(_LATE * 1e6)
    if not late and (before is None or not _same(before, state)):
        states[event.id] = state
        yield StateChange(event.id, at, state)


def _same(before: State, now: State) -> bool:
    """Whether nothing has happened between the two. Since when somebody is silent, each facade
    tells by its own clock."""
    silent = before.status == now.status == Status.DOWN.value and before.reason == now.reason
    return before == now or (silent and replace(before, since=now.since) == now)


class HistoryFigures(Collector):
    """The figures of a history for Prometheus."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterable[Metric]:
        """See :class:`prometheus_client.registry.Collector`."""
        of = self._recorder
        for name, text, number in (
            ("history_changes", "Changes of instances written to the history.", of.written),
            ("history_lost", "Changes that did not fit into memory: a gap is told.", of.dropped),
        ):
            yield CounterMetricFamily(f"mcp_discovery_{name}", text, number)
        text = "Changes that wait to be written to the history."
        yield GaugeMetricFamily("mcp_discovery_history_waiting", text, len(of))
        text = "1 while the history cannot be written, 0 otherwise."
        yield GaugeMetricFamily("mcp_discovery_history_away", text, int(of.is_away))
