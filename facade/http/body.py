"""Bodies: reading that of a request within its limit and its time, and the base of their models.

A large body takes many times its size in memory once it is parsed. So its values are counted first,
one is unpacked and parsed at a time, and what all of them take together is bounded.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from mcp_discovery.facade.http.problems import MAX_BODY_BYTES, ProblemError
from mcp_discovery.facade.options import OPTIONS
from mcp_discovery.json_values import BYTES_PER_VALUE, count_values

#: A body of more bytes than this is a large one: it is unpacked and parsed beside the event loop.
LARGE = 64 * 2**10
#: What is made of a body of no more bytes than this takes a few milliseconds.
_SMALL = 8 * 2**10
#: How many bytes all large bodies that are being read or answered may take in memory.
_MOST_HELD = 128 * 2**20
#: How long, in seconds, a large body waits until those before it are parsed.
_WAIT = 10.0
#: A body may hold one value for so many bytes of its limit, and not more than so many.
_BYTES_FOR_VALUE, _MOST_VALUES = 16, 1_000_000
#: A form of a page has a few.
_MOST_FIELDS = 50
_JSON = "application/json"
#: What is asked for has a dozen members, and a record may have some that are not known here.
_MOST_MEMBERS = 1000
_GZIP = b"\x1f\x8b"

Result = TypeVar("Result")


class Shaped(BaseModel):
    """The base of every model of a body: camel case in JSON, and unknown members are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


@dataclass(eq=False)
class LargeBodies:
    """The large bodies of a facade: ``held`` is how many bytes they take in memory."""

    held: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def hold(self, request: web.Request, size: int) -> None:
        """Counts ``size`` bytes until :func:`release`; raises :class:`ProblemError` (503)."""
        if self.held + size > _MOST_HELD:
            raise _busy()
        self.held += size
        request[_HELD] = request.get(_HELD, 0) + size

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One at a time; raises :class:`ProblemError` (503) when the turn does not come."""
        try:
            async with asyncio.timeout(_WAIT):
                await self._turn.acquire()
        except TimeoutError as error:
            raise _busy() from error
        try:
            yield
        finally:
            self._turn.release()


#: Those of an application.
LARGE_BODIES = web.AppKey("large bodies", LargeBodies)
#: The fields of its form.
_FORM = web.RequestKey("form", Mapping[str, str])
#: How many bytes a request holds.
_HELD = web.RequestKey("held bytes", int)
#: How many bytes its body has, unpacked.
_SIZE = web.RequestKey("size of the body", int)


def release(request: web.Request) -> None:
    """The request is answered: what its body took is free."""
    if (size := request.get(_HELD)) is not None:
        request.app[LARGE_BODIES].held -= size


async def read(request: web.Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, unpacked where it is gzip; ``limit`` in bytes holds before and after that.

    Raises ``HTTPRequestEntityTooLarge``, and :class:`ProblemError` for another encoding, when it
    has not come within ``FacadeOptions.body_timeout``, and (503) when there are too many large
    ones.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        detail = f"Content-Encoding {encoding[:50]!r} is not understood; send gzip or none"
        raise ProblemError(415, "unknown-encoding", detail)
    try:
        async with asyncio.timeout(timeout := request.app[OPTIONS].body_timeout):
            data = await _received(request, limit)
    except TimeoutError as error:
        raise _slow(timeout) from error
    if not data.startswith(_GZIP):  # which no JSON does
        return data
    try:
        return _unpacked(data, min(limit, LARGE))
    except web.HTTPRequestEntityTooLarge:
        if limit <= LARGE:
            raise
    large = request.app[LARGE_BODIES]
    async with large.turn():
        plain = await asyncio.to_thread(_unpacked, data, limit)
        large.hold(request, len(plain))
    return plain


async def _received(request: web.Request, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    large = request.app[LARGE_BODIES]
    parts: list[bytes] = []
    size = counted = 0
    async for part in request.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if size > LARGE:
            large.hold(request, size - counted)
            counted = size
    return b"".join(parts)


async def form_of(request: web.Request) -> Mapping[str, str]:
    """The fields of a small form that a page has posted; none of what is no such form. It may be
    asked for again. Raises as :func:`read` does."""
    found = request.get(_FORM)
    if found is None:
        found = {}
        if request.content_type == "application/x-www-form-urlencoded":
            data = await read(request, limit=LARGE)
            with suppress(ValueError):
                found = dict(parse_qsl(data.decode(), True, max_num_fields=_MOST_FIELDS))
        request[_FORM] = found
    return found


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


async def decode(
    request: web.Request,
    data: bytes,
    parse: Callable[[bytes], Result],
    *,
    most_values: int = MAX_BODY_BYTES // _BYTES_FOR_VALUE,
) -> Result:
    """What ``parse`` makes of a body; of a large one beside the loop, one at a time.

    Raises :class:`ProblemError` (413) where it has more than ``most_values`` JSON values, 503 where
    there are too many large ones, and what ``parse`` raises.
    """
    if len(data) <= LARGE:
        return parse(data)  # as many values as that can hold are not many
    large = request.app[LARGE_BODIES]
    async with large.turn():
        values = await asyncio.to_thread(count_values, data, most_values)
        if values > most_values:
            detail = f"the body has more than {most_values:,} JSON values; send fewer at once"
            raise ProblemError(413, "too-many-values", detail, most=most_values)
        large.hold(request, values * BYTES_PER_VALUE)
        return await asyncio.to_thread(parse, data)


async def beside_loop(request: web.Request, make: Callable[[], Result]) -> Result:
    """What ``make`` makes of the body: in a thread, unless it is small."""
    size = request.get(_SIZE, 0)
    if size <= _SMALL:
        return make()
    if size <= LARGE:
        return await asyncio.to_thread(make)
    async with request.app[LARGE_BODIES].turn():
        return await asyncio.to_thread(make)


def _busy() -> ProblemError:
    detail = "this facade has as many large bodies in hand as it takes; send it again soon"
    return ProblemError(503, "too-many-large-bodies", detail)


def _too_large(limit: int) -> web.HTTPRequestEntityTooLarge:
    apart = "; send a capability document apart with PUT /documents/{digest}"
    detail = f"the body is over the limit of {limit:,} bytes"
    text = detail + (apart if limit == MAX_BODY_BYTES else "; send less")
    return web.HTTPRequestEntityTooLarge(limit, text=text)


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
        raise _too_large(limit)
    if not unpack.eof:
        raise ProblemError(400, "not-gzip", "the body's gzip data ends too early; send it again")
    return plain


async def read_object(
    request: web.Request, *, empty: bool = False, limit: int = MAX_BODY_BYTES
) -> dict[str, Any]:
    """The body as a JSON object; no body is one if ``empty``.

    ``limit`` in bytes is that of :func:`read`. Raises :class:`ProblemError` where it is not that,
    and where its content type is another.
    """
    data = await read(request, limit=limit)
    request[_SIZE] = len(data)
    if empty and not data.strip():
        return {}
    if data:
        require_json(request)
    try:
        most = min(limit // _BYTES_FOR_VALUE, _MOST_VALUES)
        body = await decode(request, data, orjson.loads, most_values=most)
    except orjson.JSONDecodeError as error:
        detail = f"the body is not JSON in UTF-8 ({error}); send one JSON object"
        raise ProblemError(400, "not-json", detail) from error
    if not isinstance(body, dict):
        detail = f"the body is a JSON {_NAMES[type(body)]}; send one JSON object"
        raise ProblemError(400, "not-an-object", detail)
    if len(body) > _MOST_MEMBERS:
        detail = f"the body has {len(body):,} members; no object has more than {_MOST_MEMBERS:,}"
        raise ProblemError(413, "too-many-values", detail, most=_MOST_MEMBERS)
    return body


def require_json(request: web.Request) -> None:
    """Raises :class:`ProblemError` (415) unless the content type is ``application/json``.

    A form of a web page, which asks nobody before it is sent, cannot have this one.
    """
    if request.content_type != _JSON:
        given = request.headers.get("Content-Type")
        found = "there is no Content-Type" if given is None else f"this is {given[:100]!r}"
        detail = f"{found}; send the body with Content-Type: {_JSON}"
        raise ProblemError(415, "not-json-type", detail)


_NAMES: dict[type, str] = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
