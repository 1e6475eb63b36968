"""Capability documents over HTTP, by digest: ``/documents/{digest}``."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from mcp_discovery.document import MAX_DOCUMENT_BYTES, CapabilityDocument, is_digest
from mcp_discovery.errors import DocumentNotFoundError, InvalidDocumentError
from mcp_discovery.facade.documents.cache import DOCUMENTS
from mcp_discovery.facade.http.body import read
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError

#: From this size on, in bytes, documents are compressed and parsed in a thread.
_LARGE = 64 * 2**10


async def get(request: web.Request) -> web.Response:
    """The canonical JSON; what a digest names never changes."""
    digest = request.match_info["digest"]
    if not is_digest(digest):
        raise DocumentNotFoundError(digest[:100])
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "ETag": f'"{digest}"',
        "Vary": "Accept-Encoding",
    }
    document = await request.app[DOCUMENTS].get(digest)
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
    parse = partial(CapabilityDocument.from_json, data, digest=digest)
    document = await asyncio.to_thread(parse) if len(data) > _LARGE else parse()
    request.app[DOCUMENTS].put(document)
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
    ),
)
