"""Responses to MCP requests: one JSON message, or an event stream with progress."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web

from mcp_discovery.facade.http.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.facade.mcp.messages import (
    CANCELLED,
    INVALID_REQUEST,
    JsonRpcError,
    RpcRequest,
    accepts,
    encoded,
    failure,
    framed,
    notification,
    result,
)
from mcp_discovery.facade.mcp.methods import McpClient, Methods
from mcp_discovery.facade.mcp.subscriptions import Subscription, SubscriptionEndedError
from mcp_discovery.facade.mcp.tool import OnProgress
from mcp_discovery.facade.options import FacadeOptions

PING: Final = b": ping\n\n"
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """One response as server-sent events; ``write_timeout`` bounds each write, in seconds."""

    def __init__(self, request: web.Request, write_timeout: float) -> None:
        self._request = request
        self._write_timeout = write_timeout
        self.response: web.StreamResponse | None = None

    @property
    def result(self) -> web.StreamResponse:
        """The response, or where none was started because the client has left, one for nobody."""
        return self.response or web.Response(status=499)

    async def start(self, headers: dict[str, str]) -> None:
        """Sends the status line and the headers."""
        self.response = web.StreamResponse(headers=_HEADERS | headers)
        await self.response.prepare(self._request)

    async def send(self, *messages: dict[str, Any]) -> None:
        """Writes messages; raises :class:`ClientGoneError`."""
        if messages:
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


class RpcReply(NamedTuple):
    """A response message, and the HTTP status with which a modern client gets it."""

    message: dict[str, Any]
    status: int = 200


#: Seconds between two batches of notifications to one client.
_PACE: Final = 1.0
#: Seconds between two checks for clients that have left.
_DISCONNECT_CHECK: Final = 0.25
#: How many progress notifications may wait for one client; further ones are dropped.
_MOST_WAITING: Final = 100


class Responses:
    """The responses of one facade that are not finished, whatever list they are made from."""

    def __init__(self, options: FacadeOptions) -> None:
        self.options = options
        self.disconnects = DisconnectWatch(_DISCONNECT_CHECK)
        #: The requests that run apart from the connection they came by.
        self.running: set[asyncio.Task[RpcReply]] = set()

    async def close(self) -> None:
        """Cancels the requests that are still running."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


class Responder:
    """Sends the responses of both protocol generations."""

    def __init__(self, methods: Methods, responses: Responses) -> None:
        self.methods = methods
        self._responses = responses
        self._options = responses.options

    async def reply(
        self, rpc: RpcRequest, client: McpClient, on_progress: OnProgress | None = None
    ) -> RpcReply:
        """The response to a request: its result, or an error."""
        assert rpc.id is not None
        try:
            return RpcReply(result(rpc.id, await self.methods.answer(rpc, client, on_progress)))
        except JsonRpcError as fault:
            return RpcReply(failure(rpc.id, fault), fault.modern_status)

    async def listen(
        self,
        request: web.Request,
        subscription: Subscription,
        headers: dict[str, str],
        meta: dict[str, Any] | None = None,
        first: Sequence[dict[str, Any]] = (),
        last: Sequence[dict[str, Any]] = (),
    ) -> web.StreamResponse:
        """Streams the notifications of ``subscription`` until it or the client ends.

        ``meta`` is their ``_meta``; ``first`` are the messages before them, and ``last`` those
        after them where the subscription ends.
        """
        stream = EventStream(request, self._options.write_timeout)
        try:
            await stream.start(headers)
            try:
                async with self._responses.disconnects.guard(request):
                    await stream.send(*first)
                    while True:
                        try:
                            async with asyncio.timeout(self._options.ping):
                                notifications = await subscription.next(meta)
                        except TimeoutError:
                            await stream.write(PING)
                            continue
                        await stream.send(*notifications)
                        await subscription.pause(_PACE)
            except SubscriptionEndedError:
                await stream.send(*last)
        except (ClientGoneError, ConnectionResetError):
            pass
        return stream.result

    async def respond_when_done(
        self, request: web.Request, rpc: RpcRequest, client: McpClient, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Responds with JSON, or with a stream once there is progress or a ping is due.

        A modern client cancels by closing its connection, a legacy one with a notification: its
        request goes on when the connection is lost. Raises :class:`JsonRpcError` for an id in use.
        """
        assert rpc.id is not None
        running = client.session.running if client.session is not None else {}
        if rpc.id in running:
            raise JsonRpcError(INVALID_REQUEST, f"the request id {rpc.id!r} is in use", status=400)
        waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        streams = accepts(request)[1]
        token = rpc.progress_token if streams else None

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            facts = {"progressToken": token, "progress": progress}
            facts |= {"total": total, "message": message}
            params = {name: value for name, value in facts.items() if value is not None}
            if waiting.qsize() < _MOST_WAITING:
                waiting.put_nowait(framed(notification("notifications/progress", params)))

        task = asyncio.create_task(
            self.reply(rpc, client, None if token is None else on_progress),
            name=f"mcp {rpc.method}",
        )
        task.add_done_callback(lambda _: waiting.put_nowait(None))
        self._responses.running.add(task)
        running[rpc.id] = task
        stream = EventStream(request, self._options.write_timeout)
        try:
            if client.modern:
                async with self._responses.disconnects.guard(request):
                    await self._follow(stream, waiting, headers, streams)
            else:
                await self._follow(stream, waiting, headers, streams)
            if task.cancelled():
                reply = RpcReply(failure(rpc.id, JsonRpcError(CANCELLED, "Request cancelled")))
            else:
                reply = task.result()
            if stream.response is None:
                status = reply.status if client.modern else 200
                return json_response(reply.message, headers, status)
            await stream.send(reply.message)
        except (ClientGoneError, ConnectionResetError):
            if not client.modern:
                await asyncio.wait({task})
        finally:
            running.pop(rpc.id, None)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._responses.running.discard(task)
        return stream.result

    async def _follow(
        self,
        stream: EventStream,
        waiting: asyncio.Queue[bytes | None],
        headers: dict[str, str],
        streams: bool,
    ) -> None:
        """Writes the frames in ``waiting`` until it holds ``None``."""
        while True:
            try:
                async with asyncio.timeout(self._options.ping):
                    frame = await waiting.get()
            except TimeoutError:
                frame = PING
            if frame is None:
                return
            if streams:
                if stream.response is None:
                    await stream.start(headers)
                await stream.write(frame)


def json_response(
    message: Any, headers: dict[str, str] | None = None, status: int = 200
) -> web.Response:
    """A response whose body is one message, or a batch of them."""
    return web.Response(
        status=status,
        body=encoded(message),
        content_type="application/json",
        # No two are equal, so compressing and caching them is of no use.
        headers={"Cache-Control": "no-cache, no-transform"} | (headers or {}),
    )


def error_response(id: Any, fault: JsonRpcError) -> web.Response:
    """An error response with the HTTP status of the error."""
    return json_response(failure(id, fault), status=fault.modern_status)
