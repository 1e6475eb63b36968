"""MCP over Streamable HTTP: one POST per request, answered as JSON or as an event stream.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
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
    HttpWire,
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
_TASK = "mcp-probe-session"
_SESSION = "Mcp-Session-Id"
_DRAIN_SECONDS = 0.05
#: How many seconds whoever closes a session waits for the server's word, and how many the server
#: has for it: a slow one is asked all the same.
_GOODBYE_SECONDS, _LONGEST_GOODBYE = 0.5, 15.0
#: How many seconds the answer to a handshake is awaited after it was given up: who opened a session
#: in it would keep that.
_LATE = 60.0
#: With so many of these under way, no other begins: some servers start a process for each.
_MOST_LATE = 2


@dataclass(slots=True)
class _Opening:
    """A handshake under way: where it is made, and the session that it opens."""

    url: str
    session_id: str | None = None


@dataclass(eq=False, kw_only=True)
class StreamableHttp(HttpWire):
    """The wire of one Streamable HTTP endpoint, and its session where the server gives one."""

    _session_id: str | None = None
    _late: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _goodbyes: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def has_session(self) -> bool:
        """Whether the server keeps a session for this probe."""
        return self._session_id is not None

    async def open(self) -> None:
        await self.close()
        while len(self._late) >= _MOST_LATE:
            await asyncio.wait(self._late, return_when=asyncio.FIRST_COMPLETED)

    async def ask(self, call: McpCall, budget: Budget) -> dict[str, Any]:
        if call.method != "initialize":
            return await self._exchange(call, budget)
        opening = _Opening(self.url)
        asking = asyncio.create_task(self._exchange(call, budget, opening), name=_TASK)
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._beside(self._late, self._closed_late(asking, opening))
            raise
        except BaseException:
            self._part(opening)
            raise
        if self._session_id is not None:
            self._part(_Opening(self.url, self._session_id))
        self._session_id = opening.session_id
        return answer

    async def _exchange(
        self, call: McpCall, budget: Budget, opening: _Opening | None = None
    ) -> dict[str, Any]:
        with socket_errors():
            for _ in range(2):
                answer = await _twice(lambda: self._post(call, budget, opening))
                if isinstance(answer, dict):
                    return answer
                self.url = answer
                if opening is not None:
                    opening.url = answer
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
        opening = _Opening(self.url, self._session_id)
        self._session_id = None
        if (goodbye := self._part(opening)) is not None:
            await asyncio.wait({goodbye}, timeout=_GOODBYE_SECONDS)

    @property
    def has_unfinished(self) -> bool:
        return bool(self._late)

    async def settle(self, within: float) -> None:
        for unfinished in (self._late, self._goodbyes):  # a late one ends in a goodbye
            if unfinished:
                await asyncio.wait(unfinished, timeout=within)
            within = _GOODBYE_SECONDS
            for task in list(unfinished):
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _closed_late(self, asking: asyncio.Task[dict[str, Any]], opening: _Opening) -> None:
        """Wait for an answer that nobody wants any more, and close the session that it opens."""
        try:
            await asyncio.wait({asking}, timeout=_LATE)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self._part(opening)

    def _part(self, opening: _Opening) -> asyncio.Task[None] | None:
        """Begin to close the session that was opened, if there is one."""
        if opening.session_id is None:
            return None
        headers = {**self.headers, _SESSION: opening.session_id}
        return self._beside(self._goodbyes, self._closed(opening.url, headers))

    async def _closed(self, url: str, headers: Mapping[str, str]) -> None:
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                asyncio.timeout(_LONGEST_GOODBYE),
                self._request("DELETE", url, headers),
            ):
                pass

    @staticmethod
    def _beside(
        tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=_TASK)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _with_session(self, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {**self.headers, **_ACCEPT, **headers}
        if self._session_id is not None:
            sent[_SESSION] = self._session_id
        return sent

    async def _post(
        self, call: McpCall, budget: Budget, opening: _Opening | None
    ) -> dict[str, Any] | str:
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
            if _SESSION not in headers and (given := response.headers.get(_SESSION)):
                if opening is not None:
                    opening.session_id = given
                else:  # the Python SDK 1.x opens one for whatever it is asked, and refuses that
                    self._part(_Opening(self.url, given))
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise await refusal(response, call.method)
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
