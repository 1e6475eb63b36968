"""Paths with a slash at their end, or with several in a row, lead to where they are meant to."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import web
from yarl import URL

from mcp_discovery.facade.http.operation import needing

_SLASHES = re.compile("/{2,}")


def without_needless_slashes(path: str) -> str:
    """``path`` with one slash for several, and with none at its end; ``%2F`` is no slash."""
    return _SLASHES.sub("/", path).rstrip("/") or "/"


class NeedlessSlashes(web.PlainResource):
    """The last resource of an application: finds those that all others missed for a slash.

    Pages and lists are redirected to their own path (308, RFC 9110, 15.4.9). Everything else is
    served at once, as not every client follows redirects: what has a body, streams and WebSockets.
    To an MCP client a 404 says that its session is over (MCP 2025-11-25, session management).
    """

    def __init__(self, router: web.UrlDispatcher, public_url: str | None) -> None:
        """``router`` has all the others; ``public_url`` is where clients reach the application."""
        super().__init__("/")
        self._router = router
        self._prefix = urlsplit(public_url or "").path.rstrip("/")

    async def resolve(
        self, request: web.Request
    ) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """What the other resources find for the path without needless slashes."""
        asked = request.rel_url
        path = without_needless_slashes(asked.raw_path)
        if path == asked.raw_path:
            return None, set()
        meant = URL.build(path=path, query_string=asked.raw_query_string, encoded=True)
        found = await self._router.resolve(request.clone(rel_url=meant))
        error = found.http_exception
        if error is not None:
            allowed = error.allowed_methods if isinstance(error, web.HTTPMethodNotAllowed) else ()
            return None, set(allowed)
        if request.method not in ("GET", "HEAD") or _is_stream(request):
            return found, set()

        async def redirect(_: web.Request) -> web.Response:
            # A path of this host: it begins with one slash, and backslashes, which browsers take
            # for slashes, are encoded.
            location = f"{self._prefix}{meant}".replace("\\", "%5C")
            return web.Response(status=308, headers={"Location": location})

        route = web.ResourceRoute(
            request.method, needing("open", redirect), found.route.resource or self
        )
        return web.UrlMappingMatchInfo({}, route), set()


def _is_stream(request: web.Request) -> bool:
    return "Upgrade" in request.headers or "text/event-stream" in request.headers.get("Accept", "")
