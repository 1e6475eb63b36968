"""How an instance is reached: the SDK's transports over the shared HTTP, and one for WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx2
from mcp.client import Transport
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from mcp_discovery.client.attempt import ATTEMPT
from mcp_discovery.client.http import MAX_RESPONSE, SharedHttp
from mcp_discovery.client.settings import ClientSettings
from mcp_discovery.instance import Instance

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams, WriteStream

    Writing = WriteStream[SessionMessage]


def transport_for(
    instance: Instance, url: str | None, settings: ClientSettings, http: SharedHttp
) -> Transport:
    """A transport to ``instance`` at ``url`` (``None`` for ``stdio``); nothing is connected yet.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` where a ``stdio`` server cannot be
    started for want of a variable.
    """
    endpoint = instance.record.endpoint
    auth = settings.auth_of(instance)
    match endpoint.transport:
        case "streamable-http":
            assert url is not None
            return streamable_http_client(url, http_client=http.client(auth=auth))
        case "sse":
            assert url is not None

            def client(
                headers: dict[str, str] | None = None,
                timeout: httpx2.Timeout | None = None,
                auth: httpx2.Auth | None = None,
            ) -> httpx2.AsyncClient:
                return http.client(auth=auth, headers=headers)

            return sse_client(url, auth=auth, httpx_client_factory=client)
        case "websocket":
            assert url is not None
            return _send_tracking(_websocket(url, auth))
        case "stdio":
            command, args, environment = settings.command_of(instance)
            started = StdioServerParameters(command=command, args=args, env=environment)
            return _send_tracking(stdio_client(started))


@asynccontextmanager
async def _send_tracking(
    inner: AbstractAsyncContextManager[TransportStreams],
) -> AsyncGenerator[TransportStreams, None]:
    """A transport that records in a call's :data:`ATTEMPT` that it was sent."""
    async with inner as (reading, writing):
        yield reading, _TrackedWrites(writing)


class _TrackedWrites:
    def __init__(self, inner: Writing) -> None:
        self._inner = inner

    async def send(self, item: SessionMessage, /) -> None:
        if (attempt := ATTEMPT.get()) is not None:
            attempt.sent = True
        await self._inner.send(item)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@asynccontextmanager
async def _websocket(url: str, auth: httpx2.Auth | None) -> AsyncGenerator[TransportStreams, None]:
    """MCP over WebSocket: one JSON-RPC message in each text frame, subprotocol ``mcp``.

    As the SDK before 2.0 implemented it; the SDK from 2.0 on has no such transport.
    """
    import aiohttp

    to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            url,
            protocols=["mcp"],
            headers=await _headers(url, auth),
            heartbeat=20.0,
            max_msg_size=MAX_RESPONSE,
        ) as socket,
        anyio.create_task_group() as tasks,
        reading,
        writing,
    ):

        async def receive() -> None:
            async with to_session:
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    try:
                        parsed = jsonrpc_message_adapter.validate_json(message.data, by_name=False)
                    except ValidationError as error:
                        await to_session.send(error)
                        continue
                    await to_session.send(SessionMessage(parsed))

        async def send() -> None:
            async with from_session:
                async for item in from_session:
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await socket.send_str(text)

        tasks.start_soon(receive)
        tasks.start_soon(send)
        yield reading, writing
        tasks.cancel_scope.cancel()


async def _headers(url: str, auth: httpx2.Auth | None) -> dict[str, Any]:
    """The Authorization that ``auth`` gives a request."""
    if auth is None:
        return {}
    flow = auth.async_auth_flow(httpx2.Request("GET", url.replace("ws", "http", 1)))
    request = await anext(flow)
    await flow.aclose()
    found = request.headers.get("Authorization")
    return {"Authorization": found} if found else {}
