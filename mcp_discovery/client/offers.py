"""What each instance offers, and which instances offer a tool alike."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_discovery.client.listing import Listing
from mcp_discovery.client.tool import tool_digest
from mcp_discovery.instance import Instance

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as one document spells it; ``digest`` stands for its schemas and hints."""

    definition: Mapping[str, Any]
    digest: str


class Offers:
    """All tools of one document, and the same as the SDK takes them.

    Built from tools as MCP spells them; one that has no name cannot be called and is left out.
    ``read`` is ``False`` for names alone, where nothing more could be read.
    """

    def __init__(self, tools: Iterable[Mapping[str, Any]], *, read: bool = True) -> None:
        self.by_name: dict[str, Offer] = {}
        self.read = read
        for tool in tools:
            name = tool.get("name")
            if not isinstance(name, str) or not name:
                continue
            try:
                self.by_name.setdefault(name, Offer(tool, tool_digest(tool)))
            except TypeError:
                log.warning("leaving out the tool %.80r: its definition is no JSON", name)

    @classmethod
    def names(cls, names: Iterable[str]) -> Offers:
        """Tools of which the names are known, and no more."""
        return cls([{"name": name} for name in names], read=False)

    def listing(self) -> Listing:
        """As a session takes it."""
        return Listing([each.definition for each in self.by_name.values()] if self.read else None)


class Index:
    """Tool → the instances that offer it: a call asks this, and no server."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self._by_tool: defaultdict[str, dict[str, Offer | None]] = defaultdict(dict)

    def put(self, instance: Instance, offers: Offers | None) -> None:
        """``instance`` offers ``offers``, or, while those are being read, what its record names."""
        self.drop(instance.id)
        offered: Mapping[str, Offer | None]
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

    def of(self, tool: str) -> Mapping[str, Offer | None]:
        """Instance → its offer of ``tool``; ``None`` where that is still being read."""
        return self._by_tool.get(tool, {})

    @property
    def tools(self) -> Iterable[str]:
        """The names of all tools."""
        return self._by_tool.keys()
