"""The tools of each instance, which instances offer a tool, and the list as the SDK caches it.

A session that has read the tools checks results against their output schemas, and sends the
headers that some arguments ask for. The capability document has the same list, so the session takes
it from its cache and makes no request.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mcp.client.caching import CacheEntry, CacheKey
from mcp_types import ListToolsResult
from pydantic import ValidationError

from mcp_discovery.client.tool import tool_digest
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as one document defines it; ``digest`` identifies its schemas and hints."""

    definition: Mapping[str, Any]
    digest: str


class ServerTools:
    """All tools of one document.

    Built from MCP's definitions; a tool without a name cannot be called and is left out. ``read``
    is ``False`` for names alone, where nothing more could be read.
    """

    def __init__(self, tools: Iterable[Mapping[str, Any]], *, read: bool = True) -> None:
        self.by_name: dict[str, OfferedTool] = {}
        self._read = read
        for tool in tools:
            name = tool.get("name")
            if not isinstance(name, str) or not name:
                continue
            try:
                self.by_name.setdefault(name, OfferedTool(tool, tool_digest(tool)))
            except TypeError:
                log.warning("leaving out the tool %.80r: its definition is no JSON", name)

    @cached_property
    def result(self) -> ListToolsResult | None:
        """The SDK's result of ``tools/list``; ``None`` where it is not known, or breaks MCP."""
        if self._read:
            with suppress(ValidationError):  # the session asks the server itself
                definitions = [each.definition for each in self.by_name.values()]
                return ListToolsResult.model_validate({"tools": definitions})
        return None


class InstancesByTool:
    """Tool → the instances that offer it, so that a call needs no ``tools/list``."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self._by_tool: defaultdict[str, dict[str, OfferedTool | None]] = defaultdict(dict)

    def put(self, instance: Instance, offers: ServerTools | None) -> None:
        """``instance`` offers ``offers``, or, while those are being read, what its record names."""
        self.drop(instance.id)
        offered: Mapping[str, OfferedTool | None]
        if offers is None:
            offered = dict.fromkeys(instance.record.capabilities.tools)
        else:
            offered = offers.by_name
        self._names[instance.id] = tuple(offered)
        for name, offer in offered.items():
            self._by_tool[name][instance.id] = offer

    def drop(self, id: str) -> None:
        """The instance offers nothing."""
        for name in self._names.pop(id, ()):
            del self._by_tool[name][id]
            if not self._by_tool[name]:
                del self._by_tool[name]

    def of(self, tool: str) -> Mapping[str, OfferedTool | None]:
        """Instance → its offer of ``tool``; ``None`` where that is still being read."""
        return self._by_tool.get(tool, {})

    @property
    def tools(self) -> Iterable[str]:
        """The names of all tools."""
        return self._by_tool.keys()


class ResponseCache:
    """The SDK's cache of one session's responses, with the first ``tools/list`` already in it.

    ``listed`` gives the tools that the list of servers has now. What the server itself answers or
    invalidates takes precedence until the list has other tools for it.
    """

    def __init__(self, listed: Callable[[], ServerTools | None]) -> None:
        self._listed = listed
        self._overruled: ServerTools | None = None
        self._entries: dict[CacheKey, CacheEntry] = {}

    async def get(self, key: CacheKey) -> CacheEntry | None:
        tools = self._listed()
        if key.method != "tools/list" or tools is None or tools is self._overruled:
            return self._entries.get(key)
        if (result := tools.result) is None:
            return self._entries.get(key)
        return CacheEntry(result, "private", math.inf)

    async def set(self, key: CacheKey, entry: CacheEntry) -> None:
        self._entries[key] = entry
        if key.method == "tools/list":
            self._overruled = self._listed()

    async def delete(self, key: CacheKey) -> None:
        self._entries.pop(key, None)
        if key.method == "tools/list":
            self._overruled = self._listed()

    async def clear(self) -> None:
        self._entries.clear()
        self._overruled = self._listed()
