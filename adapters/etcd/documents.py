"""Capability documents in etcd, and the sweep that removes unreferenced ones.

A document of one chunk is one key. Of a longer one the chunks are written first and then the head,
in a transaction that requires every chunk to exist: a document is visible completely or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import orjson

from mcp_discovery.adapters.etcd.api import EtcdGateway
from mcp_discovery.adapters.etcd.errors import RevisionGoneError
from mcp_discovery.adapters.etcd.keys import (
    Json,
    Keys,
    decode,
    delete,
    exists,
    found,
    get,
    key_text,
    put,
    untouched_since,
)
from mcp_discovery.adapters.unreferenced_keys import UnreferencedKeys
from mcp_discovery.document import MAX_DOCUMENT_BYTES, CapabilityDocument, is_digest
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, StoreUnavailableError

log = logging.getLogger(__name__)

#: The size of one value in bytes: as base64 in JSON it is still below etcd's request limit of
#: 1.5 MiB.
CHUNK = 768 * 2**10

#: The largest size of a compressed document: gzip adds less than a thousandth.
_MOST_BYTES = MAX_DOCUMENT_BYTES + MAX_DOCUMENT_BYTES // 1000

_GZIP = b"\x1f\x8b"
_NO_LEASE = "0"
_ATTEMPTS = 3


class EtcdDocuments:
    """The documents under one prefix."""

    def __init__(self, gateway: EtcdGateway, keys: Keys) -> None:
        self._gateway = gateway
        self._keys = keys
        self._unreferenced = UnreferencedKeys()

    def lookup(self, digest: str) -> Json:
        """The operation that reads whether a document exists."""
        return get(self._keys.document(digest), keys_only=True)

    async def put_missing(self, document: CapabilityDocument) -> None:
        """Stores ``document`` unless it exists."""
        _, responses = await self._gateway.txn([], [self.lookup(document.digest)])
        if found(responses[0]) is None:
            await self.put(document)

    async def ensure(self, document: CapabilityDocument) -> None:
        """Stores ``document`` again if any of its keys is missing; reads only keys."""
        # "0" is the character after "/": the range is head and chunks, and no other document.
        head = self._keys.document(document.digest)
        async with aclosing(self._gateway.pages((head, f"{head}0"), keys_only=True)) as pages:
            stored = {key_text(kv["key"]) async for _, kvs in pages for kv in kvs}
        if head in stored and len(document.canonical) > CHUNK:
            size = len(await asyncio.to_thread(document.compressed))
            chunks = -(-size // CHUNK) if size > CHUNK else 0
            whole = all(self._keys.chunk(document.digest, n) in stored for n in range(chunks))
        else:
            whole = head in stored
        if not whole:
            log.warning("%s: somebody removed %s; writing it again", self._gateway.store, head)
            await self.put(document)

    async def put(self, document: CapabilityDocument) -> None:
        """Stores ``document``."""
        head = self._keys.document(document.digest)
        # Compressing megabytes would block every other task.
        data = await asyncio.to_thread(document.compressed)
        if len(data) <= CHUNK:
            await self._gateway.txn([], [put(head, data, _NO_LEASE)])
            return
        chunks = {
            self._keys.chunk(document.digest, number): data[start : start + CHUNK]
            for number, start in enumerate(range(0, len(data), CHUNK))
        }
        for _ in range(_ATTEMPTS):
            for key, chunk in chunks.items():
                await self._gateway.txn([], [put(key, chunk, _NO_LEASE)])
            manifest = orjson.dumps({"chunks": len(chunks), "bytes": len(data)})
            whole, _ = await self._gateway.txn(
                [exists(key) for key in chunks], [put(head, manifest, _NO_LEASE)]
            )
            if whole:
                return
        raise StoreUnavailableError(
            self._gateway.store, f"chunks of document {document.digest} vanish as they are written"
        )

    async def read(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``; raises :class:`DocumentNotFoundError`."""
        if not is_digest(digest):
            raise DocumentNotFoundError(digest)
        value = await self._value(self._keys.document(digest))
        if value is None:
            raise DocumentNotFoundError(digest)
        try:
            if not value.startswith(_GZIP):
                value = await self._joined(digest, value)
            return await asyncio.to_thread(CapabilityDocument.from_compressed, value, digest=digest)
        except InvalidDocumentError as error:
            log.warning("%s: document %s is damaged: %s", self._gateway.store, digest, error)
            raise DocumentNotFoundError(digest) from error

    async def _joined(self, digest: str, manifest: bytes) -> bytes:
        try:
            content = orjson.loads(manifest)
            count, size = content["chunks"], content["bytes"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidDocumentError("its head is neither gzip nor a manifest") from error
        if not isinstance(count, int) or not isinstance(size, int) or size > _MOST_BYTES:
            raise InvalidDocumentError("its manifest is of no document that fits the limit")
        data = bytearray()
        for number in range(count):
            part = await self._value(self._keys.chunk(digest, number))
            if not part:
                raise InvalidDocumentError(f"chunk {number} of {count} is missing")
            data += part
            if len(data) > size:
                break
        if len(data) != size:
            raise InvalidDocumentError(f"its chunks are not the {size} bytes that it says")
        return bytes(data)

    async def _value(self, key: str) -> bytes | None:
        _, responses = await self._gateway.txn([], [get(key)])
        kv = found(responses[0])
        return decode(kv.get("value", "")) if kv else None

    async def sweep(self) -> int:
        """Removes documents that no record names; see
        :meth:`mcp_discovery.adapters.store.Store.sweep`.

        Each is removed only if no record was written since the records were read, so that a
        registration that has just found its document does not lose it.
        """
        try:
            revision, used = await self._referenced()
            stored: set[str] = set()
            start = len(self._keys.documents[0])
            async with aclosing(self._gateway.pages(self._keys.documents, keys_only=True)) as pages:
                async for _, kvs in pages:
                    stored |= {key_text(kv["key"])[start:].partition("/")[0] for kv in kvs}
        except RevisionGoneError as error:
            raise StoreUnavailableError(self._gateway.store, error.problem) from error
        removed = 0
        orphans = {digest for digest in stored if is_digest(digest)} - used
        for digest in self._unreferenced.confirmed(orphans):
            head = self._keys.document(digest)
            # "0" is the character after "/": the range is head and chunks, and no other document.
            done, responses = await self._gateway.txn(
                [untouched_since(self._keys.records, revision)], [delete(head, f"{head}0")]
            )
            if done:
                removed += int(responses[0]["response_delete_range"].get("deleted", 0))
        return removed

    async def _referenced(self) -> tuple[int, set[str]]:
        """The digests that records name, and the revision at which they were read."""
        used: set[str] = set()
        revision = 0
        async with aclosing(self._gateway.pages(self._keys.records)) as pages:
            async for read_at, kvs in pages:
                revision = read_at
                for kv in kvs:
                    try:
                        used.add(orjson.loads(decode(kv["value"]))["capabilities"]["digest"])
                    except (ValueError, KeyError, TypeError):
                        continue  # malformed records name no document
        return revision, used
