"""Where an agent finds tools, and calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mcp_types import CallToolResult

from mcp_discovery.client.tool import Tool

if TYPE_CHECKING:
    from mcp_discovery.client import Discovery

#: The most servers that a model is told of before it has searched.
MOST_SERVERS = 200


class Toolbox(Protocol):
    """The tools that somebody may use."""

    async def servers(self) -> Mapping[str, str]:
        """The servers that have some, up to :data:`MOST_SERVERS`, with their descriptions."""

    async def find(self, text: str, *, limit: int) -> Sequence[Tool]:
        """The best ``limit`` of them for what ``text`` asks; raises
        :class:`~mcp_discovery.errors.DiscoveryError`."""

    async def call(
        self, tool: Tool, arguments: Mapping[str, Any], *, timeout: float
    ) -> CallToolResult:
        """Calls one of those that were found; raises
        :class:`~mcp_discovery.errors.DiscoveryError`, the SDK's ``MCPError`` where the server
        answers with a JSON-RPC error, and :class:`TimeoutError`."""


class DiscoveryToolbox:
    """The tools of the servers that ``discovery`` follows."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    async def servers(self) -> Mapping[str, str]:
        """See :meth:`Toolbox.servers`."""
        offering = {each.server for each in await self._discovery.tools()}
        listed = await self._discovery.servers(status=("healthy", "degraded"))
        records = [each.record for each in listed]
        found = {each.name: each.description for each in records if each.name in offering}
        return dict(sorted(found.items())[:MOST_SERVERS])

    async def find(self, text: str, *, limit: int) -> Sequence[Tool]:
        """See :meth:`Toolbox.find`."""
        return await self._discovery.find(text, limit=limit)

    async def call(
        self, tool: Tool, arguments: Mapping[str, Any], *, timeout: float
    ) -> CallToolResult:
        """See :meth:`Toolbox.call`."""
        return await self._discovery.call(tool, arguments, timeout=timeout)
