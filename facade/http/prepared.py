"""A response prepared once for all equal requests: plain, compressed, or 304."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from aiohttp.hdrs import ACCEPT_ENCODING, IF_NONE_MATCH
from multidict import CIMultiDict

from mcp_discovery.facade.http.compression import (
    MIN_BYTES,
    EncodedResponse,
    accepts_gzip,
    gzipped,
)
from mcp_discovery.facade.http.etag import has_already, headers_of


class PreparedResponse:
    """JSON with its headers, in each form that a request may accept.

    ``tag`` is its entity tag. Every request gets a response of its own, with a copy of the headers.
    """

    __slots__ = ("_compressed", "_compressible", "_plain", "_tag", "_unchanged", "body")

    def __init__(self, tag: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.body = body
        self._tag = tag
        self._unchanged = CIMultiDict(headers_of(tag, headers))
        self._plain = CIMultiDict(self._unchanged)
        self._plain["Content-Type"] = "application/json"
        self._compressible = len(body) >= MIN_BYTES
        if self._compressible:
            self._plain["Vary"] = "Accept-Encoding"
        self._compressed: tuple[bytes, CIMultiDict[str]] | None = None

    async def respond(self, request: web.Request) -> web.Response:
        """200 in the coding that ``request`` accepts, or 304 where it names the tag."""
        headers = request.headers
        if IF_NONE_MATCH in headers and has_already(request, self._tag):
            return EncodedResponse(status=304, headers=self._unchanged)
        accepted = headers.get(ACCEPT_ENCODING)
        if accepted is not None and self._compressible and accepts_gzip(accepted):
            if self._compressed is None:
                compressed = self._plain.copy()
                compressed["Content-Encoding"] = "gzip"
                self._compressed = await gzipped(self.body), compressed
            body, given = self._compressed
            return EncodedResponse(body=body, headers=given)
        return EncodedResponse(body=self.body, headers=self._plain)
