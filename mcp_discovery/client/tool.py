"""Tools: one as the client offers it, all of one document, and which instances offer which.

A session that has read the tools checks results against their output schemas, and sends the
headers that some arguments ask for. The capability document has the same list, so the session takes
it from its cache and makes no request.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from mcp.client.caching import CacheEntry, CacheKey
from mcp_types import ListToolsResult
from pydantic import ValidationError

from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of one server.

    ``name`` is what :meth:`Discovery.call` takes: the tool's own name, or ``<server>.<tool>`` where
    two servers offer one of that name. ``server`` is the server's name, ``server_id`` the id of one
    instance that offers the tool, ``definition`` MCP's definition of it. ``digest`` identifies what
    a caller depends on, the schemas and the annotations; replicas that differ in it are never
    mixed. ``replicas`` counts the instances that offer exactly this and can be called. ``why`` is
    one line of :meth:`Discovery.find`: which words were found.
    """

    name: str
    server: str
    server_id: str
    definition: Mapping[str, Any]
    digest: str
    replicas: int
    why: str | None = None

    @property
    def own_name(self) -> str:
        """The name by which the server knows it."""
        return str(self.definition["name"])

    @property
    def title(self) -> str | None:
        """Its name for people, where the server gives one."""
        title = self.definition.get("title") or self.annotations.get("title")
        return title if isinstance(title, str) else None

    @property
    def description(self) -> str:
        """What it does; empty where the server does not say."""
        description = self.definition.get("description")
        return description if isinstance(description, str) else ""

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of its arguments."""
        schema = self.definition.get("inputSchema")
        return schema if isinstance(schema, Mapping) else {"type": "object"}

    @property
    def output_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of its structured result, where there is one."""
        schema = self.definition.get("outputSchema")
        return schema if isinstance(schema, Mapping) else None

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The hints that the server gives; they are only as good as the server."""
        annotations = self.definition.get("annotations")
        return annotations if isinstance(annotations, Mapping) else {}

    @property
    def repeatable(self) -> bool:
        """Whether a call may be sent twice; see :func:`is_repeatable`."""
        return is_repeatable(self.definition)


def is_repeatable(definition: Mapping[str, Any]) -> bool:
    """Whether a tool says that it is read-only or idempotent: a call of it may be sent twice.

    The hints are those of MCP's ``ToolAnnotations``; one that gives none changes things.
    """
    hints = definition.get("annotations")
    if not isinstance(hints, Mapping):
        return False
    return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True


def tool_digest(definition: Mapping[str, Any]) -> str:
    """Identifies a tool's schemas and hints: 16 hex digits, the same for any order of members.

    Its description may change without changing what a caller has to send.
    """
    relevant = {
        key: definition[key]
        for key in ("name", "inputSchema", "outputSchema", "annotations")
        if definition.get(key)
    }
    canonical = orjson.dumps(relevant, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=8).hexdigest()


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

    def only(self, permitted: Callable[[str], bool]) -> ServerTools:
        """Those whose names are permitted."""
        kept = ServerTools((), read=self._read)
        kept.by_name = {name: each for name, each in self.by_name.items() if permitted(name)}
        return self if len(kept.by_name) == len(self.by_name) else kept

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
