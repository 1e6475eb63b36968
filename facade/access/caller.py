"""The caller: who asks, as a token, a certificate or an address tells."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Literal, NamedTuple

from aiohttp import web

from mcp_discovery.connection_room import site_of
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.rights import Rights


class Caller(NamedTuple):
    """Who asks.

    ``subject`` names the caller and is the same for all its credentials: the ``subject`` of a
    token, ``<issuer>#<sub>`` of a JWT, the SPIFFE id or the subject of a certificate; ``""`` for
    an anonymous one. ``address`` is the client's IP address. ``expires_at`` is the POSIX time from
    which on the credential counts no more. ``is_for_one_resource``: it is good for that one alone
    that was asked for (RFC 8707).
    """

    subject: str
    by: Literal["anonymous", "token", "jwt", "certificate"]
    roles: tuple[str, ...]
    rights: Rights
    address: str
    expires_at: float | None = None
    is_for_one_resource: bool = False

    @property
    def is_anonymous(self) -> bool:
        """Whether it gave no credential."""
        return self.by == "anonymous"

    @property
    def key(self) -> str:
        """What quotas are counted by: the subject, or the address of an anonymous caller."""
        if self.by == "anonymous":
            return key_of_address(self.address)
        return f"{self.by}:{self.subject}"


@lru_cache(4096)
def key_of_address(address: str) -> str:
    """What quotas of an anonymous caller are counted by."""
    try:
        return f"anonymous:{site_of(ipaddress.ip_address(address))}"
    except ValueError:
        return "anonymous:"


_CALLER = web.RequestKey("caller", Caller)
_REFUSAL = web.RequestKey("refusal", DiscoveryError)


def caller_of(request: web.Request) -> Caller:
    """Who asks; for what runs behind :class:`mcp_discovery.facade.access.gate.Gate`."""
    return request[_CALLER]


def caller_if_known(request: web.Request) -> Caller | None:
    """Who asks; ``None`` for a request that was refused before that was known."""
    return request.get(_CALLER)


def identified(request: web.Request, caller: Caller, refusal: DiscoveryError | None = None) -> None:
    """Says of ``request`` who asks; ``refusal`` is why its credential counts for nothing."""
    request[_CALLER] = caller
    if refusal is not None:
        request[_REFUSAL] = refusal


def refusal_of(request: web.Request) -> DiscoveryError | None:
    """Why the credential of a request counts for nothing, where what is open is asked for."""
    return request.get(_REFUSAL)
