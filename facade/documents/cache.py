"""Capability documents on their way into the store and out of it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress

from mcp_discovery.adapters.catalog import Catalog
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import DocumentNotFoundError, StoreError
from mcp_discovery.facade.registration.body import Posting, refused_document

#: How long, in seconds, and how many bytes of documents wait for the registration that names them.
PENDING_SECONDS = 300.0
PENDING_BYTES = 32 * 2**20
#: For how many documents the descriptions are remembered.
_DESCRIBED = 1000

#: The kinds of capability, as ``GET /capabilities`` names them.
KINDS = ("tool", "resource", "prompt")

Descriptions = Mapping[tuple[str, str], str]


class Documents:
    """The documents that were sent and not yet registered, and those the store has."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._pending: OrderedDict[str, tuple[CapabilityDocument, float]] = OrderedDict()
        self._described: OrderedDict[str, Descriptions] = OrderedDict()

    def put(self, document: CapabilityDocument) -> None:
        """Keeps ``document`` for a while, until a registration names it."""
        now = time.monotonic()
        self._pending.pop(document.digest, None)
        self._pending[document.digest] = document, now + PENDING_SECONDS
        size = sum(len(each.canonical) for each, _ in self._pending.values())
        for digest, (each, until) in list(self._pending.items())[:-1]:
            if until > now and size <= PENDING_BYTES:
                break
            size -= len(each.canonical)
            del self._pending[digest]
        self._describe(document)

    async def get(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``; raises what
        :meth:`mcp_discovery.adapters.store.Store.document` does."""
        if (pending := self._pending.get(digest)) is not None:
            return pending[0]
        document = await self._catalog.document(digest)
        self._describe(document)
        return document

    async def of(self, posting: Posting) -> CapabilityDocument:
        """The document that ``posting`` gives or names.

        Raises :class:`~mcp_discovery.facade.http.problems.Refused` (409) when it names one that is
        nowhere.
        """
        if posting.digest is None:
            self._describe(posting.document)
            return posting.document
        try:
            return await self.get(posting.digest)
        except DocumentNotFoundError as error:
            raise refused_document(posting.digest) from error

    async def learn(self, digests: Iterable[str], *, most: int, timeout: float) -> None:
        """Reads documents whose descriptions are not known yet: at most so many, for so long."""
        unknown = [digest for digest in digests if digest not in self._described][:most]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                for digest in unknown:
                    group.create_task(self._learn(digest))

    def descriptions(self, digest: str) -> Descriptions:
        """(kind, name) → description, of a document that was seen lately; else nothing."""
        return self._described.get(digest, {})

    async def _learn(self, digest: str) -> None:
        try:
            await self.get(digest)
        except DocumentNotFoundError:
            self._remember(digest, {})
        except StoreError:
            return  # it is asked for again the next time

    def _describe(self, document: CapabilityDocument) -> None:
        if document.digest in self._described:
            self._described.move_to_end(document.digest)
            return
        lists = (
            document.tools,
            (*document.resources, *document.resource_templates),
            document.prompts,
        )
        self._remember(
            document.digest,
            {
                (kind, item["name"]): item["description"][:1000]
                for kind, items in zip(KINDS, lists, strict=True)
                for item in items
                if isinstance(item.get("name"), str) and isinstance(item.get("description"), str)
            },
        )

    def _remember(self, digest: str, descriptions: Descriptions) -> None:
        self._described[digest] = descriptions
        while len(self._described) > _DESCRIBED:
            self._described.popitem(last=False)
