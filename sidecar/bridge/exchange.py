"""A client's requests in one POST while they are under way: answered with JSON, or a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from mcp_discovery.disconnects import cancelled_when_lost
from mcp_discovery.mcp_messages import (
    METHOD_NOT_FOUND,
    SUBSCRIPTION_KEY,
    Id,
    JsonRpcError,
    accepts,
    failure,
    notification,
    result,
)
from mcp_discovery.mcp_responses import respond_with_json
from mcp_discovery.sidecar.bridge.connection import Params
from mcp_discovery.sidecar.bridge.streams import (
    ALL,
    MOST_BYTES,
    PING_INTERVAL,
    WRITE_TIMEOUT,
    MessageStream,
    StreamMemory,
)


class PostedRequest:
    """One POST with requests in it. What is said before the answers makes a stream of the response,
    which ``make_stream`` gives; so does a wait of ``patience`` seconds."""

    def __init__(
        self,
        request: web.Request,
        headers: dict[str, str],
        make_stream: Callable[[], MessageStream],
        patience: float,
    ) -> None:
        self._request = request
        self._headers = headers
        self._make_stream = make_stream
        self._stream: MessageStream | None = None
        self._serving: asyncio.Task[web.StreamResponse] | None = None
        #: Whether the client takes more than the answer.
        self.streams = accepts(request)[1]
        self._timer: asyncio.TimerHandle | None = None
        if self.streams:
            self._timer = asyncio.get_running_loop().call_later(patience, self._open)

    def send(self, message: Mapping[str, Any]) -> bool:
        """Sends the client a message before the answers; whether it can be sent."""
        if not self.streams:
            return False
        self._open().append(message)
        return True

    async def respond(
        self, answers: list[dict[str, Any]], *, batch: bool = False, status: int = 200
    ) -> web.StreamResponse:
        """The response with the answers to its requests; ``status`` is for one with JSON."""
        self._stop_waiting()
        if self._serving is None or self._stream is None:
            message = answers if batch else answers[0]
            return await respond_with_json(
                self._request, message, self._headers, status, write_timeout=WRITE_TIMEOUT
            )
        for each in answers:
            self._stream.append(each, each["id"])
        self._stream.finish()
        return await self._serving

    async def close(self) -> None:
        """Ends the response where it is not finished."""
        self._stop_waiting()
        if self._serving is not None and not self._serving.done():
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    def _open(self) -> MessageStream:
        if self._stream is None:
            self._stop_waiting()
            self._stream = self._make_stream()
            self._serving = asyncio.create_task(
                self._stream.serve(self._request, self._headers), name="a stream of answers"
            )
        return self._stream

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ModernExchange:
    """The request ``id`` of a modern client, which ends when the client leaves; ``log_level`` is
    the least level of the server's messages that it wants with it."""

    def __init__(self, request: web.Request, id: Id, log_level: str | None = None) -> None:
        self.id = id
        self.client: object = self
        self.log_level = log_level
        self._request = request
        memory = StreamMemory(MOST_BYTES, ALL)
        self._post = PostedRequest(request, {}, lambda: MessageStream(memory), PING_INTERVAL)

    def notify(self, method: str, params: Params) -> None:
        """Sends the client a notification."""
        meta = params.get("_meta")
        if isinstance(meta, dict) and SUBSCRIPTION_KEY in meta:
            params = {**params, "_meta": {**meta, SUBSCRIPTION_KEY: self.id}}
        self._post.send(notification(method, params))

    async def ask(self, method: str, params: Params) -> dict[str, Any]:
        """Refuses: nobody answers a modern server's questions but by a request of its own."""
        raise JsonRpcError(METHOD_NOT_FOUND, f"{method}: this client cannot be asked")

    async def respond(self, work: Awaitable[Mapping[str, Any]]) -> web.StreamResponse:
        """The response to the request, whose result ``work`` is."""
        status = 200
        try:
            with cancelled_when_lost(self._request):
                try:
                    message = result(self.id, await work)
                except JsonRpcError as fault:
                    message, status = failure(self.id, fault), fault.modern_status
                return await self._post.respond([message], status=status)
        finally:
            await self._post.close()
