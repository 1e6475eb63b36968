"""``GET /registry/stream``: its readers, each on its WebSocket."""

from __future__ import annotations

import asyncio
import logging

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.view import View
from mcp_discovery.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.errors import OutdatedRevisionError
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.parts import Part, parts_of
from mcp_discovery.facade.access.quotas import quotas_in
from mcp_discovery.facade.http.operation import Operation
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.servers import list_json
from mcp_discovery.facade.servers.current_list import view_of
from mcp_discovery.facade.servers.fanout import Fanout
from mcp_discovery.facade.servers.list_json import read_position
from mcp_discovery.facade.websocket.messages import (
    CONNECTION_STATUS,
    KINDS,
    MAX_MESSAGE_BYTES,
    ActivityLog,
    EventFilter,
    InvalidMessageError,
    Subscribe,
    Subscribers,
    Unsubscribe,
    acknowledged,
    parse,
)

log = logging.getLogger(__name__)

#: A message larger than this ends the connection: it is not even read.
_MOST_READ = 2**20
#: So many messages in a row that cannot be understood end the connection.
MOST_ERRORS = 20
#: How long, in seconds, a client may take to confirm that the connection is closed.
_GOODBYE = 1.0


class Sockets:
    """All readers of one catalog's stream.

    ``ping`` and ``write_timeout`` in seconds: the pause before an idle connection is pinged, and
    how long a reader may leave it full. One on which nothing is subscribed for ``idle`` seconds is
    closed.
    """

    def __init__(
        self, catalog: LiveList, *, ping: float, write_timeout: float, idle: float
    ) -> None:
        self.catalog = catalog
        self.fanout = Fanout(catalog)
        self.activity = ActivityLog(catalog, self.fanout)
        self.ping = ping
        self.write_timeout = write_timeout
        self.idle = idle
        self._groups: dict[EventFilter, Subscribers] = {}
        self._open = DisconnectWatch(self.ping)
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answers ``GET /registry/stream`` until the reader leaves or :meth:`close` is called.

        Raises :class:`ProblemError` (426) for a request that is no WebSocket handshake.
        """
        socket = web.WebSocketResponse(
            heartbeat=self.ping,
            timeout=_GOODBYE,
            max_msg_size=_MOST_READ,
            compress=False,
            decode_text=False,
        )
        if request.method != "GET" or not socket.can_prepare(request):
            detail = "this is a WebSocket; connect with ws:// and a WebSocket client"
            raise ProblemError(426, "upgrade-required", detail)
        await socket.prepare(request)
        if self._closed:
            await socket.close(code=WSCloseCode.GOING_AWAY)
            return socket
        try:
            async with self._open.guard(request):
                await _SocketReader(self, socket, request).run()
        except ClientGoneError:  # the facade stops
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the facade stops")
        except ConnectionResetError:
            pass  # the reader has left
        return socket

    def close(self) -> None:
        """Ends every connection, and those to come."""
        self._closed = True
        self._open.end(lambda _: True)

    def join(self, filter: EventFilter) -> Subscribers:
        """One more reader with ``filter``."""
        subscribers = self._groups.setdefault(filter, Subscribers(filter))
        subscribers.readers += 1
        return subscribers

    def leave(self, subscribers: Subscribers) -> None:
        """One reader less."""
        subscribers.readers -= 1
        if not subscribers.readers:
            self._groups.pop(subscribers.filter, None)


#: The readers.
SOCKETS: Part[Sockets] = Part("sockets")


class _SocketReader:
    """One connection: what it has subscribed to, and what it has been sent."""

    def __init__(
        self, sockets: Sockets, socket: web.WebSocketResponse, request: web.Request
    ) -> None:
        self._sockets = sockets
        self._catalog = sockets.catalog
        self._socket = socket
        self._request = request
        self._news = asyncio.Event()
        sockets.fanout.join(self._notify)
        self._subscribers = sockets.join(EventFilter())
        self._wants_statuses = False
        self._snapshot_due: str | None = None  # why a snapshot is due; "" for the first
        self._turn = 0  # goes up when something else is subscribed
        self._revision = 0
        self._doubts: tuple[bool, str | None] = (False, None)  # whether stale, and why partial
        self._numbers: dict[str, int] = {}  # of health checks and requests, the next to be sent

    async def run(self) -> None:
        """Receives and sends until either ends."""
        sending = asyncio.create_task(self._send_news(), name="send to a socket")
        try:
            await self._receive()
        finally:
            sending.cancel()
            self._sockets.fanout.leave(self._notify)
            self._sockets.leave(self._subscribers)
            for kind in self._numbers:
                self._sockets.activity.unsubscribe(kind)
            await asyncio.gather(sending, return_exceptions=True)

    async def _notify(self) -> None:
        self._news.set()

    # -- received -----------------------------------------------------------------------

    async def _receive(self) -> None:
        errors = 0
        while True:
            try:
                idle = None if self._wants_statuses or self._numbers else self._sockets.idle
                # Not receive's own time-out: each pong would begin it anew.
                async with asyncio.timeout(idle):
                    message = await self._socket.receive()
            except TimeoutError:
                why = f"nothing was subscribed for {self._sockets.idle:g} s".encode()
                await self._socket.close(message=why)
                return
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            try:
                if message.type is WSMsgType.BINARY:
                    raise InvalidMessageError("the message is binary; send JSON as text")
                if len(message.data) > MAX_MESSAGE_BYTES:
                    raise InvalidMessageError(f"the message is over {MAX_MESSAGE_BYTES:,} bytes")
                await self._count()
                await self._execute(parse(message.data))
                errors = 0
            except InvalidMessageError as error:
                await self._send(orjson.dumps({"type": "error", "detail": str(error)}))
                errors += 1
                if errors == MOST_ERRORS:
                    why = b"too many messages that cannot be understood"
                    await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=why)
                    return

    async def _count(self) -> None:
        if (quotas := quotas_in(self._request)) is not None:
            try:
                await quotas.take(caller_of(self._request), "reads")
            except ProblemError as error:
                raise InvalidMessageError(error.detail) from error

    async def _execute(self, action: Subscribe | Unsubscribe) -> None:
        view = self._catalog.view
        now = set(self._numbers) | ({CONNECTION_STATUS} if self._wants_statuses else set())
        if isinstance(action, Unsubscribe):
            self._end(action.events)
            left = now - action.events
            await self._send(acknowledged("unsubscribed", left, list_json.position(view)))
            return
        # First the answer, so that nothing of what is subscribed comes before it.
        await self._send(acknowledged("subscribed", now | action.events, list_json.position(view)))
        self._begin(action, view.revision)
        self._doubts = _doubts(view)
        self._news.set()

    def _begin(self, action: Subscribe, revision: int) -> None:
        self._turn += 1
        other = action.filter is not None and action.filter != self._subscribers.filter
        if action.filter is not None and other:
            self._sockets.leave(self._subscribers)
            self._subscribers = self._sockets.join(action.filter)
        for kind in KINDS:
            if kind in action.events and kind not in self._numbers:
                self._numbers[kind] = self._sockets.activity.subscribe(kind)
        if CONNECTION_STATUS not in action.events and not (other and self._wants_statuses):
            return
        if action.resume is not None:
            try:
                epoch, self._revision = read_position(action.resume)
                self._catalog.since(epoch, self._revision)
                self._snapshot_due = None
            except OutdatedRevisionError as error:
                self._snapshot_due = str(error)
        elif self._wants_statuses and not other:
            return  # it gets them already
        elif action.snapshot:
            self._snapshot_due = ""
        else:
            self._revision, self._snapshot_due = revision, None
        self._wants_statuses = True

    def _end(self, events: frozenset[str]) -> None:
        self._turn += 1
        if CONNECTION_STATUS in events:
            self._wants_statuses, self._snapshot_due = False, None
        for kind in events & self._numbers.keys():
            del self._numbers[kind]
            self._sockets.activity.unsubscribe(kind)

    # -- sent --------------------------------------------------------------------

    async def _send_news(self) -> None:
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._send_statuses()
                for kind in KINDS:
                    await self._send_activity(kind)
        except ConnectionResetError:
            pass  # the listening side ends with it
        except Exception:  # the guard that ends a connection rather than leave it silent
            log.exception("sending a reader failed in a way it must not")
            await self._socket.close(code=WSCloseCode.INTERNAL_ERROR)

    async def _send_statuses(self) -> None:
        if not self._wants_statuses:
            return
        if self._snapshot_due is not None:
            await self._send_snapshot(self._snapshot_due or None)
            return
        view = self._catalog.view
        try:
            events = self._catalog.since(view.epoch, self._revision)
        except OutdatedRevisionError as error:
            await self._send_snapshot(str(error))
            return
        turn = self._turn
        for event in events:
            self._revision = event.revision
            if (message := self._subscribers.message(view.epoch, event)) is not None:
                await self._send(message)
                if turn != self._turn:  # something else was subscribed meanwhile
                    self._news.set()
                    return
        await self._send_staleness()

    async def _send_snapshot(self, started_over: str | None) -> None:
        view, turn = self._catalog.view, self._turn
        self._snapshot_due = None
        self._revision, self._doubts = view.revision, _doubts(view)
        for part in self._subscribers.snapshot(view, started_over):
            await self._send(part)
            if turn != self._turn:
                return
        self._news.set()  # what came in meanwhile

    async def _send_staleness(self) -> None:
        view = self._catalog.view
        doubts = _doubts(view)
        if doubts != self._doubts:
            self._doubts = doubts
            message = {"type": "stale" if doubts[0] else "fresh"} | list_json.caveats(view)
            await self._send(orjson.dumps(message))

    async def _send_activity(self, kind: str) -> None:
        if (number := self._numbers.get(kind)) is None:
            return
        activities, missed = self._sockets.activity.since(kind, number)
        turn = self._turn
        if missed:
            self._numbers[kind] = number + missed
            dropped = {"type": "dropped", "events": [kind], "count": missed}
            await self._send(orjson.dumps(dropped))
        for each in activities:
            if turn != self._turn:
                self._news.set()
                return
            self._numbers[kind] = each.number + 1
            if self._subscribers.filter.passes(each.id, each.entry):
                await self._send(each.message)

    async def _send(self, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._sockets.write_timeout) as deadline:
                await self._socket.send_frame(message, WSMsgType.TEXT)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            # It leaves its connection full: closing it politely would take as long.
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the reader does not read") from error


def _doubts(view: View) -> tuple[bool, str | None]:
    return view.stale_since is not None, view.partial


async def stream(request: web.Request) -> web.StreamResponse:
    """What happens to connections, as WebSocket messages.

    Send `{"action": "subscribe", "events": ["connection-status", "health-check",
    "capability-request"]}`.
    """
    view_of(request)  # raises until there is a first list
    return await parts_of(request)[SOCKETS].serve(request)


OPERATIONS = (
    Operation(
        "GET",
        "/registry/stream",
        stream,
        "streams",
        answers={101: None},
        errors=(426,),
        needs="read",
    ),
)
