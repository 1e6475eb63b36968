"""MCP with a command that this process starts: messages over its pipes, its log into ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from mcp_discovery.client.attempt import Exchanges
from mcp_discovery.client.streams import oversized, regular
from mcp_discovery.program import Program
from mcp_discovery.stdio_child import ChildGoneError, StdioChild

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

#: Seconds that a command has to end after SIGTERM.
_GRACE = 2.0


@asynccontextmanager
async def stdio_transport(
    program: Program, name: str, exchanges: Exchanges, *, limit: int
) -> AsyncGenerator[TransportStreams, None]:
    """MCP over the pipes of a process of ``program``, which ends with this.

    What it prints that is no message, and its standard error, go to the log with ``name`` before
    each line. A message over ``limit`` bytes ends it. Raises
    :class:`~mcp_discovery.child.ChildStartError`.
    """
    to_session, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    child = await StdioChild.start(program, name)

    async def receive() -> None:
        async with to_session:
            async for line in child.lines():
                if len(line) > limit:
                    exchanges.break_off(oversized(exchanges, limit))
                    return
                text = regular(line.decode("utf-8", "replace"))
                try:
                    message = jsonrpc_message_adapter.validate_json(text, by_name=False)
                except ValidationError:
                    child.skip(line)
                    continue
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it is over
                    await to_session.send(SessionMessage(message))
            exchanges.break_off(ChildGoneError(f"its command {await child.ended()}"))

    async def send() -> None:
        async with from_session:
            async for item in from_session:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await child.send(text.encode())
                except ChildGoneError:
                    return  # the end of its output tells why

    try:
        async with anyio.create_task_group() as tasks, reading, writing:
            tasks.start_soon(receive)
            tasks.start_soon(send)
            yield reading, writing
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await child.stop(_GRACE)
