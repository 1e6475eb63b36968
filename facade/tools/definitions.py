"""Tool definitions as they stand in capability documents, read once for each document."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import orjson
from cachetools import LRUCache

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DocumentNotFoundError, StoreError
from mcp_discovery.facade.documents.cache import Documents
from mcp_discovery.query.search import DESCRIPTION, NAME, TITLE, words

#: For how many seconds one request waits for documents that are not in the cache.
DOCUMENTS_TIMEOUT = 2.0
#: How much the cache holds, in bytes of the documents' canonical JSON.
_CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ToolDefinition:
    """One tool of one document; ``digest`` is the SHA-256 of the tool's canonical JSON."""

    digest: str
    tool: Mapping[str, Any]

    @cached_property
    def weights(self) -> Mapping[str, int]:
        """The search weight of each of its words."""
        return weights_of(self.tool["name"], self.text("title"), self.text("description"))

    def text(self, member: str) -> str | None:
        """The value of ``member`` where it is a string, else ``None``."""
        value = self.tool.get(member)
        return value if isinstance(value, str) else None


#: The tools of one document by name.
Tools: TypeAlias = Mapping[str, ToolDefinition]


class ToolDefinitions:
    """A cache of the tools of each document, by the document's digest."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._cache: LRUCache[str, tuple[Tools, int]] = LRUCache(
            _CACHE_BYTES, getsizeof=lambda cached: cached[1]
        )

    async def of(self, digests: Iterable[str], *, timeout: float) -> dict[str, Tools]:
        """The tools by digest of the documents that could be read within ``timeout`` seconds."""
        found: dict[str, Tools] = {}
        missing = []
        for digest in digests:
            if (cached := self._cache.get(digest)) is not None:
                found[digest] = cached[0]
            else:
                missing.append(digest)
        if not missing:
            return found

        def receive(document: CapabilityDocument) -> None:
            found[document.digest] = self._parse(document)

        # The response counts the documents that could not be read.
        ignored = (DocumentNotFoundError, StoreError)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._documents.read_each(missing, receive, ignored=ignored)
        return found

    def _parse(self, document: CapabilityDocument) -> Tools:
        tools: dict[str, ToolDefinition] = {}
        for tool in document.tools:
            name = tool.get("name")
            # A tool that was posted by name alone has no definition.
            if isinstance(name, str) and name and len(tool) > 1:
                tools.setdefault(name, _definition(tool))
        self._cache[document.digest] = tools, len(document.canonical)
        return tools


def score(weights: Mapping[str, int], wanted: Sequence[str]) -> int:
    """How well a text with these word ``weights`` matches ``wanted``; 0 unless it has every word.

    As in the search over servers, a word also matches as a prefix, which counts half.
    """
    total = 0
    for each in wanted:
        best = weights.get(each, 0)
        for word, weight in weights.items():
            if weight // 2 > best and word.startswith(each):
                best = weight // 2
        if not best:
            return 0
        total += best
    return total


def weights_of(
    name: str, title: str | None = None, description: str | None = None
) -> dict[str, int]:
    """The search weight of each word, by the member in which it stands."""
    weights: dict[str, int] = {}
    for weight, text in ((NAME, name), (TITLE, title), (DESCRIPTION, description)):
        for word in words(text or ""):
            weights.setdefault(word, weight)
    return weights


def _definition(tool: Mapping[str, Any]) -> ToolDefinition:
    canonical = orjson.dumps(tool, option=orjson.OPT_SORT_KEYS, default=dict)
    return ToolDefinition(hashlib.sha256(canonical).hexdigest(), tool)
