"""Capability documents by their digest: cached, and over HTTP at ``/documents/{digest}``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from aiohttp import web
from cachetools import LRUCache, TTLCache

from mcp_discovery.adapters.live_list import LiveList
from mcp_discovery.document import (
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENT_VALUES,
    CapabilityDocument,
    is_digest,
    text_of,
)
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError, StoreError
from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.parts import Part, parts_of
from mcp_discovery.facade.http.body import decode, read, require_json
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.record import Capabilities, Record

log = logging.getLogger(__name__)

#: How long, in seconds, documents are kept for a registration that names them, and how many bytes
#: they may take in memory: more than one of the largest.
PENDING_SECONDS = 300.0
PENDING_BYTES = 64 * 2**20
#: How many documents are read from the store at the same time.
_READERS = 16
#: How many bytes of descriptions are cached; each counts with its overhead.
_DESCRIPTION_BYTES = 64 * 2**20
_OVERHEAD = 200

Descriptions = Mapping[tuple[str, str], str]


class Documents:
    """The documents that were sent and not yet registered, and those in the store."""

    def __init__(self, catalog: LiveList) -> None:
        self._catalog = catalog
        self._pending: TTLCache[str, CapabilityDocument] = TTLCache(
            PENDING_BYTES,
            PENDING_SECONDS,
            time.monotonic,
            getsizeof=lambda document: document.memory,
        )
        self._descriptions: LRUCache[str, Descriptions] = LRUCache(
            _DESCRIPTION_BYTES, getsizeof=_size_of
        )

    def put(self, document: CapabilityDocument) -> None:
        """Keeps ``document`` for a while, until a registration names it."""
        self._pending[document.digest] = document
        self._describe(document)

    async def get(self, digest: str) -> CapabilityDocument:
        """The document with ``digest``; raises what
        :meth:`mcp_discovery.adapters.store.Store.document` does."""
        if (pending := self._pending.get(digest)) is not None:
            return pending
        document = await self._catalog.document(digest)
        self._describe(document)
        return document

    async def resolve(self, document: CapabilityDocument, digest: str | None) -> CapabilityDocument:
        """The document that a registration gives, or the one that it names by ``digest``.

        Raises :class:`ProblemError` (409) where there is none with ``digest``.
        """
        if digest is None:
            self._describe(document)
            return document
        try:
            return await self.get(digest)
        except DocumentNotFoundError as error:
            detail = (
                f"no capability document {digest} is known here; PUT it to /documents/{digest}, "
                "then send this again"
            )
            raise ProblemError(409, "unknown-document", detail, digest=digest) from error

    async def of_record(self, record: Record) -> CapabilityDocument:
        """The document of ``record`` in the store; where it is lost, one made of its names."""
        digest = record.capabilities.digest
        if digest is not None:
            try:
                return await self.get(digest)
            except DocumentNotFoundError:
                log.warning("%s: its capability document is lost", record.id)
        return document_of(record.capabilities)

    async def read_each(
        self,
        digests: Iterable[str],
        receive: Callable[[CapabilityDocument], None],
        *,
        ignored: tuple[type[Exception], ...] = (DocumentNotFoundError,),
    ) -> None:
        """Passes each of the documents to ``receive``; reads several at the same time.

        A document whose reading raises one of ``ignored`` is left out.
        """
        remaining = iter(digests)

        async def read() -> None:
            for digest in remaining:
                with suppress(*ignored):
                    receive(await self.get(digest))
                # A store that answers without waiting must not block the loop and a deadline.
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read(), name="read documents") for _ in range(_READERS)]
        try:
            await asyncio.gather(*readers)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def learn(self, digests: Iterable[str], *, most: int, timeout: float) -> None:
        """Reads at most ``most`` documents without cached descriptions, for ``timeout`` seconds."""
        unknown = [digest for digest in digests if digest not in self._descriptions][:most]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
                for digest in unknown:
                    group.create_task(self._learn(digest))

    def descriptions(self, digest: str) -> Descriptions:
        """(kind, name) → description, where those of the document are cached; else empty."""
        return self._descriptions.get(digest, {})

    async def _learn(self, digest: str) -> None:
        try:
            await self.get(digest)
        except DocumentNotFoundError:
            self._descriptions[digest] = {}
        except StoreError:
            return  # the next request reads it again

    def _describe(self, document: CapabilityDocument) -> None:
        if self._descriptions.get(document.digest) is not None:
            return
        self._descriptions[document.digest] = {
            (kind, name): text[:1000]
            for kind, items in document.by_kind().items()
            for item in items
            if (name := text_of(item, "name")) is not None
            and (text := text_of(item, "description")) is not None
        }


def document_of(capabilities: Capabilities) -> CapabilityDocument:
    """A document with nothing but the names of ``capabilities``."""

    def named(names: Iterable[str]) -> tuple[dict[str, str], ...]:
        return tuple({"name": name} for name in names)

    return CapabilityDocument(
        tools=named(capabilities.tools),
        resources=named(capabilities.resources),
        prompts=named(capabilities.prompts),
        skills=named(capabilities.skills),
    )


#: The cache.
DOCUMENTS: Part[Documents] = Part("documents")


def _size_of(descriptions: Descriptions) -> int:
    texts = (len(name) + len(text) for (_, name), text in descriptions.items())
    return min(sum(texts) + _OVERHEAD * (1 + len(descriptions)), _DESCRIPTION_BYTES)


#: From this size on, in bytes, documents are compressed in a thread.
_LARGE = 64 * 2**10


async def get(request: web.Request) -> web.Response:
    """The canonical JSON; what a digest names never changes."""
    digest = request.match_info["digest"]
    if not is_digest(digest):
        raise DocumentNotFoundError(digest[:100])
    # What one caller may see, a cache must not give to another.
    scope = "public" if caller_of(request).is_anonymous else "private"
    headers = {
        "Cache-Control": f"{scope}, max-age=31536000, immutable",
        "ETag": f'"{digest}"',
        "Vary": "Accept-Encoding, Authorization",
    }
    document = await parts_of(request)[DOCUMENTS].get(digest)
    if any(etag.value in (digest, "*") for etag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    body = document.canonical
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        large = len(body) > _LARGE
        body = await asyncio.to_thread(document.compressed) if large else document.compressed()
    return web.Response(body=body, content_type="application/json", headers=headers)


async def put(request: web.Request) -> web.Response:
    """Takes a document in, as JSON or gzip, for the registration that will name it."""
    digest = request.match_info["digest"]
    if not is_digest(digest):
        raise InvalidDocumentError(
            f"{digest[:100]!r} is no digest; it is the SHA-256 of the canonical JSON, as 64 "
            "lower-case hexadecimal digits"
        )
    limit = MAX_DOCUMENT_BYTES + 2**16
    try:
        data = await read(request, limit=limit)
    except web.HTTPRequestEntityTooLarge as error:
        detail = f"the document is over the limit of {MAX_DOCUMENT_BYTES:,} bytes; offer less"
        raise ProblemError(413, "document-too-large", detail) from error
    if data:
        require_json(request)
    parse = partial(CapabilityDocument.from_json, digest=digest)
    document = await decode(request, data, parse, most_values=MAX_DOCUMENT_VALUES)
    parts_of(request)[DOCUMENTS].put(document)
    return web.Response(status=204)


_DIGEST = Parameter("digest", "SHA-256 of the canonical JSON.", {"type": "string"}, where="path")


OPERATIONS = (
    Operation(
        "GET",
        "/documents/{digest}",
        get,
        "documents",
        parameters=(_DIGEST,),
        answers={200: {"type": "object"}, 304: None},
        errors=(404,),
        needs="read",
    ),
    Operation(
        "PUT",
        "/documents/{digest}",
        put,
        "documents",
        parameters=(_DIGEST,),
        body={"type": "object"},
        answers={204: None},
        errors=(400, 413, 422),
        needs="register",
    ),
)
