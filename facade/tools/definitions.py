"""Tools as capability documents spell them, read once for each document."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import orjson

from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DocumentNotFoundError, StoreError
from mcp_discovery.facade.documents.cache import Documents
from mcp_discovery.query.search import DESCRIPTION, NAME, TITLE, words

#: Documents read at the same time.
_AT_ONCE = 16
#: Documents whose tools are kept, in bytes of their canonical JSON.
_KEPT = 64 * 2**20


@dataclass(frozen=True)
class Spelling:
    """One tool as one document spells it; ``digest`` is the SHA-256 of its canonical JSON."""

    digest: str
    tool: Mapping[str, Any]

    @cached_property
    def weights(self) -> Mapping[str, int]:
        """What each of its words counts in a search."""
        return weights_of(self.tool["name"], self.text("title"), self.text("description"))

    def text(self, member: str) -> str | None:
        """A member that is to be a string, where it is one."""
        value = self.tool.get(member)
        return value if isinstance(value, str) else None


#: Name → the tool, of one document.
Tools: TypeAlias = Mapping[str, Spelling]


class Spellings:
    """What is known of the tools of each document, by the document's digest."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._known: OrderedDict[str, tuple[Tools, int]] = OrderedDict()
        self._size = 0

    async def of(self, digests: Iterable[str], *, timeout: float) -> dict[str, Tools]:
        """Digest → tools, of those documents that could be read within ``timeout`` seconds."""
        found: dict[str, Tools] = {}
        missing = []
        for digest in digests:
            if (known := self._known.get(digest)) is not None:
                self._known.move_to_end(digest)
                found[digest] = known[0]
            else:
                missing.append(digest)
        if not missing:
            return found
        waiting = iter(missing)

        async def read() -> None:
            for digest in waiting:
                # What cannot be read is missing from the answer, which says how many are.
                with suppress(DocumentNotFoundError, StoreError):
                    found[digest] = self._learn(await self._documents.get(digest))
                # A store that answers at once would otherwise hold the loop, and the deadline.
                await asyncio.sleep(0)

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(missing))):
                    group.create_task(read())
        return found

    def _learn(self, document: CapabilityDocument) -> Tools:
        tools: dict[str, Spelling] = {}
        for tool in document.tools:
            name = tool.get("name")
            # One that was posted by name alone says nothing of how it is spelled.
            if isinstance(name, str) and name and len(tool) > 1:
                tools.setdefault(name, _spelling(tool))
        size = len(document.canonical)
        _, before = self._known.pop(document.digest, (None, 0))
        self._known[document.digest] = tools, size
        self._size += size - before
        while self._size > _KEPT and len(self._known) > 1:
            self._size -= self._known.popitem(last=False)[1][1]
        return tools


def score(weights: Mapping[str, int], wanted: Sequence[str]) -> int:
    """How well words of these ``weights`` fit ``wanted``; 0 unless each of them is found.

    As in the search over servers, a word is found where a word begins with it, which counts half.
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
    """Word → what it counts, by where it stands."""
    weights: dict[str, int] = {}
    for weight, text in ((NAME, name), (TITLE, title), (DESCRIPTION, description)):
        for word in words(text or ""):
            weights.setdefault(word, weight)
    return weights


def _spelling(tool: Mapping[str, Any]) -> Spelling:
    canonical = orjson.dumps(tool, option=orjson.OPT_SORT_KEYS, default=dict)
    return Spelling(hashlib.sha256(canonical).hexdigest(), tool)
