"""Responses to MCP requests: one JSON message, or an event stream with progress."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web

from mcp_discovery.disconnects import ClientGoneError, DisconnectWatch
from mcp_discovery.facade.mcp.methods import McpClient, Methods
from mcp_discovery.facade.mcp.subscriptions import Subscription, SubscriptionEndedError
from mcp_discovery.facade.mcp.tool import OnProgress
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.mcp_messages import (
    CANCELLED,
    INVALID_REQUEST,
    JsonRpcError,
    RpcRequest,
    accepts,
    failure,
    framed,
    notification,
    result,
)
from mcp_discovery.mcp_responses import PING, EventStream, json_response


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
