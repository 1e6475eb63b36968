"""MCP over Streamable HTTP: one POST per request, answered as JSON or as an event stream.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp

from mcp_discovery.probe.errors import BadAnswerError
from mcp_discovery.probe.event_stream import EventReader
from mcp_discovery.probe.messages import (
    IDS_AS_STRINGS,
    McpCall,
    answer_in,
    misaddressed,
    parse,
)
from mcp_discovery.probe.wire import (
    Budget,
    Wire,
    read_beginning,
    read_whole,
    refusal,
    socket_errors,
)
from mcp_discovery.urls import resolve_in_origin

T = TypeVar("T")

_ACCEPT = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}
_EVENT_STREAM = "text/event-stream"
_SESSION = "Mcp-Session-Id"
_DRAIN_SECONDS = 0.05
_GOODBYE_SECONDS = 0.5


class StreamableHttp(Wire):
    """The wire of one Streamable HTTP endpoint, and its session where the server gives one."""

    _session_id: str | None = None

    @property
    def has_session(self) -> bool:
        """Whether the server keeps a session for this probe."""
        return self._session_id is not None

    async def open(self) -> None:
        await self.close()

    async def ask(self, call: McpCall, budget: Budget) -> dict[str, Any]:
        with socket_errors():
            for _ in range(2):
                answer = await _twice(lambda: self._post(call, budget))
                if isinstance(answer, dict):
                    return answer
                self.url = answer
        raise BadAnswerError("redirects the MCP endpoint more than once")

    async def notify(self, body: bytes, headers: Mapping[str, str]) -> None:
        async def post() -> None:
            sent = self._with_session(headers)
            async with self._request("POST", self.url, sent, body) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await refusal(response, "a notification")
                await read_beginning(response)

        with socket_errors():
            await _twice(post)

    async def listen(
        self, headers: Mapping[str, str], call: McpCall | None
    ) -> AsyncGenerator[bytes, None]:
        sent = self._with_session(headers)
        method, body = ("GET", None) if call is None else ("POST", call.body)
        if call is None:
            sent["Accept"] = _EVENT_STREAM
            del sent["Content-Type"]
        with socket_errors():
            async with self._request(method, self.url, sent, body) as response:
                if response.status != HTTPStatus.OK or response.content_type != _EVENT_STREAM:
                    raise BadAnswerError(
                        "no stream of notifications is offered", status=response.status
                    )
                async with aclosing(self._events(response)) as events:
                    async for event in events:
                        if event.name == "message":
                            yield event.data

    async def close(self) -> None:
        """End the session at the server, if there is one and the server can be reached."""
        if self._session_id is None:
            return
        headers = self._with_session({})
        self._session_id = None
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                asyncio.timeout(_GOODBYE_SECONDS),
                self._request("DELETE", self.url, headers),
            ):
                pass

    def _with_session(self, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {**self.headers, **_ACCEPT, **headers}
        if self._session_id is not None:
            sent[_SESSION] = self._session_id
        return sent

    async def _post(self, call: McpCall, budget: Budget) -> dict[str, Any] | str:
        """Send ``call`` once; returns its answer, or the URL to which it is redirected."""
        headers = self._with_session(call.headers)
        async with self._request("POST", self.url, headers, call.body) as response:
            if response.status in (307, 308):
                # Followed is only what a trailing slash causes: same origin, same method. Elsewhere
                # the headers, which may hold credentials, are not for the other server to see.
                target = resolve_in_origin(self.url, response.headers.get("Location", ""))
                if target is None:
                    raise BadAnswerError("redirects to another origin", status=response.status)
                return target
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise await refusal(response, call.method)
            if call.method == "initialize" and (given := response.headers.get(_SESSION)):
                self._session_id = given
            if response.content_type == _EVENT_STREAM:
                return await self._from_events(response, call, budget)
            return self._from_body(await read_whole(response, budget), call)

    async def _from_events(
        self, response: aiohttp.ClientResponse, call: McpCall, budget: Budget
    ) -> dict[str, Any]:
        events = EventReader(budget.bytes_left)
        async for chunk in response.content.iter_any():
            budget.take_bytes(len(chunk))
            for event in events.feed(chunk):
                if (answer := self._answer(event.data, call)) is not None:
                    await _drain(response)
                    return answer
        for event in events.finish():
            if (answer := self._answer(event.data, call)) is not None:
                return answer
        raise BadAnswerError(f"the event stream ended without an answer to {call.method}")

    def _from_body(self, body: bytes, call: McpCall) -> dict[str, Any]:
        if not body.strip():
            raise BadAnswerError(f"answered, but not MCP: no body to {call.method}")
        if (answer := self._answer(body, call)) is None:
            raise BadAnswerError("answered, but not MCP: the body is not a JSON-RPC answer")
        return answer

    def _answer(self, raw: bytes, call: McpCall) -> dict[str, Any] | None:
        """The answer in ``raw``, if one is there: here can be none but to the one request."""
        if not raw:
            return None  # an event that primes the client for resuming says nothing
        decoded = parse(raw)
        picked = answer_in(decoded, call.id)
        if picked.misaddressed:
            if isinstance(decoded, dict) and decoded.get("error") is not None:
                return decoded  # what the error says matters more than which id it bears
            raise misaddressed(call.method, picked.other_id)
        if picked.as_string:
            self.oddities.add(IDS_AS_STRINGS)
        return picked.message


async def _twice(exchange: Callable[[], Awaitable[T]]) -> T:
    """Run ``exchange``, and once more where a connection that existed broke.

    A server may close an idle connection at the very moment of its reuse (uvicorn does after
    5 s). All that a probe sends may be sent twice.
    """
    try:
        return await exchange()
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
        return await exchange()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Wait a moment for the end of the stream, so that its connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await read_beginning(response)
