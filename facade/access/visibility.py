"""Which parts a request is answered by: those over what its caller may see.

Callers whose rights show the same of every list share them. They are made when they are first
wanted, and dropped when nobody has used them for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mcp_discovery.facade.access.caller import caller_of
from mcp_discovery.facade.access.list_parts import ListParts, VisibleParts
from mcp_discovery.facade.access.parts import Part, given_parts
from mcp_discovery.facade.access.rights import Rights
from mcp_discovery.facade.http.problems import Handler
from mcp_discovery.facade.mcp.server import McpServer
from mcp_discovery.facade.options import FacadeOptions

#: For how many seconds parts are kept that nobody uses, and how many such are kept at most.
_KEPT_FOR, _MOST_UNUSED = 900.0, 256
#: Seconds between two looks for them.
_LOOK = 30.0
#: For how many seconds a request waits for its caller's list to be in step with the whole.
_IN_STEP_WITHIN = 10.0


@dataclass(eq=False, slots=True)
class _Kept:
    """Parts with the stack that ends them, how many requests use them, and since when none did."""

    parts: VisibleParts
    running: AsyncExitStack
    requests: int = 0
    unused_since: float = field(default_factory=time.monotonic)

    @property
    def is_unused(self) -> bool:
        return not self.requests and not self.parts.is_used


class Visibility:
    """Gives each request the parts of its caller: ``whole`` to one that sees everything."""

    def __init__(self, whole: ListParts, mcp: McpServer, options: FacadeOptions) -> None:
        self._whole = whole
        self._mcp = mcp
        self._options = options
        self._turn = asyncio.Lock()
        #: By what their callers see.
        self._kept: dict[str, _Kept] = {}
        self._closed = False

    def __iter__(self) -> Iterator[ListParts]:
        yield self._whole
        yield from (kept.parts for kept in self._kept.values())

    def total(self, part: Part[Any]) -> int:
        """The length of ``part``, of all lists together."""
        return sum(len(parts[part]) for parts in self)

    @web.middleware
    async def choose(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Puts the parts into the request, for :func:`parts_of`."""
        rights = caller_of(request).rights
        if rights.sees_all:
            given_parts(request, self._whole)
            return await handler(request)
        kept = self._kept.get(rights.visibility) or await self._made(rights)
        kept.requests += 1
        try:
            if not kept.parts.is_in_step:  # who writes and then reads finds what it wrote
                with suppress(TimeoutError):
                    async with asyncio.timeout(_IN_STEP_WITHIN):
                        await kept.parts.in_step()
            given_parts(request, kept.parts)
            return await handler(request)
        finally:
            kept.requests -= 1
            kept.unused_since = time.monotonic()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application."""
        dropping = asyncio.create_task(self._drop_unused(), name="unused lists")
        try:
            yield
        finally:
            dropping.cancel()
            await asyncio.gather(dropping, return_exceptions=True)
            for kept in list(self._kept.values()):
                await kept.running.aclose()
            self._kept.clear()

    async def end_streams(self, _: web.Application) -> None:
        """Ends every stream and every waiting request, and those to come."""
        self._closed = True
        for parts in self:
            parts.close()

    async def _made(self, rights: Rights) -> _Kept:
        parts = VisibleParts(self._whole, rights, self._mcp, self._options, self._turn)
        kept = self._kept[rights.visibility] = _Kept(parts, AsyncExitStack())
        if self._closed:
            parts.close()
        await kept.running.enter_async_context(parts.running())
        return kept

    async def _drop_unused(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            unused = [(key, kept) for key, kept in self._kept.items() if kept.is_unused]
            unused.sort(key=lambda each: each[1].unused_since)
            before = time.monotonic() - _KEPT_FOR
            too_many = len(unused) - _MOST_UNUSED
            for number, (key, kept) in enumerate(unused):
                if kept.is_unused and (number < too_many or kept.unused_since < before):
                    del self._kept[key]
                    await kept.running.aclose()
