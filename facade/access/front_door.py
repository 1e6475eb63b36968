"""The facade's front door: see :mod:`mcp_discovery.front_door`."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.problems import Handler, ProblemError
from mcp_discovery.front_door import FrontDoor, NotAdmittedError

#: Methods that change nothing.
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class FacadeDoor(FrontDoor):
    """The front door of a facade.

    ``hosts``, ``origins`` and ``public_url`` are as in :class:`FrontDoor`. ``mcp`` are the paths of
    MCP endpoints; ``reading`` the paths of what is posted to and only reads, which all pages may.
    """

    pages_advice = "; start the facade with --cors-origin for those that may"

    def __init__(
        self,
        hosts: Iterable[str],
        origins: Iterable[str],
        mcp: Iterable[str],
        public_url: str | None = None,
        *,
        reading: Iterable[str] = (),
    ) -> None:
        super().__init__(hosts, origins, public_url, what="facade")
        self._mcp = frozenset(mcp)
        self._reading = frozenset(reading)

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises :class:`ProblemError` for what is refused."""
        try:
            self.check(request)
        except NotAdmittedError as error:
            raise ProblemError(error.status, error.kind, str(error), **error.facts) from None
        return await handler(request)

    def client_of(self, request: web.Request) -> tuple[str, str]:
        """As the trusted proxies say."""
        client = client_of(request)
        return client.scheme, client.host

    def is_guarded(self, request: web.Request) -> bool:
        """What changes something, opens a WebSocket or speaks MCP."""
        resource = request.match_info.route.resource
        path = "" if resource is None else resource.canonical
        if request.method not in _SAFE or "Upgrade" in request.headers:
            return path not in self._reading
        return path in self._mcp
