"""Capability documents as callers see them who may see only some of what a server offers.

A trimmed document has a digest of its own: that of the whole would tell of changes to the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from cachetools import LRUCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.document import CapabilityDocument, text_of
from mcp_discovery.errors import DiscoveryError, DocumentNotFoundError, InvalidDocumentError
from mcp_discovery.facade.access.rights import PARTS, Grant, Part, includes

log = logging.getLogger(__name__)

#: For how many seconds documents are waited for, and how many are read at the same time.
_TIMEOUT, _READERS = 2.0, 16
#: Of how many trimmed documents the content is known without reading them again.
_CONTENTS = 8192
#: How many bytes of trimmed documents are cached, as canonical JSON.
_CACHED_BYTES = 4 * 2**20


class Trimmed(NamedTuple):
    """A document as it is seen: from which one it is made, by which grants."""

    original: str
    grants: tuple[Grant, ...]


class TrimmedContent(NamedTuple):
    """The digest of a trimmed document, and the names of what it has, by part."""

    digest: str
    names: Mapping[Part, frozenset[str]]

    @classmethod
    def of(cls, document: CapabilityDocument) -> TrimmedContent:
        names = document.names()
        return cls(document.digest, {part: frozenset(names[part]) for part in PARTS})


def trim(document: CapabilityDocument, grants: Sequence[Grant]) -> CapabilityDocument:
    """What ``grants`` are for of ``document``.

    Resources, their templates and skills are found by their name, and by their URI.
    """

    def kept(
        part: Part, items: Sequence[Mapping[str, Any]], *members: str
    ) -> tuple[Mapping[str, Any], ...]:
        def fits(item: Mapping[str, Any]) -> bool:
            known = (text_of(item, member) for member in ("name", *members))
            return any(each is not None and includes(grants, part, each) for each in known)

        return tuple(filter(fits, items))

    card = document.card
    if card is not None:  # what was signed is the whole, and whether this is it is not told
        card = {name: value for name, value in card.items() if name != "signatures"}
    return CapabilityDocument(
        tools=kept("tools", document.tools),
        resources=kept("resources", document.resources, "uri"),
        resource_templates=kept("resources", document.resource_templates, "uriTemplate"),
        prompts=kept("prompts", document.prompts),
        skills=kept("skills", document.skills, "uri"),
        card=card,
    )


class TrimmedContents:
    """What documents of ``whole`` become for some grants; each is read once."""

    def __init__(self, whole: LiveList) -> None:
        self._whole = whole
        #: ``None``: it is lost.
        self._known: LRUCache[Trimmed, TrimmedContent | None] = LRUCache(_CONTENTS)
        self._documents: LRUCache[str, CapabilityDocument] = LRUCache(
            _CACHED_BYTES, getsizeof=lambda document: len(document.canonical)
        )

    def get(self, trimmed: Trimmed) -> TrimmedContent | None:
        """The content, where it is known."""
        return self._known.get(trimmed)

    def is_lost(self, trimmed: Trimmed) -> bool:
        """Whether the store has no such document."""
        return self._known.get(trimmed, ...) is None

    async def read(self, wanted: Iterable[Trimmed]) -> None:
        """Finds out the contents that are not known, as far as they can be read in time."""
        unknown: dict[str, set[Trimmed]] = {}
        for each in wanted:
            if each not in self._known:
                unknown.setdefault(each.original, set()).add(each)
        remaining = iter(list(unknown.items()))

        async def read() -> None:
            for digest, keys in remaining:
                try:
                    document = await self._whole.document(digest)
                    for key in keys:
                        self._known[key] = TrimmedContent.of(trim(document, key.grants))
                except (DocumentNotFoundError, InvalidDocumentError):
                    self._known.update(dict.fromkeys(keys))
                except DiscoveryError as error:
                    log.info("a document cannot be read now: %s", error)
                await asyncio.sleep(0)

        if unknown:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIMEOUT), asyncio.TaskGroup() as group:
                    for _ in range(min(_READERS, len(unknown))):
                        group.create_task(read())

    async def document(
        self, digest: str, trimmed: Trimmed, other: Callable[[Trimmed], Trimmed | None]
    ) -> CapabilityDocument:
        """The document ``trimmed``, which has ``digest``; where the store has not that any more,
        what ``other`` gives for it.

        Raises what :meth:`mcp_discovery.adapters.store.Store.document` raises.
        """
        if (known := self._documents.get(digest)) is not None:
            return known
        try:
            found = trim(await self._whole.document(trimmed.original), trimmed.grants)
        except DocumentNotFoundError:
            if (instead := other(trimmed)) is None:
                # The whole of another instance may be just that.
                return await self._whole.document(digest)
            found = trim(await self._whole.document(instead.original), instead.grants)
        if found.digest != digest:
            raise DocumentNotFoundError(digest)
        if len(found.canonical) <= _CACHED_BYTES:
            self._documents[digest] = found
        return found
