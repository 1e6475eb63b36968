"""Responses compressed with gzip, for clients that accept it."""

from __future__ import annotations

import asyncio
import gzip
from functools import lru_cache

from aiohttp import web
from cachetools import LRUCache

from mcp_discovery.facade.http.cors import vary

#: Bodies below so many bytes fit into one packet, compressed or not.
MIN_BYTES = 1024
#: From so many bytes on, compressing happens in a thread beside the event loop.
_LARGE = 64 * 2**10
#: How many bytes the cache of compressed bodies may hold, of both forms together.
_CACHE_BYTES = 16 * 2**20
_TYPES = frozenset(
    {
        "application/json",
        "application/problem+json",
        "application/ai-catalog+json",
        "text/html",
        "text/plain",
        "text/css",
        "text/javascript",
        "image/svg+xml",
    }
)


class EncodedResponse(web.Response):
    """A response whose content coding was chosen where it was made."""


class Compression:
    """Compresses whole responses, never streams; a body that is sent again is compressed once."""

    def __init__(self) -> None:
        # Whoever caches a body hands out the same object: its hash is known, equality is identity.
        self._cache: LRUCache[bytes, tuple[bytes, int]] = LRUCache(
            _CACHE_BYTES, getsizeof=lambda each: each[1]
        )

    async def compress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Compresses ``response`` where that is worth it and the client accepts it."""
        if not isinstance(response, web.Response):
            return
        body, headers = response.body, response.headers
        if not isinstance(body, bytes) or len(body) < MIN_BYTES or "Content-Encoding" in headers:
            return
        # RFC 9111, 5.2.2.6: what is marked so goes out as it is, and is not cached for others.
        unchanged = "no-transform" in headers.get("Cache-Control", "")
        if unchanged or response.content_type not in _TYPES:
            return
        vary(response, "Accept-Encoding")
        if not accepts_gzip(request.headers.get("Accept-Encoding", "")):
            return
        response.body = await self._compressed(body)
        headers["Content-Encoding"] = "gzip"
        tag = headers.get("ETag", "")
        if tag.startswith('"'):
            # Other bytes than those without compression: no longer a strong tag (RFC 9110, 8.8.1).
            headers["ETag"] = f"W/{tag}"

    async def _compressed(self, body: bytes) -> bytes:
        if (known := self._cache.get(body)) is not None:
            return known[0]
        compressed = await gzipped(body)
        size = len(body) + len(compressed)
        if size <= _CACHE_BYTES // 2:
            self._cache[body] = compressed, size
        return compressed


@lru_cache(256)
def accepts_gzip(header: str) -> bool:
    """Whether ``Accept-Encoding`` names gzip, or everything, with a weight above 0."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        coding, _, parameters = part.partition(";")
        _, _, weight = parameters.partition("q=")
        try:
            weights[coding.strip()] = float(weight.strip() or 1)
        except ValueError:
            weights[coding.strip()] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


async def gzipped(body: bytes) -> bytes:
    """``body`` as gzip; a large one without holding up the event loop, and less densely."""
    if len(body) < _LARGE:
        return gzip.compress(body, compresslevel=6, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, compresslevel=1, mtime=0)
