"""Responses to MCP requests over HTTP: one JSON message, or an event stream."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from mcp_discovery.disconnects import ClientGoneError
from mcp_discovery.mcp_messages import JsonRpcError, encoded, failure, framed

PING: Final = b": ping\n\n"
#: What a connection takes before it waits for its client, in bytes.
_PART: Final = 64 * 2**10
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """One response, by default as server-sent events; ``write_timeout`` bounds the write of each
    64 KiB, in seconds."""

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
        for begin in range(0, len(data), _PART):
            await self._write(data[begin : begin + _PART] if len(data) > _PART else data)

    async def _write(self, data: bytes) -> None:
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


async def respond_with_json(
    request: web.Request,
    message: Any,
    headers: dict[str, str],
    status: int = 200,
    *,
    write_timeout: float,
) -> web.StreamResponse:
    """Responds with one message, or a batch of them. Nobody waits for ever for a client that does
    not read a large one; raises :class:`ClientGoneError`."""
    response = json_response(message, headers, status)
    body = response.body
    if not isinstance(body, bytes) or len(body) <= _PART:
        return response
    stream = EventStream(request, write_timeout)
    head = {**response.headers, "Content-Length": str(len(body))}
    stream.response = web.StreamResponse(headers=head, status=status)
    await stream.response.prepare(request)
    await stream.write(body)
    return stream.response


def error_response(id: Any, fault: JsonRpcError) -> web.Response:
    """An error response with the HTTP status of the error."""
    return json_response(failure(id, fault), status=fault.modern_status)
