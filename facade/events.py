"""The list as server-sent events, resumable, and bounded for slow readers.

A reader gets one ``snapshot`` and then a ``change`` for each instance that changes, ``stale`` and
``fresh`` as the store goes and returns. Whoever reconnects with ``Last-Event-ID`` gets what it
missed; where that cannot be told any more it gets another ``snapshot``, with ``startedOver``
saying why, and loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any

import orjson
from aiohttp import web

from adapters.catalog import Catalog, Event
from adapters.view import Query, View
from facade import listing
from facade.query import parse
from mcp_discovery.errors import StartOver

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
_EVERYTHING = Query(statuses=frozenset())


class Stalled(Exception):
    """A reader leaves its connection full."""


class Streams:
    """All readers of one catalog's events.

    ``ping`` and ``write_timeout`` in seconds: the pause between comments to an idle reader, and
    how long a reader may leave its connection full before it is closed.
    """

    def __init__(self, catalog: Catalog, *, ping: float, write_timeout: float) -> None:
        self.catalog = catalog
        self.ping = ping
        self.write_timeout = write_timeout
        self._lives: dict[asyncio.Timeout, web.Request] = {}
        self._closed = False
        self._frames: OrderedDict[int, bytes] = OrderedDict()
        self._frames_size = 0
        self._snapshot: tuple[View, float, bytes] | None = None

    def __len__(self) -> int:
        return len(self._lives)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers ``GET /events`` until the reader leaves or :meth:`close` is called."""
        query = parse(request, statuses=frozenset())
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        if request.method == "HEAD" or self._closed:
            return response
        last = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
        reader = _Reader(self, response, query)
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
        except Stalled:
            if request.transport is not None:
                request.transport.abort()
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

    def frame(self, event: Event) -> bytes:
        """A change as bytes on the wire, encoded once for all readers."""
        frame = self._frames.get(event.revision)
        if frame is None:
            view = self.catalog.view
            server = b"null" if event.entry is None else event.entry.json(view.as_of)
            frame = _change(view.epoch, event, server)
            self._frames[event.revision] = frame
            self._frames_size += len(frame)
            while self._frames_size > _KEPT_FRAMES and len(self._frames) > 1:
                self._frames_size -= len(self._frames.popitem(last=False)[1])
        return frame

    def everything(self, view: View) -> bytes:
        """All entries of ``view`` as a JSON array; kept for those who connect at the same time."""
        now = time.monotonic()
        if self._snapshot is not None:
            known, made, data = self._snapshot
            if known is view and now - made < _SNAPSHOT_SECONDS:
                return data
        data = listing.joined(view.select(_EVERYTHING), view.as_of)
        self._snapshot = view, now, data
        return data


class _Reader:
    """One connection's place in the changes."""

    def __init__(self, streams: Streams, response: web.StreamResponse, query: Query) -> None:
        self._streams = streams
        self._catalog = streams.catalog
        self._response = response
        self._query = query
        self._all = query == _EVERYTHING
        self._shown: set[str] = set()  # what a filtered reader has, or may have
        self._view = self._catalog.view

    async def feed(self, last: str | None) -> None:
        """Writes for ever; ``last`` is the id of the last event that the reader had."""
        if last is None:
            await self._write_snapshot()
        else:
            await self._resume(last)
        while True:
            before = self._view
            try:
                async with asyncio.timeout(self._streams.ping):
                    self._view = await self._catalog.after(before)
            except TimeoutError:
                # The id without data moves a filtered reader on without an event.
                await self._write(b": ping\nid: %b\n\n" % _id(before))
                continue
            try:
                events = self._catalog.since(before.epoch, before.revision)
            except StartOver as error:
                await self._write_snapshot(str(error))
                continue
            await self._write_changes(events)
            if (before.stale_since is None) != (self._view.stale_since is None):
                await self._write_staleness()

    async def _resume(self, last: str) -> None:
        try:
            epoch, revision = _read_id(last)
            events = self._catalog.since(epoch, revision)
        except StartOver as error:
            await self._write_snapshot(str(error))
            return
        if not self._all:
            # It may have any of those that changed since, and has all that match unchanged.
            self._shown = {event.id for event in events}
            self._shown.update(entry.id for entry in self._view.select(self._query))
        await self._write_changes(events)
        if self._view.stale_since is not None:
            await self._write_staleness()

    async def _write_snapshot(self, started_over: str | None = None) -> None:
        view = self._view = self._catalog.view
        if self._all:
            servers = self._streams.everything(view)
        else:
            entries = view.select(self._query)
            self._shown = {entry.id for entry in entries}
            servers = listing.joined(entries, view.as_of)
        head: dict[str, Any] = {"epoch": view.epoch, "revision": view.revision}
        if started_over:
            head["startedOver"] = started_over
        head |= listing.staleness(view)
        data = orjson.dumps(head)[:-1] + b',"servers":' + servers + b"}"
        await self._write(b"id: %b\nevent: snapshot\ndata: %b\n\n" % (_id(view), data))

    async def _write_changes(self, events: list[Event]) -> None:
        pending: list[bytes] = []
        size = 0
        for event in events:
            if (frame := self._frame(event)) is None:
                continue
            pending.append(frame)
            size += len(frame)
            if size >= _CHUNK:
                await self._write(b"".join(pending))
                pending, size = [], 0
        if pending:
            await self._write(b"".join(pending))

    def _frame(self, event: Event) -> bytes | None:
        if self._all:
            return self._streams.frame(event)
        if event.entry is not None and self._query.matches(event.entry.instance):
            self._shown.add(event.id)
            return self._streams.frame(event)
        if event.id in self._shown:
            self._shown.discard(event.id)
            return _change(self._view.epoch, event, b"null")
        return None

    async def _write_staleness(self) -> None:
        data = listing.staleness(self._view)
        name = b"stale" if data else b"fresh"
        await self._write(
            b"id: %b\nevent: %b\ndata: %b\n\n" % (_id(self._view), name, orjson.dumps(data))
        )

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._streams.write_timeout) as deadline:
                await self._response.write(data)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise Stalled from error


def _id(view: View) -> bytes:
    return listing.position(view).encode()


def _read_id(text: str) -> tuple[str, int]:
    epoch, colon, revision = text.partition(":")
    if not colon or not revision.isascii() or not revision.isdigit() or len(revision) > 18:
        raise StartOver(f"{text[:100]!r} is no event id of this facade; ids are epoch:revision")
    return epoch[:100], int(revision)


def _change(epoch: str, event: Event, server: bytes) -> bytes:
    return b'id: %b:%d\nevent: change\ndata: {"id":%b,"server":%b}\n\n' % (
        epoch.encode(),
        event.revision,
        orjson.dumps(event.id),
        server,
    )
