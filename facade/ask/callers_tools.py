"""The tools of one caller, for the agent: what it sees and may call, found and called as others
are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from mcp_discovery.adapters.view import Entry, View
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.calling import may_call
from mcp_discovery.facade.access.parts import PartSet
from mcp_discovery.facade.access.quotas import Quotas
from mcp_discovery.facade.mcp.call_tool import CallTool
from mcp_discovery.facade.servers.current_list import CATALOG, current_view
from mcp_discovery.facade.servers.search_index import SEARCH
from mcp_discovery.facade.tools.handlers import TOOL_DEFINITIONS
from mcp_discovery.facade.tools.index import (
    DOCUMENTS_TIMEOUT,
    digests_of,
    instance_groups,
    tool_offers,
)
from mcp_discovery.facade.tools.ranking import ToolMatch
from mcp_discovery.query.query import Query
from mcp_discovery.query.question import Question

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from mcp_discovery.client.tool import Tool

_HEALTHY = Query(status="healthy")


class CallersTools:
    """See :class:`mcp_discovery.ask.Toolbox`: the tools of ``caller``, of whose list ``parts`` are.

    ``call_tool`` calls them, which counts as a call of the caller, and is recorded as one.
    """

    def __init__(
        self, parts: PartSet, caller: Caller, call_tool: CallTool, quotas: Quotas | None
    ) -> None:
        self._parts = parts
        self._caller = caller
        self._call_tool = call_tool
        self._quotas = quotas

    def _view(self) -> View:
        return current_view(self._parts[CATALOG])

    def _may_call(self, entry: Entry, tool: str | None = None) -> bool:
        return may_call(self._caller.rights, entry.instance, tool)

    async def servers(self) -> Mapping[str, str]:
        """See :meth:`mcp_discovery.ask.Toolbox.servers`."""
        from mcp_discovery.ask.toolbox import MOST_SERVERS

        view = self._view()

        def found() -> Iterator[tuple[str, str]]:
            for name in sorted(view.keys("name")):
                for entry in view.select(Query(name=name, status="healthy")):
                    if entry.record.capabilities.tools and self._may_call(entry):
                        yield name, entry.record.description
                        break

        return await asyncio.to_thread(lambda: dict(islice(found(), MOST_SERVERS)))

    async def find(self, text: str, *, limit: int) -> Sequence[Tool]:
        """See :meth:`mcp_discovery.ask.Toolbox.find`."""
        question = Question(text)
        if not question.words:
            return ()
        view, definitions = self._view(), self._parts[TOOL_DEFINITIONS]
        selected = await asyncio.to_thread(view.select, _HEALTHY)
        groups = await asyncio.to_thread(instance_groups, selected)
        known = await definitions.of(digests_of(groups), timeout=DOCUMENTS_TIMEOUT)
        ranks = await self._parts[SEARCH].tools(question, known)

        def best() -> list[Tool]:
            offers = tool_offers(groups, known, frozenset())
            found = (self._tool(view, each) for each in ranks.matches(offers))
            return list(islice((each for each in found if each is not None), limit))

        # In a thread: there may be many tools.
        return await asyncio.to_thread(best)

    def _tool(self, view: View, found: ToolMatch) -> Tool | None:
        """A tool that was found; ``None`` for one that the caller may not call, or of which too
        little is known."""
        from mcp_discovery.client.tool import Tool

        offering = view.select(Query(name=found.server, tool=found.name, status="healthy"))
        ids = [each.id for each in offering if self._may_call(each, found.name)]
        if found.definition is None or not ids:
            return None
        # Of several servers with a tool of one name the model has to see whose each is.
        name = f"{found.server}.{found.name}"
        digest = found.definition.digest
        return Tool(name, found.server, ids[0], found.tool, digest, len(ids), found.why)

    async def call(
        self, tool: Tool, arguments: Mapping[str, Any], *, timeout: float
    ) -> CallToolResult:
        """See :meth:`mcp_discovery.ask.Toolbox.call`."""
        from mcp_types import CallToolResult

        if self._quotas is not None:
            await self._quotas.take(self._caller, "calls")
        given: dict[str, Any] = {"name": tool.own_name, "server": tool.server}
        given |= {"arguments": arguments, "timeout": timeout}
        result = await self._call_tool.run(given, None, self._caller)
        return CallToolResult.model_validate(result)
