"""Responses to MCP requests: one JSON message, or an event stream with progress."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from mcp_discovery.facade.http.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.facade.mcp import request_checks as gate
from mcp_discovery.facade.mcp.changes import Listener
from mcp_discovery.facade.mcp.messages import (
    CANCELLED,
    INVALID_REQUEST,
    STATUSES,
    JsonRpcError,
    Request,
    encoded,
    failure,
    framed,
    notification,
    result,
)
from mcp_discovery.facade.mcp.methods import Caller, Methods
from mcp_discovery.facade.mcp.tool import OnProgress
from mcp_discovery.facade.options import FacadeOptions

PING: Final = b": ping\n\n"
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """One answer as server-sent events; ``write_timeout`` in seconds is how long a client may
    leave its connection full."""

    def __init__(self, request: web.Request, write_timeout: float) -> None:
        self._request = request
        self._write_timeout = write_timeout
        self.response: web.StreamResponse | None = None

    async def start(self, headers: dict[str, str]) -> web.StreamResponse:
        """Sends the head; the body is all that is left to do."""
        self.response = web.StreamResponse(headers=_HEADERS | headers)
        await self.response.prepare(self._request)
        return self.response

    async def send(self, *messages: dict[str, Any]) -> None:
        """Writes messages; raises :class:`ClientGoneError`."""
        await self.write(b"".join(map(framed, messages)))

    async def write(self, data: bytes) -> None:
        """Writes bytes; raises :class:`ClientGoneError`."""
        assert self.response is not None
        try:
            async with asyncio.timeout(self._write_timeout) as deadline:
                await self.response.write(data)
        except ConnectionResetError as error:
            raise ClientGoneError from error
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ClientGoneError from error


#: Seconds between two batches of notifications to one client: what comes in between goes together.
_PACE: Final = 1.0
#: Seconds between two checks for clients that have left.
_DISCONNECT_CHECK: Final = 0.25
#: Progress that waits for a client; more of it is left out, since the latest says it all.
_MOST_WAITING: Final = 100


class Answering:
    """What both eras have in common."""

    def __init__(self, methods: Methods, options: FacadeOptions) -> None:
        self.methods = methods
        self.options = options
        self.disconnects = DisconnectWatch(_DISCONNECT_CHECK)
        self._calls: set[asyncio.Task[dict[str, Any]]] = set()

    async def close(self) -> None:
        """Cancels what calls are still under way, those of clients that have left among them."""
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def message(
        self, asked: Request, caller: Caller, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """The answer to a request, good or bad, as a message."""
        assert asked.id is not None
        try:
            return result(asked.id, await self.methods.answer(asked, caller, on_progress))
        except JsonRpcError as fault:
            return failure(asked.id, fault)

    def stream(self, request: web.Request) -> EventStream:
        """An answer to ``request`` as a stream, which has not begun."""
        return EventStream(request, self.options.write_timeout)

    async def tell(
        self, stream: EventStream, listener: Listener, meta: dict[str, Any] | None
    ) -> None:
        """Writes what ``listener`` has to be told, for ever.

        Raises :class:`ClientGoneError`, and
        :class:`~mcp_discovery.facade.mcp.changes.SubscriptionEndedError` when that was all.
        """
        while True:
            try:
                async with asyncio.timeout(self.options.ping):
                    notes = await listener.next(meta)
            except TimeoutError:
                await stream.write(PING)
                continue
            await stream.send(*notes)
            await listener.rest(_PACE)

    async def slowly(
        self, request: web.Request, asked: Request, caller: Caller, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Answers with JSON, or with a stream once there is progress to tell or time has passed.

        A modern client cancels by closing its connection. A legacy one says so in a notification,
        and means nothing by a connection that is lost. Raises :class:`JsonRpcError` for an id in
        use.
        """
        assert asked.id is not None
        running = caller.session.running if caller.session is not None else {}
        if asked.id in running:
            raise JsonRpcError(
                INVALID_REQUEST, f"the request id {asked.id!r} is in use", status=400
            )
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        streams = gate.accepts(request)[1]
        token = asked.progress_token if streams else None

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            told = {"progressToken": token, "progress": done, "total": total, "message": message}
            params = {name: value for name, value in told.items() if value is not None}
            if waiting.qsize() < _MOST_WAITING:
                waiting.put_nowait(framed(notification("notifications/progress", params)))

        task = asyncio.create_task(
            self.message(asked, caller, None if token is None else on_progress),
            name=f"mcp {asked.method}",
        )
        task.add_done_callback(lambda _: waiting.put_nowait(None))
        self._calls.add(task)
        running[asked.id] = task
        stream = self.stream(request)
        try:
            if caller.modern:
                async with self.disconnects.guard(request):
                    await self._follow(stream, waiting, headers, streams)
            else:
                await self._follow(stream, waiting, headers, streams)
            if task.cancelled():
                message = failure(asked.id, JsonRpcError(CANCELLED, "Request cancelled"))
            else:
                message = task.result()
            if stream.response is None:
                code = message.get("error", {}).get("code")
                return as_json(message, headers, STATUSES.get(code, 200) if caller.modern else 200)
            await stream.send(message)
        except (ClientGoneError, ConnectionResetError):
            if not caller.modern:
                await asyncio.wait({task})
        finally:
            running.pop(asked.id, None)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._calls.discard(task)
        return stream.response or gone()

    async def _follow(
        self,
        stream: EventStream,
        waiting: asyncio.Queue[bytes | None],
        headers: dict[str, str],
        streams: bool,
    ) -> None:
        """Writes what is ``waiting`` until there is no more of it."""
        while True:
            try:
                async with asyncio.timeout(self.options.ping):
                    frame = await waiting.get()
            except TimeoutError:
                frame = PING
            if frame is None:
                return
            if streams:
                if stream.response is None:
                    await stream.start(headers)
                await stream.write(frame)


def as_json(message: Any, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
    """An answer that is one message, or a batch of them."""
    return web.Response(
        status=status,
        body=encoded(message),
        content_type="application/json",
        # No two are alike: they are not worth compressing and keeping for others.
        headers={"Cache-Control": "no-cache, no-transform"} | (headers or {}),
    )


def as_error(id: Any, fault: JsonRpcError) -> web.Response:
    """An error that is one in HTTP's terms, too."""
    status = fault.status if fault.status != 200 else STATUSES.get(fault.code, 200)
    return as_json(failure(id, fault), status=status)


def gone() -> web.Response:
    """What a handler answers whose client has left: nobody reads it."""
    return web.Response(status=499)
