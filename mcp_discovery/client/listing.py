"""A server's tools as its capability document lists them, in the shape the SDK's session takes.

A session that has read the tools checks results against their output schemas, and sends the
headers that some arguments ask for. The document says the same, so the request is not made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.client.caching import CacheEntry, CacheKey
from mcp_types import ListToolsResult
from pydantic import ValidationError


class Listing:
    """The tools of one document. ``tools`` is ``None`` where nobody has read them yet."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] | None) -> None:
        self._tools = tools
        self._result: ListToolsResult | None = None
        self._version = 0

    @property
    def version(self) -> int:
        """Goes up with each :meth:`become`."""
        return self._version

    def become(self, other: Listing) -> None:
        """Takes over what ``other`` lists: the sessions read it when they next ask."""
        self._tools, self._result = other._tools, other._result
        self._version += 1

    @property
    def result(self) -> ListToolsResult | None:
        """As the SDK spells it; ``None`` where it is not known, or breaks MCP."""
        if self._result is None and self._tools is not None:
            try:
                self._result = ListToolsResult.model_validate({"tools": list(self._tools)})
            except ValidationError:
                self._tools = None  # the session asks the server itself
        return self._result

    def store(self) -> _Answers:
        """The cache of one session."""
        return _Answers(self)


class _Answers:
    """The SDK's cache of responses, with the first ``tools/list`` already in it.

    What the server itself answers, or says to have changed, counts until the list tells of other
    tools.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._overruled: int | None = None  # the listing's version that the server knows better of
        self._kept: dict[CacheKey, CacheEntry] = {}

    async def get(self, key: CacheKey) -> CacheEntry | None:
        listed = key.method == "tools/list"
        if not listed or self._overruled == self._listing.version:
            return self._kept.get(key)
        if (result := self._listing.result) is None:
            return self._kept.get(key)
        return CacheEntry(result, "private", math.inf)

    async def set(self, key: CacheKey, entry: CacheEntry) -> None:
        self._kept[key] = entry
        if key.method == "tools/list":
            self._overruled = self._listing.version

    async def delete(self, key: CacheKey) -> None:
        self._kept.pop(key, None)
        if key.method == "tools/list":
            self._overruled = self._listing.version

    async def clear(self) -> None:
        self._kept.clear()
        self._overruled = self._listing.version
