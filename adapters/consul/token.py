"""What Consul says of the store's own token: whether it is one, and when it expires."""

from __future__ import annotations

import logging

from mcp_discovery.adapters.consul.transport import ConsulTransport
from mcp_discovery.adapters.store import CredentialsEnd
from mcp_discovery.health import rfc3339
from mcp_discovery.record import parse_moment

log = logging.getLogger(__name__)

_ACLS_OFF = (
    "a token is given, but Consul's ACLs are off: it was not checked, and whoever reaches Consul "
    "may read and write everything; turn them on (acl.enabled on every agent), or give no token"
)

#: A token's end is near when this part of its life is left.
NEAR = 0.2


class OwnToken:
    """The token with which this store's requests are sent. Consul's ACLs may be off."""

    def __init__(self, http: ConsulTransport) -> None:
        self._http = http
        #: When it expires, as far as :meth:`look` has found out.
        self.end: CredentialsEnd | None = None
        #: See :attr:`mcp_discovery.adapters.store.Store.unguarded`.
        self.unguarded: str | None = None
        self._of: tuple[str | None] | None = None  # the token that was looked at last
        self._told = False

    @property
    def secret(self) -> str | None:
        """The token itself, as the next request carries it; it is another once it was rotated."""
        return self._http.token

    async def look(self) -> bool:
        """Asks Consul; returns whether ACLs are on. Raises :class:`StoreDeniedError` for a token
        that Consul does not know, or no longer."""
        looked_at = (self.secret,)
        response = await self._http.send("GET", "/v1/acl/token/self")
        if response.status == 403 and "ACL not found" in response.text:
            self._http.refuse(response)
        self._of, self._told, self.end = looked_at, False, None
        known = self.unguarded
        off = response.status == 401 and "ACL support disabled" in response.text
        self.unguarded = _ACLS_OFF if off and self.secret else None
        if self.unguarded and not known:
            log.warning("%s: %s", self._http.address.shown, self.unguarded)
        if response.status != 200:  # ACLs are off, or a proxy blocks the request
            return False
        with self._http.reading(response):
            token = self._http.json(response)
            if "ExpirationTime" in token:
                expires = parse_moment(token["ExpirationTime"])
                life = expires - parse_moment(token["CreateTime"])
                self.end = CredentialsEnd(expires, expires - NEAR * life)
        return True

    async def follow(self) -> None:
        """Looks at a token that was rotated, and warns once when the end of it is near."""
        if self._of != (self.secret,):
            await self.look()
        if self.end is not None and self.end.near and not self._told:
            self._told = True
            log.warning(
                "%s: the token expires at %s; give another one before, in the token file or with a "
                "restart, or what is registered with it goes down",
                self._http.address.shown,
                rfc3339(self.end.at),
            )
