"""The tools that are deferred, and the search that finds them for a model."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from mcp_discovery.client.formats import (
    SEARCH_TOOL,
    DeferredToolList,
    Format,
    ToolCall,
    question_of,
    render_error,
)
from mcp_discovery.client.pool import ConnectionPool
from mcp_discovery.client.routing import Router
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.query.index import Corpus, Definitions, SearchIndex
from mcp_discovery.query.question import Question
from mcp_discovery.record import Record


class ToolSearch:
    """The deferred tools of one client; they are indexed when something is searched for."""

    def __init__(self, pool: ConnectionPool, router: Router) -> None:
        self._pool = pool
        self._router = router
        self._lists: dict[Format, DeferredToolList] = {}
        #: The tools that models have found, which their conversations go on naming.
        self._found: defaultdict[Format, dict[tuple[str, str], Tool]] = defaultdict(dict)
        self._index = SearchIndex(Corpus())
        self._indexed: dict[str, tuple[Record, Sequence[Tool]]] = {}
        self._versions = count()
        self._lock = asyncio.Lock()

    async def listed(
        self, tools: Sequence[Tool], format: Format, options: Mapping[str, Any]
    ) -> DeferredToolList:
        """``tools`` for a model of ``format``; raises :class:`InvalidInputError`."""
        about = {name: record.description for name, record in self._records().items()}
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
        """The message that gives the model what its search ``call`` finds."""
        try:
            text, most = question_of(call)
        except InvalidInputError as error:
            return render_error(call, str(error))
        listed: dict[str, list[Tool]] = {}
        for tool in self._router.tools():
            listed.setdefault(tool.server, []).append(tool)
        async with self._lock:
            found = await asyncio.to_thread(self._best, text, listed, self._records(), most)
        self._found[call.format] |= {(each.name, each.server): each for each in found}
        return self._lists[call.format].answer(call, found)

    def _records(self) -> dict[str, Record]:
        """The record of one instance of each server, by the server's name."""
        every = self._pool.connections.values()
        return {each.instance.record.name: each.instance.record for each in every}

    def _best(
        self,
        text: str,
        listed: Mapping[str, Sequence[Tool]],
        records: Mapping[str, Record],
        most: int,
    ) -> list[Tool]:
        """The tools that fit ``text`` best, best first, at most so many."""
        for server in self._indexed.keys() - listed.keys():
            self._index.remove(self._indexed.pop(server)[0].id)
        for server, tools in listed.items():
            self._put(server, records[server], tools)
        for _ in self._index.work():
            pass
        ranking = self._index.tools(Question(text), most=most)
        found = sorted(ranking, key=lambda key: (-ranking.score(key), key[0], key[1]))
        by_name = {
            (each.own_name, each.server): each for tools in listed.values() for each in tools
        }
        return [by_name[name, server] for name, server, _ in found[:most]]

    def _put(self, server: str, record: Record, tools: Sequence[Tool]) -> None:
        """Indexes a server and its tools, unless the very same are."""
        if (before := self._indexed.get(server)) is not None:
            if before[0] is record and _same(before[1], tools):
                return
            self._index.remove(before[0].id)
        self._indexed[server] = record, tools
        # What is indexed of its tools is what this client calls, wherever it was read.
        version = f"{next(self._versions)}"
        definitions: Definitions = {
            ("tool", tool.own_name): (f"{version}/{tool.own_name}", tool.definition)
            for tool in tools
        }
        names = tuple(name for _, name in definitions)
        capabilities = record.capabilities.model_copy(
            update={"tools": names, "skills": (), "digest": version}
        )
        self._index.put(record.model_copy(update={"capabilities": capabilities}))
        for _ in self._index.work():
            pass
        for _ in self._index.describe(version, definitions):
            pass


def _same(before: Sequence[Tool], after: Sequence[Tool]) -> bool:
    pairs = zip(before, after, strict=False)
    same = all(one.definition is other.definition for one, other in pairs)
    return same and len(before) == len(after)
