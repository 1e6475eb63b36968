"""Entity tags: an answer that the client has already is not sent again (RFC 9110, 8.8 and 13.1).

Every tag is weak: an answer may be compressed on its way, and what moves by itself (``lastSeen``)
makes no answer a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import orjson
from aiohttp import web

from mcp_discovery.facade.http.operation import Parameter

IF_NONE_MATCH = Parameter(
    "If-None-Match", "The `ETag` of the answer that is there already.", where="header"
)


def tag_of(*parts: object) -> str:
    """The tag of an answer that is the same for as long as ``parts`` are; bytes, or JSON."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        data = part if isinstance(part, bytes) else orjson.dumps(part, default=str)
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def has_already(request: web.Request, tag: str) -> bool:
    """Whether ``If-None-Match`` of ``request`` names ``tag`` (weak comparison) or anything."""
    if "If-None-Match" not in request.headers:
        return False
    given = request.if_none_match or ()
    return any(each.value in (tag, "*") for each in given)


def headers_of(tag: str, headers: Mapping[str, str]) -> dict[str, str]:
    """``headers``, with those of a response that has an entity tag."""
    return {"Cache-Control": "no-cache", "ETag": f'W/"{tag}"', **headers}


def not_modified(tag: str, headers: Mapping[str, str]) -> web.Response:
    """304, with ``ETag: W/"<tag>"`` and ``headers``."""
    return web.Response(status=304, headers=headers_of(tag, headers))


def tagged(
    request: web.Request,
    tag: str,
    body: bytes | Callable[[], bytes],
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """200 with ``body`` as JSON, or 304 without one; both with ``ETag: W/"<tag>"``.

    ``body`` may be a callable, which is not called for a 304. ``headers`` stand on both.
    """
    given = headers or {}
    if has_already(request, tag):
        return not_modified(tag, given)
    data = body if isinstance(body, bytes) else body()
    return web.Response(body=data, content_type="application/json", headers=headers_of(tag, given))
