"""The parts that show one list: the whole, or what some callers see of it.

A new one is a line in :class:`ListParts`; who shows the list with it takes it from
:func:`mcp_discovery.facade.access.parts.parts_of`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.adapters.missed import MissedInstances
from mcp_discovery.adapters.named_queries import NamedQueries
from mcp_discovery.balancing import RoundRobin
from mcp_discovery.facade.access.parts import PartSet
from mcp_discovery.facade.access.rights import Rights
from mcp_discovery.facade.access.visible_list import VisibleList
from mcp_discovery.facade.ard.entries import ARD_ENTRIES, ArdEntries
from mcp_discovery.facade.connections.handlers import ROTATION, arrangement
from mcp_discovery.facade.documents.documents import DOCUMENTS, Documents
from mcp_discovery.facade.mcp.server import MCP_SERVICE, McpServer, McpService
from mcp_discovery.facade.options import FacadeOptions
from mcp_discovery.facade.pages.server_lines import SERVER_LINES, ServerLines
from mcp_discovery.facade.queries.answers import NAMED_ANSWERS, NamedAnswers
from mcp_discovery.facade.registry.cards import AI_CATALOGS, AiCatalogs
from mcp_discovery.facade.registry.index import AGENT_INDEX, REGISTRY_INDEX, RegistryIndex
from mcp_discovery.facade.registry.server_json import Addresses
from mcp_discovery.facade.servers.current_list import CATALOG, MISSED
from mcp_discovery.facade.servers.events import STREAMS, EventStreams
from mcp_discovery.facade.servers.long_poll import POLLS, LongPolls
from mcp_discovery.facade.servers.results import LISTS, ServerLists
from mcp_discovery.facade.servers.search_index import SEARCH, SearchTexts, ServerSearch
from mcp_discovery.facade.tools.handlers import TOOL_DEFINITIONS, TOOL_LISTINGS, ToolListings
from mcp_discovery.facade.tools.index import ToolDefinitions
from mcp_discovery.facade.usage.usage import CAPABILITY_REQUEST, HEALTH_CHECK, USAGE, Usage
from mcp_discovery.facade.usage.visible_usage import VisibleUsage
from mcp_discovery.facade.websocket.sockets import SOCKETS, Sockets
from mcp_discovery.record import AGENT


class ListParts(PartSet):
    """The parts over ``catalog``, which work inside of :meth:`running`."""

    def __init__(
        self,
        catalog: LiveList,
        usage: Usage,
        mcp: McpServer,
        addresses: Addresses,
        options: FacadeOptions,
        texts: SearchTexts,
        queries: NamedQueries,
    ) -> None:
        super().__init__()
        documents = Documents(catalog)
        definitions = ToolDefinitions(documents)
        search = ServerSearch(catalog, definitions, usage, texts)
        lists = ServerLists(catalog, search)
        polls = LongPolls(catalog, lists)
        search.listeners.append(polls.descriptions_known)
        pace = {"ping": options.ping, "write_timeout": options.write_timeout}
        sockets = Sockets(catalog, **pace, idle=options.idle)
        for kind in (CAPABILITY_REQUEST, HEALTH_CHECK):
            usage.listen(kind, sockets.activity.append)
        index = RegistryIndex(catalog, addresses)
        agents = self[AGENT_INDEX] = RegistryIndex(catalog, addresses, kind=AGENT)
        self[CATALOG], self[DOCUMENTS], self[USAGE] = catalog, documents, usage
        self[SERVER_LINES] = ServerLines()
        self[MISSED], self[ROTATION] = MissedInstances(catalog), RoundRobin()
        self[SEARCH], self[LISTS], self[POLLS] = search, lists, polls
        self[STREAMS], self[SOCKETS] = EventStreams(catalog, **pace), sockets
        self[TOOL_DEFINITIONS], self[TOOL_LISTINGS] = definitions, ToolListings(definitions)
        answers = NamedAnswers(catalog, lists, queries, arrangement(self))
        self[NAMED_ANSWERS] = answers
        self[REGISTRY_INDEX], self[AI_CATALOGS] = index, AiCatalogs(index, agents)
        self[ARD_ENTRIES] = ArdEntries(index, agents)
        self[MCP_SERVICE] = McpService(mcp, catalog, documents, search, definitions, answers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Their own tasks."""
        works = {
            "definitions of tools": self[SEARCH].run(),
            "long polls": self[POLLS].run(),
            "named queries": self[NAMED_ANSWERS].run(),
            "registry entries": self[REGISTRY_INDEX].run(),
            "agents": self[AGENT_INDEX].run(),
            "gone readers": self[STREAMS].open.run(),
            "wake event readers": self[STREAMS].fanout.run(),
            "wake socket readers": self[SOCKETS].fanout.run(),
            "MCP subscriptions": self[MCP_SERVICE].subscriptions.run(),
            "forget usage": self[USAGE].forget_gone(self[CATALOG]),
        }
        tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_used(self) -> bool:
        """Whether anybody waits for what happens to the list."""
        return len(self[MCP_SERVICE].subscriptions) > 0

    def close(self) -> None:
        """Ends every stream and every waiting request, and those to come."""
        for part in (self[STREAMS], self[SOCKETS], self[POLLS], self[NAMED_ANSWERS]):
            part.close()
        self[MCP_SERVICE].subscriptions.close()


class VisibleParts(ListParts):
    """The parts over what callers with ``rights`` see of the list of ``whole``."""

    def __init__(
        self,
        whole: ListParts,
        rights: Rights,
        mcp: McpServer,
        options: FacadeOptions,
        turn: asyncio.Lock,
    ) -> None:
        self._whole = whole
        self._list = VisibleList(whole[CATALOG], rights, ring=options.ring, turn=turn)
        self._usage = VisibleUsage(whole[USAGE], self._list)
        addresses, texts = whole[REGISTRY_INDEX].addresses, whole[SEARCH].texts
        queries = whole[NAMED_ANSWERS].queries
        super().__init__(self._list, self._usage, mcp, addresses, options, texts, queries)
        whole[MISSED].listeners.append(self[MISSED].forget)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See :meth:`ListParts.running`."""
        following = asyncio.create_task(self._list.run(), name="visible list")
        try:
            async with super().running():
                yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            self._list.close()
            self[SEARCH].close()
            self._usage.close()
            self._whole[MISSED].listeners.remove(self[MISSED].forget)

    @property
    def is_in_step(self) -> bool:
        """Whether the list shows what the whole list shows now."""
        return self._list.is_in_step

    async def in_step(self) -> None:
        """Waits until the list shows what the whole list shows now."""
        await self._list.in_step()


#: The parts over the whole list.
PARTS = web.AppKey("parts", ListParts)
