"""Answers compressed with gzip, for those who take it."""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict
from functools import lru_cache

from aiohttp import web

from mcp_discovery.facade.http.cors import vary
from mcp_discovery.facade.http.problems import Handler

#: Smaller answers fit into one packet, compressed or not.
_FROM = 1024
#: From so many bytes on, compressing happens beside the event loop.
_LARGE = 64 * 2**10
#: Compressed bodies that are kept, in bytes of both spellings.
_KEPT = 16 * 2**20
_TYPES = frozenset(
    {
        "application/json",
        "application/problem+json",
        "application/ai-catalog+json",
        "text/html",
        "text/plain",
        "text/css",
    }
)


class Compression:
    """Compresses whole answers, never streams; a body that is sent again is compressed once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    @web.middleware
    async def compress(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Compresses the answer where it is worth it and the client takes it."""
        response = await handler(request)
        if not isinstance(response, web.Response) or "Content-Encoding" in response.headers:
            return response
        body = response.body
        if not isinstance(body, bytes) or response.content_type not in _TYPES:
            return response
        # RFC 9111, 5.2.2.6: what is marked so goes out as it is, and is not kept for others.
        if len(body) < _FROM or "no-transform" in response.headers.get("Cache-Control", ""):
            return response
        vary(response, "Accept-Encoding")
        if not accepts_gzip(request.headers.get("Accept-Encoding", "")):
            return response
        response.body = await self._compressed(body)
        response.headers["Content-Encoding"] = "gzip"
        tag = response.headers.get("ETag", "")
        if tag.startswith('"'):
            # Other bytes than those without compression: no longer a strong tag (RFC 9110, 8.8.1).
            response.headers["ETag"] = f"W/{tag}"
        return response

    async def _compressed(self, body: bytes) -> bytes:
        # Whoever keeps a body hands out the same object: its hash is known, equality is identity.
        if (known := self._kept.get(body)) is not None:
            self._kept.move_to_end(body)
            return known
        if len(body) >= _LARGE:
            packed = await asyncio.to_thread(_packed, body)
        else:
            packed = _packed(body)
        size = len(body) + len(packed)
        if size <= _KEPT // 2 and body not in self._kept:
            self._kept[body] = packed
            self._size += size
            while self._size > _KEPT:
                self._size -= sum(map(len, self._kept.popitem(last=False)))
        return packed


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


def _packed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=1 if len(body) >= _LARGE else 6, mtime=0)
