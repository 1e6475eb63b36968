"""The credentials of the facade's own, for requests that the client library makes for it."""

from __future__ import annotations

from collections.abc import Callable, Generator

import httpx2

from mcp_discovery.facade.gateway.credentials import KnownCredentials


class FollowedCredentials(httpx2.Auth):
    """Those that ``known`` has for the server ``name`` when a request is made."""

    def __init__(self, known: Callable[[], KnownCredentials], name: str) -> None:
        self._known = known
        self._name = name

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        url = str(request.url)
        request.headers.update(self._known().headers(self._name, url))
        response = yield request
        if response.status_code == 401 and self._known().renew(self._name, url):
            request.headers.update(self._known().headers(self._name, url))
            yield request
