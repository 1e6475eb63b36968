"""Which parts a request is answered by: those over what its caller may see."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from mcp_discovery.facade.access.parts import PartSet, given_parts
from mcp_discovery.facade.http.problems import Handler


@dataclass(frozen=True, slots=True)
class Visibility:
    """Gives each request the parts of its caller."""

    whole: PartSet

    @web.middleware
    async def choose(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Puts the parts into the request, for :func:`parts_of`."""
        given_parts(request, self.whole)
        return await handler(request)
