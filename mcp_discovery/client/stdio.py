"""MCP with a command that this process starts: messages over its pipes, its log into ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    METHOD_NOT_FOUND,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from mcp_discovery.client.attempt import Exchanges
from mcp_discovery.client.streams import oversized, regular
from mcp_discovery.program import Program
from mcp_discovery.stdio_child import ChildGoneError, StdioChild

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

#: How the modern era begins, and what a server of the legacy era does not know.
_DISCOVER = "server/discover"
#: Seconds that a command has to end after SIGTERM.
_GRACE = 2.0


@asynccontextmanager
async def stdio_transport(
    program: Program, name: str, exchanges: Exchanges, *, limit: int
) -> AsyncGenerator[TransportStreams, None]:
    """MCP over the pipes of a process of ``program``, which ends with this. One that ends at the
    first question of the modern era is started again for the legacy one.

    What it prints that is no message, and its standard error, go to the log with ``name`` before
    each line. A message over ``limit`` bytes ends it. Raises
    :class:`~mcp_discovery.child.ChildStartError`.
    """
    to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    child = await StdioChild.start(program, name, bound=False)
    #: The question for the era, as long as nothing else was asked, and nothing was answered.
    discovering: JSONRPCRequest | None = None

    async def deliver(message: JSONRPCMessage) -> None:
        nonlocal discovering
        discovering = None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it is over
            await to_session.send(SessionMessage(message))

    async def receive() -> None:
        nonlocal child
        async with to_session:
            while True:
                async for line in child.lines():
                    if len(line) > limit:
                        exchanges.break_off(oversized(exchanges, limit))
                        return
                    text = regular(line.decode("utf-8", "replace"))
                    try:
                        message = jsonrpc_message_adapter.validate_json(text, by_name=False)
                    except ValidationError:
                        child.skip(line)
                    else:
                        await deliver(message)
                ending = await child.ended()
                if discovering is None:
                    exchanges.break_off(ChildGoneError(f"its command {ending}"))
                    return
                # Some take nothing but the handshake of the legacy era first, and end.
                await child.stop(_GRACE)
                child = await StdioChild.start(program, name, bound=False)
                said = ErrorData(code=METHOD_NOT_FOUND, message=f"its command {ending}")
                await deliver(JSONRPCError(jsonrpc="2.0", id=discovering.id, error=said))

    async def send() -> None:
        nonlocal discovering
        first = True
        async with from_session:
            async for item in from_session:
                message, discovering = item.message, None
                if first and isinstance(message, JSONRPCRequest) and message.method == _DISCOVER:
                    discovering = message
                first = False
                text = message.model_dump_json(by_alias=True, exclude_unset=True)
                # Where it has ended, the end of its output tells why.
                with suppress(ChildGoneError):
                    await child.send(text.encode())

    try:
        async with anyio.create_task_group() as tasks, reading, writing:
            tasks.start_soon(receive)
            tasks.start_soon(send)
            yield reading, writing
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await child.stop(_GRACE)
