"""Capability documents in Consul's KV: compressed, in parts below the limit for one value.

``<prefix>/documents/<digest>/<n>-of-<count>``, ``n`` from 1. Each key says how many belong
together, so a document that is half written is never taken for a whole one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.kv import Entry
from mcp_discovery.adapters.http import MAX_ANSWER, ResponseTooLargeError
from mcp_discovery.document import CapabilityDocument, is_digest
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError

log = logging.getLogger(__name__)

#: Bytes in one part. Consul takes 512 KiB by default (``kv_max_value_size``).
PART_BYTES = 500_000

# Spelled as :meth:`Documents.put` spells it and no other way: ``01-of-1`` is another key.
_PART = re.compile(r"([1-9][0-9]{0,3})-of-([1-9][0-9]{0,3})")


class Documents:
    """The documents of one store."""

    def __init__(self, api: ConsulApi) -> None:
        self._api = api
        self._prefix = api.address.documents

    async def get(self, digest: str) -> CapabilityDocument:
        """The document with that digest.

        Raises :class:`DocumentNotFoundError`, also for one whose parts are damaged: the next
        registration of its version mends it.
        """
        if not is_digest(digest):
            raise DocumentNotFoundError(digest)
        entries = await self._parts(digest)
        document = self._assembled(digest, entries)
        if document is None:
            if not entries:  # What the token may not read looks absent too.
                await self._api.require_readable()
            raise DocumentNotFoundError(digest)
        return document

    async def put(self, document: CapabilityDocument) -> None:
        """Writes the document unless it is there, whole and undamaged."""
        folder = self._folder(document.digest)
        entries = await self._parts(document.digest)
        if self._assembled(document.digest, entries) is not None:
            return
        data = document.compressed()
        parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
        keys = [f"{folder}{n}-of-{len(parts)}" for n in range(1, len(parts) + 1)]
        for entry in entries:
            if entry.key not in keys:
                await self._api.kv.delete(entry.key, cas=entry.modified)
        for key, part in zip(keys, parts, strict=True):
            await self._api.kv.put(key, part)

    async def ensure(self, document: CapabilityDocument) -> None:
        """Writes the document again if some of it is gone. Cheaper than :meth:`put`: looks at the
        keys alone."""
        folder = self._folder(document.digest)
        if not is_whole(key.removeprefix(folder) for key in await self._api.kv.keys(folder)):
            await self.put(document)

    def digest_of(self, key: str) -> str | None:
        """The digest of the document that ``key`` is a part of; ``None`` for a foreign key."""
        digest, slash, part = key.removeprefix(self._prefix).partition("/")
        return digest if slash and is_digest(digest) and _PART.fullmatch(part) else None

    def _folder(self, digest: str) -> str:
        return f"{self._prefix}{digest}/"

    async def _parts(self, digest: str) -> list[Entry]:
        """All parts of a document; none where they are more than any document has."""
        try:
            return await self._api.kv.entries(self._folder(digest), limit=MAX_ANSWER)
        except ResponseTooLargeError as error:
            log.warning("the parts of capability document %s are too large: %s", digest, error)
            return []

    def _assembled(self, digest: str, entries: list[Entry]) -> CapabilityDocument | None:
        parts = {entry.key.removeprefix(self._folder(digest)): entry for entry in entries}
        count = is_whole(parts)
        if not count:
            return None
        data = b"".join(parts[f"{n}-of-{count}"].value for n in range(1, count + 1))
        try:
            return CapabilityDocument.from_compressed(data, digest=digest)
        except InvalidDocumentError as error:
            log.warning("the parts of capability document %s are damaged: %s", digest, error)
            return None


def is_whole(names: Iterable[str]) -> int:
    """How many parts make the document whose parts are called ``names``; 0 if some are missing."""
    found: dict[int, set[int]] = {}
    for name in names:
        if match := _PART.fullmatch(name):
            found.setdefault(int(match[2]), set()).add(int(match[1]))
    return next((c for c, have in found.items() if have.issuperset(range(1, c + 1))), 0)
