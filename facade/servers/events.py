"""The list as server-sent events, resumable, and bounded for slow readers.

A reader gets one ``snapshot`` and then a ``change`` for each instance that changes, ``stale`` and
``fresh`` as the store goes and returns. A reader that reconnects with ``Last-Event-ID`` gets what
it missed; where the catalog does not remember that any more it gets another ``snapshot``, with
``startedOver`` saying why, and loses nothing.

Each reader has a task, which writes all that may have to wait for the client: a snapshot, what was
missed, what a slow reader has not taken yet. Where a reader is up to date and its connection empty,
the fan-out's own task writes a change to it: see :meth:`_EventReader.notify`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from aiohttp import HttpVersion11, web
from cachetools import LRUCache

from mcp_discovery.adapters.live_list import CatalogEvent, LiveList
from mcp_discovery.adapters.view import View
from mcp_discovery.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.errors import DiscoveryError, OutdatedRevisionError
from mcp_discovery.facade.access.parts import Part
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.fanout import Fanout
from mcp_discovery.facade.servers.filters import parse
from mcp_discovery.facade.servers.list_json import read_position
from mcp_discovery.query.query import Query

log = logging.getLogger(__name__)

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
#: How many bytes of serialized changes are cached for other readers.
_FRAME_BYTES = 8 * 2**20
#: For how many seconds other readers get the same snapshot: its ``lastSeen`` grow old.
_SNAPSHOT_SECONDS = 1.0
#: How many bytes a reader's own task writes at once.
_CHUNK = 256 * 2**10
#: How many bytes the fan-out writes to a reader at most: they fit into the transport's buffer
#: (64 KiB), so that the fan-out never waits for one reader.
_AT_ONCE_BYTES = 32 * 2**10
#: Seconds between two checks for readers that have left.
_DISCONNECT_CHECK = 0.5
#: For how many changes a group caches what they mean to it.
_VERDICTS = 4096
#: A reader that is behind by more changes than these gets them from its own task, bit by bit.
_FEW = 64


class StalledReaderError(DiscoveryError):
    """A reader leaves its connection full."""


class _EventGroup:
    """All readers with the same filters, with which each change is compared once."""

    def __init__(self, streams: EventStreams, query: Query) -> None:
        self._streams = streams
        self.query = query
        self.readers = 0
        self._news: tuple[View, View, bytes] | None = None
        self._verdicts: LRUCache[int, bool | None] = LRUCache(_VERDICTS)
        self._snapshot: tuple[View, float, bytes] | None = None

    def shows(self, event: CatalogEvent) -> bool | None:
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
        return verdict

    def news(self, before: View, view: View) -> bytes:
        """The events from ``before`` to the present ``view``, serialized once for all readers that
        are at the same place; may be empty.

        Raises :class:`~mcp_discovery.errors.OutdatedRevisionError`, also where the list has become
        a partial one, or a whole one again.
        """
        if before.partial != view.partial:
            raise OutdatedRevisionError(view.partial or "the list is whole again")
        if self._news is not None and self._news[0] is before and self._news[1] is view:
            return self._news[2]
        events = self._streams.catalog.since(before.epoch, before.revision)
        data = b"".join(self.frames(events)) + _staleness(before, view)
        self._news = before, view, data
        return data

    def frames(self, events: Iterable[CatalogEvent]) -> Iterator[bytes]:
        """Those of ``events`` that mean something to its readers, serialized."""
        for event in events:
            if (present := self.shows(event)) is not None:
                yield self._streams.frame(event, present=present)

    def snapshot(self, view: View) -> bytes:
        """Its entries of ``view`` as a JSON array, cached for readers that connect together."""
        now = time.monotonic()
        if self._snapshot is not None:
            known, made, data = self._snapshot
            if known is view and now - made < _SNAPSHOT_SECONDS:
                return data
        data = list_json.joined(view.select(self.query), view.as_of)
        self._snapshot = view, now, data
        return data


class EventStreams:
    """All readers of one catalog's events.

    ``ping`` and ``write_timeout`` in seconds: the pause between comments to an idle reader, and
    how long a reader may leave its connection full before it is closed.
    """

    def __init__(self, catalog: LiveList, *, ping: float, write_timeout: float) -> None:
        self.catalog = catalog
        self.fanout = Fanout(catalog)
        self.ping = ping
        self.write_timeout = write_timeout
        #: The requests of the readers; run it, to end those whose clients have left.
        self.open = DisconnectWatch(_DISCONNECT_CHECK)
        self._closed = False
        self._groups: dict[Query, _EventGroup] = {}
        self._frames: LRUCache[tuple[int, bool], bytes] = LRUCache(_FRAME_BYTES, getsizeof=len)

    def __len__(self) -> int:
        return len(self.open)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers ``GET /events`` until the reader leaves or :meth:`close` is called."""
        query = parse(request, status=())
        response = web.StreamResponse(headers=_HEADERS)
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == "HEAD" or self._closed:
            return response
        last = request.headers.get("Last-Event-ID") or request.query.get("lastEventId")
        group = self._groups.setdefault(query, _EventGroup(self, query))
        group.readers += 1
        reader = _EventReader(self, request, response, group)
        self.fanout.join(reader.notify)
        try:
            async with self.open.guard(request):
                await reader.feed(last)
        except (ClientGoneError, ConnectionResetError):
            pass  # closed from this side, or the reader has left
        except StalledReaderError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.fanout.leave(reader.notify)
            group.readers -= 1
            if not group.readers:
                self._groups.pop(query, None)
        return response

    def close(self) -> None:
        """Ends every stream at once, and those to come."""
        self._closed = True
        self.open.end(lambda _: True)

    def frame(self, event: CatalogEvent, *, present: bool) -> bytes:
        """A change as an event, serialized once for all readers."""
        key = event.revision, present
        frame = self._frames.get(key)
        if frame is None:
            view = self.catalog.view
            shown = event.entry.json(view.as_of) if present and event.entry else b"null"
            values = view.epoch.encode(), event.revision, orjson.dumps(event.id), shown
            frame = b'id: %b:%d\nevent: change\ndata: {"id":%b,"server":%b}\n\n' % values
            if len(frame) <= _FRAME_BYTES:
                self._frames[key] = frame
        return frame


class _EventReader:
    """One connection, and which view it has."""

    def __init__(
        self,
        streams: EventStreams,
        request: web.Request,
        response: web.StreamResponse,
        group: _EventGroup,
    ) -> None:
        self._streams = streams
        self._catalog = streams.catalog
        self._request = request
        self._response = response
        self._group = group
        self._news = asyncio.Event()
        self._waits = False  # whether its task does nothing but wait for news
        self._view = self._catalog.view

    async def notify(self) -> None:
        """There is something new: writes it where the reader keeps up, else wakes its task.

        It does not wait for the client. Waking thousands of tasks, each to write the same bytes,
        would take ten times as long as writing them from here.
        """
        try:
            if await self._write_at_once():
                return
        except ConnectionError:
            pass  # the reader has left, which its task notices
        except Exception:  # the guard that keeps it from the readers that come after this one
            log.exception("writing to a reader of events failed in a way it must not")
        self._news.set()

    async def _write_at_once(self) -> bool:
        """Writes what is new, if the reader's task writes nothing and the connection is empty."""
        transport, view = self._request.transport, self._catalog.view
        if not self._waits or view.revision - self._view.revision > _FEW:
            return False
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        try:
            news = self._group.news(self._view, view)
        except OutdatedRevisionError:
            return False
        if len(news) > _AT_ONCE_BYTES:
            return False
        self._view = view
        if news:
            await self._response.write(news)
        return True

    async def feed(self, last: str | None) -> None:
        """Writes until it is cancelled; ``last`` is the id of the reader's last event."""
        if last is None:
            await self._write_snapshot()
        else:
            view = self._view = self._catalog.view
            stale = view.stale_since is not None
            await self._write_since(last, _staleness_event(view) if stale else b"")
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
        if self._view.partial != before.partial:
            await self._write_snapshot(self._view.partial or "the list is whole again")
        elif self._view is not before:
            position = list_json.position(before)
            await self._write_since(position, _staleness(before, self._view))

    async def _write_since(self, position: str, staleness: bytes) -> None:
        """Writes the changes since ``position``, then ``staleness``; a snapshot if unknown."""
        try:
            events = self._catalog.since(*read_position(position))
        except OutdatedRevisionError as error:
            await self._write_snapshot(str(error))
            return
        await self._write_changes(events)
        if staleness:
            await self._write(staleness)

    async def _write_snapshot(self, started_over: str | None = None) -> None:
        view = self._view = self._catalog.view
        head: dict[str, Any] = {"epoch": view.epoch, "revision": view.revision}
        if started_over:
            head["startedOver"] = started_over
        head |= list_json.caveats(view)
        servers = self._group.snapshot(view)
        start = b"id: %b\nevent: snapshot\ndata: %b" % (_id(view), orjson.dumps(head)[:-1])
        await self._write(start + b',"servers":')
        for begin in range(0, len(servers), _CHUNK):
            await self._write(servers[begin : begin + _CHUNK])
        await self._write(b"}\n\n")

    async def _write_changes(self, events: list[CatalogEvent]) -> None:
        pending = bytearray()
        for frame in self._group.frames(events):
            pending += frame
            if len(pending) >= _CHUNK:
                await self._write(bytes(pending))
                pending.clear()
        if pending:
            await self._write(bytes(pending))

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
    """The event that says that the store went or returned between the two, else nothing."""
    gone, was_gone = view.stale_since is not None, before.stale_since is not None
    return b"" if gone is was_gone else _staleness_event(view)


def _staleness_event(view: View) -> bytes:
    data = list_json.caveats(view)
    name = b"stale" if view.stale_since is not None else b"fresh"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (_id(view), name, orjson.dumps(data))


#: The event streams.
STREAMS: Part[EventStreams] = Part("event streams")
