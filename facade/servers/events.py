"""The list as server-sent events, resumable, and bounded for slow readers.

A reader gets one ``snapshot`` and then a ``change`` for each instance that changes, ``stale`` and
``fresh`` as the store goes and returns. Whoever reconnects with ``Last-Event-ID`` gets what it
missed; where that cannot be told any more it gets another ``snapshot``, with ``startedOver``
saying why, and loses nothing.

Each reader has a task, which writes all that takes more than one go: a snapshot, what was missed,
what a slow reader has not taken yet. A change that finds a reader up to date and its connection
empty is written by whoever tells of it, past that task: see :meth:`_Reader.wake`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from aiohttp import HttpVersion11, web

from mcp_discovery.adapters.catalog import Catalog, Event
from mcp_discovery.adapters.view import Query, View
from mcp_discovery.errors import DiscoveryError, OutdatedRevisionError
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.filters import parse
from mcp_discovery.facade.websocket.fanout import Fanout
from mcp_discovery.facade.websocket.position import read_position

log = logging.getLogger(__name__)

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: Frames that are kept for the other readers, in bytes.
_KEPT_FRAMES = 8 * 2**20
#: For how long a snapshot is good for others: what ``lastSeen`` says in it grows old.
_SNAPSHOT_SECONDS = 1.0
#: How much is written to a reader at once, in bytes.
_CHUNK = 256 * 2**10
#: Seconds between two looks for readers that have left.
_LOOK_EVERY = 0.5
#: For how many changes a group remembers what they mean to it.
_KEPT_VERDICTS = 4096
#: A reader that is behind by more changes than these is told them by its own task, bit by bit.
_FEW = 64


class StalledReaderError(DiscoveryError):
    """A reader leaves its connection full."""


class _Group:
    """All readers with the same filters: each change is held against them once."""

    def __init__(self, streams: Streams, query: Query) -> None:
        self._streams = streams
        self.query = query
        self.readers = 0
        self._news: tuple[View, View, bytes] | None = None
        self._verdicts: OrderedDict[int, bool | None] = OrderedDict()
        self._snapshot: tuple[View, float, bytes] | None = None

    def shows(self, event: Event) -> bool | None:
        """``True``: the instance as it is now; ``False``: that it is gone; ``None``: nothing."""
        if not self.query.checks:
            return event.entry is not None
        if event.revision in self._verdicts:
            return self._verdicts[event.revision]
        verdict: bool | None = None
        if event.entry is not None and self.query.matches(event.entry.instance):
            verdict = True
        elif event.before is not None and self.query.matches(event.before.instance):
            verdict = False
        self._verdicts[event.revision] = verdict
        if len(self._verdicts) > _KEPT_VERDICTS:
            self._verdicts.popitem(last=False)
        return verdict

    def news(self, before: View, view: View) -> bytes:
        """What leads from ``before`` to the present ``view``, as one chunk of HTTP's chunked coding
        (RFC 9112, 7.1), or nothing; made once for all who are at the same place.

        Raises :class:`~mcp_discovery.errors.OutdatedRevisionError`.
        """
        if self._news is not None and self._news[0] is before and self._news[1] is view:
            return self._news[2]
        events = self._streams.catalog.since(before.epoch, before.revision)
        data = b"".join(self.frames(events)) + _staleness(before, view)
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._news = before, view, chunk
        return chunk

    def frames(self, events: Iterable[Event]) -> Iterator[bytes]:
        """Those of ``events`` that mean something to its readers, as they go over the wire."""
        for event in events:
            if (present := self.shows(event)) is not None:
                yield self._streams.frame(event, present=present)

    def snapshot(self, view: View) -> bytes:
        """Its entries of ``view`` as a JSON array; kept for those who connect at the same time."""
        now = time.monotonic()
        if self._snapshot is not None:
            known, made, data = self._snapshot
            if known is view and now - made < _SNAPSHOT_SECONDS:
                return data
        data = list_json.joined(view.select(self.query), view.as_of)
        self._snapshot = view, now, data
        return data


class Streams:
    """All readers of one catalog's events.

    ``ping`` and ``write_timeout`` in seconds: the pause between comments to an idle reader, and
    how long a reader may leave its connection full before it is closed.
    """

    def __init__(self, catalog: Catalog, *, ping: float, write_timeout: float) -> None:
        self.catalog = catalog
        self.fanout = Fanout(catalog)
        self.ping = ping
        self.write_timeout = write_timeout
        self._lives: dict[asyncio.Timeout, web.Request] = {}
        self._closed = False
        self._groups: dict[Query, _Group] = {}
        self._frames: OrderedDict[tuple[int, bool], bytes] = OrderedDict()
        self._frames_size = 0

    def __len__(self) -> int:
        return len(self._lives)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers ``GET /events`` until the reader leaves or :meth:`close` is called."""
        query = parse(request, statuses=frozenset())
        response = web.StreamResponse(headers=_HEADERS)
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == "HEAD" or self._closed:
            return response
        last = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
        group = self._groups.setdefault(query, _Group(self, query))
        group.readers += 1
        reader = _Reader(self, request, response, group)
        self.fanout.join(reader.wake)
        try:
            async with asyncio.timeout(None) as life:
                self._lives[life] = request
                try:
                    await reader.feed(last)
                finally:
                    del self._lives[life]
        except TimeoutError:
            pass  # closed from this side, or found gone
        except ConnectionResetError:
            pass  # the reader has left
        except StalledReaderError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.fanout.leave(reader.wake)
            group.readers -= 1
            if not group.readers:
                self._groups.pop(query, None)
        return response

    def close(self) -> None:
        """Ends every stream at once, and those to come."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for life in self._lives:
            if not life.expired():
                life.reschedule(now)

    async def drop_gone(self) -> None:
        """Ends the streams of readers that have left, for ever.

        aiohttp tells a handler that its client has left only when it writes; that would keep each
        for as long as a ping takes.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = asyncio.get_running_loop().time()
            for life, request in self._lives.items():
                left = request.transport is None or request.transport.is_closing()
                if left and not life.expired():
                    life.reschedule(now)

    def frame(self, event: Event, *, present: bool) -> bytes:
        """A change as bytes on the wire, encoded once for all readers."""
        key = event.revision, present
        frame = self._frames.get(key)
        if frame is None:
            view = self.catalog.view
            shown = event.entry.json(view.as_of) if present and event.entry else b"null"
            frame = _change(view.epoch, event, shown)
            self._frames[key] = frame
            self._frames_size += len(frame)
            while self._frames_size > _KEPT_FRAMES and len(self._frames) > 1:
                self._frames_size -= len(self._frames.popitem(last=False)[1])
        return frame


class _Reader:
    """One connection's place in the changes."""

    def __init__(
        self,
        streams: Streams,
        request: web.Request,
        response: web.StreamResponse,
        group: _Group,
    ) -> None:
        self._streams = streams
        self._catalog = streams.catalog
        self._request = request
        self._response = response
        self._group = group
        self._news = asyncio.Event()
        self._waits = False  # whether its task does nothing but wait for news
        self._view = self._catalog.view

    def wake(self) -> None:
        """There is something new: writes it where the reader keeps up, else wakes its task.

        Thousands of tasks that wake up each to write the same bytes take ten times as long as the
        writing.
        """
        try:
            written = self._write_at_once()
        except Exception:  # the guard that keeps it from those who are woken after this one
            log.exception("writing to a reader of events failed in a way it must not")
            written = False
        if not written:
            self._news.set()

    def _write_at_once(self) -> bool:
        """Writes what is new past the task, where that does not come between what it writes."""
        transport, view = self._request.transport, self._catalog.view
        behind = view.revision - self._view.revision
        if not self._waits or not self._response.chunked or behind > _FEW:
            return False
        if transport is None or transport.get_write_buffer_size():
            return False
        try:
            news = self._group.news(self._view, view)
        except OutdatedRevisionError:
            return False
        if len(news) > _CHUNK:
            return False
        self._view = view
        if news:
            transport.write(news)
        return True

    async def feed(self, last: str | None) -> None:
        """Writes for ever; ``last`` is the id of the last event that the reader had."""
        if last is None:
            await self._write_snapshot()
        else:
            await self._resume(last)
        while True:
            if await self._woken():
                await self._write_news()
            else:
                # The id without data moves a filtered reader on without an event.
                await self._write(b": ping\nid: %b\n\n" % _id(self._view))

    async def _woken(self) -> bool:
        """Waits until there is something new for this task; false when a ping is due before."""
        self._waits = True
        try:
            async with asyncio.timeout(self._streams.ping):
                await self._news.wait()
        except TimeoutError:
            return False
        finally:
            self._waits = False
        self._news.clear()
        return True

    async def _write_news(self) -> None:
        before, self._view = self._view, self._catalog.view
        if self._view is before:
            return
        try:
            events = self._catalog.since(before.epoch, before.revision)
        except OutdatedRevisionError as error:
            await self._write_snapshot(str(error))
            return
        await self._write_changes(events)
        if staleness := _staleness(before, self._view):
            await self._write(staleness)

    async def _resume(self, last: str) -> None:
        self._view = self._catalog.view
        try:
            epoch, revision = read_position(last)
            events = self._catalog.since(epoch, revision)
        except OutdatedRevisionError as error:
            await self._write_snapshot(str(error))
            return
        await self._write_changes(events)
        if self._view.stale_since is not None:
            await self._write(_told_staleness(self._view))

    async def _write_snapshot(self, started_over: str | None = None) -> None:
        view = self._view = self._catalog.view
        head: dict[str, Any] = {"epoch": view.epoch, "revision": view.revision}
        if started_over:
            head["startedOver"] = started_over
        head |= list_json.staleness(view)
        servers = self._group.snapshot(view)
        start = b"id: %b\nevent: snapshot\ndata: %b" % (_id(view), orjson.dumps(head)[:-1])
        await self._write(start + b',"servers":')
        for begin in range(0, len(servers), _CHUNK):
            await self._write(servers[begin : begin + _CHUNK])
        await self._write(b"}\n\n")

    async def _write_changes(self, events: list[Event]) -> None:
        pending: list[bytes] = []
        size = 0
        for frame in self._group.frames(events):
            pending.append(frame)
            size += len(frame)
            if size >= _CHUNK:
                await self._write(b"".join(pending))
                pending, size = [], 0
        if pending:
            await self._write(b"".join(pending))

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._streams.write_timeout) as deadline:
                await self._response.write(data)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise StalledReaderError from error


def _id(view: View) -> bytes:
    return list_json.position(view).encode()


def _staleness(before: View, view: View) -> bytes:
    """What is told where the store went or returned between the two, else nothing."""
    gone, was_gone = view.stale_since is not None, before.stale_since is not None
    return b"" if gone is was_gone else _told_staleness(view)


def _told_staleness(view: View) -> bytes:
    data = list_json.staleness(view)
    name = b"stale" if data else b"fresh"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (_id(view), name, orjson.dumps(data))


def _change(epoch: str, event: Event, server: bytes) -> bytes:
    return b'id: %b:%d\nevent: change\ndata: {"id":%b,"server":%b}\n\n' % (
        epoch.encode(),
        event.revision,
        orjson.dumps(event.id),
        server,
    )
