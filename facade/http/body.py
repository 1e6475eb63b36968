"""Bodies: reading that of a request within its limit and its time, and the base of their models."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from mcp_discovery.facade.http.problems import MAX_BODY_BYTES, ProblemError
from mcp_discovery.facade.options import OPTIONS

#: From so many bytes on, unpacking happens beside the event loop.
_LARGE = 64 * 2**10
_GZIP = b"\x1f\x8b"


class Shaped(BaseModel):
    """The base of every model of a body: camel case in JSON, and unknown members are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


async def read(request: web.Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, unpacked where it is gzip; ``limit`` in bytes holds before and after that.

    Raises ``HTTPRequestEntityTooLarge``, and :class:`ProblemError` for another encoding and when
    it has not come within ``FacadeOptions.body_timeout``.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        detail = f"Content-Encoding {encoding[:50]!r} is not understood; send gzip or none"
        raise ProblemError(415, "unknown-encoding", detail)
    try:
        async with asyncio.timeout(timeout := request.app[OPTIONS].body_timeout):
            data = await request.clone(client_max_size=limit).read()
    except TimeoutError as error:
        raise _slow(timeout) from error
    if not data.startswith(_GZIP):  # which no JSON does
        return data
    large = len(data) > _LARGE
    return await asyncio.to_thread(_unpacked, data, limit) if large else _unpacked(data, limit)


async def read_ends(request: web.Request, head: int, tail: int) -> bytes:
    """The first ``head`` and the last ``tail`` bytes of a body that is too large to be kept.

    Raises :class:`ProblemError` when it has not come within ``FacadeOptions.body_timeout``.
    """
    begin = end = b""
    try:
        async with asyncio.timeout(timeout := request.app[OPTIONS].body_timeout):
            async for part in request.content.iter_any():
                kept = part[: head - len(begin)]
                begin += kept
                end = (end + part[len(kept) :])[-tail:]
    except TimeoutError as error:
        raise _slow(timeout) from error
    return begin + end


def _slow(timeout: float) -> ProblemError:
    detail = f"the body did not come within {timeout:g} s; send it again"
    return ProblemError(408, "slow-body", detail)


def _unpacked(data: bytes, limit: int) -> bytes:
    """Stops at ``limit``: what would unpack to more is never held in memory."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        plain = unpack.decompress(data, limit + 1)
    except zlib.error as error:
        detail = f"the body is not the gzip data it begins as ({error}); send it again"
        raise ProblemError(400, "not-gzip", detail) from error
    if len(plain) > limit:
        raise web.HTTPRequestEntityTooLarge(limit)
    if not unpack.eof:
        raise ProblemError(400, "not-gzip", "the body's gzip data ends too early; send it again")
    return plain


async def read_object(
    request: web.Request, *, empty: bool = False, limit: int = MAX_BODY_BYTES
) -> dict[str, Any]:
    """The body as a JSON object, whatever its content type says; no body is one if ``empty``.

    ``limit`` in bytes is that of :func:`read`. Raises :class:`ProblemError` where it is not that.
    """
    data = await read(request, limit=limit)
    if empty and not data.strip():
        return {}
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        detail = f"the body is not JSON in UTF-8 ({error}); send one JSON object"
        raise ProblemError(400, "not-json", detail) from error
    if not isinstance(body, dict):
        detail = f"the body is a JSON {_NAMES[type(body)]}; send one JSON object"
        raise ProblemError(400, "not-an-object", detail)
    return body


_NAMES: dict[type, str] = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
