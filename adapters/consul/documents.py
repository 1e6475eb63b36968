"""Capability documents in Consul's KV: compressed, in parts below the limit for one value.

The keys are ``<prefix>/documents/<digest>/<n>-of-<count>`` with ``n`` from 1. As each names the
number of parts, a document that is not completely written is recognized as such.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from mcp_discovery.adapters.consul.api import ConsulApi
from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.http import MAX_RESPONSE, ResponseTooLargeError
from mcp_discovery.document import CapabilityDocument, is_digest
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError

log = logging.getLogger(__name__)

#: The size of one part in bytes. Consul's limit is 512 KiB by default (``kv_max_value_size``).
PART_BYTES = 500_000

# Only the form that :meth:`ConsulDocuments.put` writes: ``01-of-1`` would be another key.
_PART = re.compile(r"([1-9][0-9]{0,3})-of-([1-9][0-9]{0,3})")


class ConsulDocuments:
    """The documents of one store."""

    def __init__(self, api: ConsulApi) -> None:
        self._api = api
        self._prefix = api.address.documents

    async def get(self, digest: str) -> CapabilityDocument:
        """The document with that digest.

        Raises :class:`DocumentNotFoundError`, also for one with damaged parts, which the next
        registration of the version replaces.
        """
        if not is_digest(digest):
            raise DocumentNotFoundError(digest)
        entries = await self._parts(digest)
        document = self._assembled(digest, entries)
        if document is None:
            if not entries:  # a token without permission gets the same response
                await self._api.require_readable()
            raise DocumentNotFoundError(digest)
        return document

    async def put(self, document: CapabilityDocument) -> None:
        """Writes the document unless it is there, complete and undamaged."""
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
        """Writes the document again if parts are missing. Cheaper than :meth:`put`: reads only the
        keys."""
        folder = self._folder(document.digest)
        if not is_whole(key.removeprefix(folder) for key in await self._api.kv.keys(folder)):
            log.warning(
                "%s: somebody removed %s; writing it again", self._api.address.shown, folder
            )
            await self.put(document)

    def digest_of(self, key: str) -> str | None:
        """The digest of the document of which ``key`` is a part; ``None`` for another key."""
        digest, slash, part = key.removeprefix(self._prefix).partition("/")
        return digest if slash and is_digest(digest) and _PART.fullmatch(part) else None

    def _folder(self, digest: str) -> str:
        return f"{self._prefix}{digest}/"

    async def _parts(self, digest: str) -> list[KVPair]:
        """All parts of a document; none where they are larger than any document can be."""
        try:
            return await self._api.kv.entries(self._folder(digest), limit=MAX_RESPONSE)
        except ResponseTooLargeError as error:
            log.warning("the parts of capability document %s are too large: %s", digest, error)
            return []

    def _assembled(self, digest: str, entries: list[KVPair]) -> CapabilityDocument | None:
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
    """The number of parts of a document of which all are among ``names``; 0 if some are missing."""
    found: dict[int, set[int]] = {}
    for name in names:
        if match := _PART.fullmatch(name):
            found.setdefault(int(match[2]), set()).add(int(match[1]))
    return next((c for c, have in found.items() if have.issuperset(range(1, c + 1))), 0)
