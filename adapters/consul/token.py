"""What Consul says of the store's own token: whether it is one, and when it expires."""

from __future__ import annotations

from datetime import datetime

from mcp_discovery.adapters.consul.transport import ConsulTransport
from mcp_discovery.record import parse_moment


class OwnToken:
    """The token with which this store's requests are sent; Consul's ACLs may be off."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http
        #: When it expires, as of the last :meth:`look`; ``None`` where it does not.
        self.expires: datetime | None = None

    @property
    def secret(self) -> str | None:
        """The token itself, as the next request carries it; it is another once it was rotated."""
        return self._http.token

    async def look(self) -> bool:
        """Asks Consul; returns whether ACLs are on. Raises :class:`StoreDeniedError` for a token
        that Consul does not know, or no longer."""
        response = await self._http.send("GET", "/v1/acl/token/self")
        if response.status in (401, 404, 405):  # ACLs are off, or a proxy blocks the request
            self.expires = None
            return False
        if response.status != 200:
            self._http.refuse(response)
        with self._http.reading(response):
            expires = self._http.json(response).get("ExpirationTime")
            self.expires = parse_moment(expires) if expires is not None else None
        return True
