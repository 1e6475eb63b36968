"""What ``call_tool`` needs: somebody who calls a tool on whichever server offers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

#: Told of progress: how far it is, out of how much, and in words, the last two where known.
OnProgress: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None]]


class ToolCaller(Protocol):
    """Calls tools for the clients of ``/mcp``."""

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        server: str | None,
        timeout: float,
        on_progress: OnProgress | None,
    ) -> Mapping[str, Any]:
        """Calls the tool ``name``, of the server named ``server`` where that is said.

        Returns the tool's own result as JSON has it on MCP's wire: ``content``, and where the tool
        gave them ``structuredContent`` and ``isError``. ``on_progress`` is awaited for each
        progress notification of the tool. Whoever cancels this cancels the call.

        Raises :class:`~mcp_discovery.errors.DiscoveryError`, with a sentence that says what to do,
        where the tool was not called, and :class:`TimeoutError` after ``timeout`` seconds.
        """
        ...
