"""The tools that are deferred, and the answers to a model's searches for them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from mcp_discovery.client.formats import (
    SEARCH_TOOL,
    DeferredToolList,
    Format,
    ToolCall,
    question_of,
    render_error,
)
from mcp_discovery.client.pool import ConnectionPool
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import DiscoveryError


class Finds(Protocol):
    """:meth:`Discovery.find`."""

    def __call__(self, text: str, *, limit: int) -> Awaitable[Sequence[Tool]]: ...


class ToolSearch:
    """The deferred tools of one client, in each format; ``find`` searches."""

    def __init__(self, pool: ConnectionPool, find: Finds) -> None:
        self._pool = pool
        self._find = find
        self._lists: dict[Format, DeferredToolList] = {}
        #: The tools that models have found, which their conversations go on naming.
        self._found: defaultdict[Format, dict[tuple[str, str], Tool]] = defaultdict(dict)

    async def listed(
        self, tools: Sequence[Tool], format: Format, options: Mapping[str, Any]
    ) -> DeferredToolList:
        """``tools`` for a model of ``format``; raises :class:`InvalidInputError`."""
        records = (each.instance.record for each in self._pool.connections.values())
        offering = {tool.server for tool in tools}
        about = {each.name: each.description for each in records if each.name in offering}
        found = list(self._found[format].values())
        more = {**options, "about": about, "found": found, "before": self._lists.get(format)}
        # In a thread: there may be many tools.
        made = await asyncio.to_thread(DeferredToolList, tools, format, **more)
        self._lists[format] = made
        return made

    def serves(self, call: ToolCall) -> bool:
        """Whether ``call`` is a search for tools, of such a list."""
        return call.format in self._lists and (call.search or call.name == SEARCH_TOOL)

    async def answer(self, call: ToolCall) -> dict[str, Any]:
        """The message that gives the model what its search ``call`` finds, or says why there is
        nothing."""
        try:
            text, most = question_of(call)
            found = await self._find(text, limit=most)
        except DiscoveryError as error:
            return render_error(call, str(error))
        self._found[call.format] |= {(each.name, each.server): each for each in found}
        return self._lists[call.format].answer(call, found)
