"""Sends a server's bearer token to that server alone, as it is when each request is sent."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from mcp_discovery.credential_files import Secret
from mcp_discovery.urls import origin_of


class BearerAuth:
    """A middleware of aiohttp sessions that adds ``secret``, and ``headers``, to the requests to
    ``url``'s origin.

    One that was refused is read again at once, and where it is another by then, the request is sent
    once more.
    """

    def __init__(self, secret: Secret, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._secret = secret
        self._headers = headers or {}
        self._origin = origin_of(url)

    def secrets(self) -> tuple[str, ...]:
        """What must stay out of messages."""
        token = self._secret.current()
        words = (word for value in self._headers.values() for word in (value, *value.split()[1:]))
        return tuple(filter(None, (token, *words)))

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Sends ``request`` by ``handler``; what aiohttp calls for each request."""
        token = self._secret.current()
        if not (token or self._headers) or origin_of(str(request.url)) != self._origin:
            return await handler(request)
        request.headers.update(self._headers)
        if not token:
            return await handler(request)
        request.headers[aiohttp.hdrs.AUTHORIZATION] = f"Bearer {token}"
        response = await handler(request)
        if response.status not in (401, 403) or (fresh := self._secret.renewed()) == token:
            return response
        response.release()
        request.headers[aiohttp.hdrs.AUTHORIZATION] = f"Bearer {fresh}"
        return await handler(request)
