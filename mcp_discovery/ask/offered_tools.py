"""Which tools the model is given: those that were found for its question, and a search for more.

Where its API can load tools later, those that the model finds itself are loaded by its own search
and leave what the API has cached as it is; elsewhere the search is a tool like any other, and what
it finds stands in the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from mcp_types import CallToolResult, TextContent

from mcp_discovery.ask.model import Model
from mcp_discovery.ask.toolbox import Toolbox
from mcp_discovery.client.formats import (
    SEARCH_TOOL,
    DeferredToolList,
    ToolCall,
    ToolList,
    export,
    question_of,
    render_result,
)
from mcp_discovery.client.formats.deferred import SEARCH_PARAMETERS, search_descriptions
from mcp_discovery.client.tool import Tool
from mcp_discovery.query.question import MAX_TEXT
from mcp_discovery.tokens import token_counter

#: How many tools a question finds before the model has said anything.
FIRST_FOUND: Final = 8
#: How many tools one conversation has at most; OpenAI and Gemini take 128.
_MOST: Final = 120
#: How many tokens the description of the search may take.
_OVERVIEW: Final = 1_500
#: The name of the search, where the API has none.
FIND_TOOLS: Final = "find_tools"


class OfferedTools:
    """The tools that one conversation with ``model`` has, of ``toolbox``."""

    def __init__(self, toolbox: Toolbox, model: Model) -> None:
        self._toolbox = toolbox
        self._model = model
        #: By name and server, in the order in which they were found.
        self._found: dict[tuple[str, str], Tool] = {}
        self._loaded: tuple[Tool, ...] = ()
        self._servers: Mapping[str, str] = {}
        self._search: Tool | None = None
        self._listed: ToolList | None = None

    async def begin(self, question: str) -> list[Tool]:
        """Finds the tools for ``question``; raises
        :class:`~mcp_discovery.errors.DiscoveryError`."""
        self._servers = await self._toolbox.servers()
        try:
            found = list(await self._toolbox.find(question[:MAX_TEXT], limit=FIRST_FOUND))
        except ValueError:  # it has no word that can be searched for
            found = []
        self._loaded = tuple(found)
        self._keep(found)
        if not self._model.defers:
            self._search = await asyncio.to_thread(_search_tool, self._servers)
        return found

    async def payload(self) -> list[dict[str, Any]]:
        """The tools as the model's API takes them now."""
        # In a thread: schemas may be large.
        self._listed = await asyncio.to_thread(self._made)
        return self._listed

    def _made(self) -> ToolList:
        model, tools = self._model, list(self._found.values())
        if self._search is not None:
            return export([self._search, *tools], model.format, **model.options)
        before = self._listed if isinstance(self._listed, DeferredToolList) else None
        return DeferredToolList(
            *(tools, model.format),
            max_tokens=_OVERVIEW,
            about=self._servers,
            loaded=self._loaded,
            before=before,
            **model.options,
        )

    def tool(self, call: ToolCall) -> Tool | None:
        """The tool that the model calls; ``None`` where it has none of that name."""
        return None if self._listed is None else self._listed.names.get(call.name)

    def restored(self, call: ToolCall) -> dict[str, Any]:
        """The arguments of ``call`` as its server expects them."""
        assert self._listed is not None
        return self._listed.restore(call.name, call.arguments)

    def is_search(self, call: ToolCall) -> bool:
        """Whether ``call`` is a search for more tools."""
        if self._search is not None:
            return self.tool(call) is self._search
        return call.search or call.name == SEARCH_TOOL

    async def search(self, call: ToolCall) -> tuple[str, list[Tool], dict[str, Any]]:
        """What the model searches for, what that finds, and the message that answers it.

        Raises :class:`~mcp_discovery.errors.DiscoveryError`, which is for the model to read.
        """
        text, most = question_of(call)
        found = self._keep(await self._toolbox.find(text[:MAX_TEXT], limit=most))
        listed = await self.payload()
        if isinstance(listed, DeferredToolList):
            return text, found, listed.answer(call, found)
        names = {(each.name, each.server): name for name, each in self._names()}
        lines = [_line(names.get((each.name, each.server)), each) for each in found]
        said = "\n".join(filter(None, lines)) or "No tool matches; search with other words."
        content = [TextContent(type="text", text=said)]
        return text, found, render_result(call, CallToolResult(content=content))

    def _names(self) -> Iterable[tuple[str, Tool]]:
        return self._listed.names.items() if self._listed is not None else ()

    def _keep(self, found: Iterable[Tool]) -> list[Tool]:
        """Takes up those that were found, as far as there is room; returns those that are there."""
        kept = []
        for each in found:
            key = each.name, each.server
            if key in self._found or len(self._found) < _MOST:
                kept.append(self._found.setdefault(key, each))
        return kept


def _search_tool(servers: Mapping[str, str]) -> Tool:
    counter = token_counter()
    descriptions = search_descriptions(servers)
    about = next(each for each in descriptions if counter.fits(each, _OVERVIEW))
    definition = {
        "name": FIND_TOOLS,
        "description": about,
        "inputSchema": SEARCH_PARAMETERS,
    }
    return Tool(FIND_TOOLS, "", "", definition, "search", 1)


def _line(name: str | None, tool: Tool) -> str:
    """One tool as the model reads it; empty where the API cannot be given it."""
    if name is None:
        return ""
    about = " ".join((tool.description or tool.title or "").split())[:300]
    return f"{name} (of {tool.server}): {about}".removesuffix(": ")
