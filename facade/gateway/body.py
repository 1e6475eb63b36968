"""A request's body on its way through: its beginning is kept, what follows is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
from aiohttp import web

from mcp_discovery.facade.http.problems import ProblemError

#: So much of a body is kept, in bytes: nearly every call as a whole, so that it can be sent again.
_KEPT = 64 * 2**10
#: The largest body that is passed on, in bytes.
MOST = 64 * 2**20


class Body:
    """The body of one request. ``fault`` says what was wrong with it while it was passed on."""

    def __init__(self, request: web.Request, timeout: float) -> None:
        """``timeout`` in seconds bounds the wait for its beginning and for each part after it."""
        self._content = request.content
        self._length = request.content_length
        self._timeout = timeout
        self._kept = b""
        self.whole = not request.can_read_body
        self.fault: ProblemError | None = None

    async def begin(self) -> None:
        """Reads the beginning; raises :class:`ProblemError` for one that is too large or too
        slow."""
        if (self._length or 0) > MOST:
            raise _too_large()
        while not self.whole and len(self._kept) < _KEPT:
            part = await self._part()
            self._kept += part
            self.whole = not part

    def to_send(self) -> bytes | AsyncIterator[bytes] | None:
        """What to send on; only a body that is ``whole`` can be sent twice."""
        if self.whole:
            return self._kept or None
        return self._parts()

    @property
    def headers(self) -> dict[str, str]:
        """How long it is, where that was said."""
        return {} if self.whole or self._length is None else {"Content-Length": str(self._length)}

    @property
    def id(self) -> str | int | float | None:
        """The id of the JSON-RPC request in it; ``None`` where it cannot be read."""
        try:
            message = orjson.loads(self._kept)
        except orjson.JSONDecodeError:
            return None
        id = message.get("id") if isinstance(message, dict) else None
        return id if isinstance(id, str | int | float) and not isinstance(id, bool) else None

    async def _parts(self) -> AsyncIterator[bytes]:
        yield self._kept
        sent = len(self._kept)
        try:
            while part := await self._part():
                sent += len(part)
                if sent > MOST:
                    raise _too_large()
                yield part
        except ProblemError as error:
            self.fault = error
            raise

    async def _part(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._content.readany()
        except TimeoutError as error:
            detail = f"the body did not go on within {self._timeout:g} s; send it again"
            raise ProblemError(408, "slow-body", detail) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise ProblemError(
                400, "body-broken-off", f"the body cannot be read: {error}"
            ) from error


def _too_large() -> ProblemError:
    return ProblemError(413, "body-too-large", f"the body is over the limit of {MOST:,} bytes")
