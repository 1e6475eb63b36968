"""The caller: who asks, as a token, a certificate or an address tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from mcp_discovery.facade.access.rights import Rights


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    ``subject`` names the caller and is the same for all its credentials: the ``subject`` of a
    token, ``<issuer>#<sub>`` of a JWT, the SPIFFE id or the subject of a certificate; ``""`` for
    an anonymous one. ``address`` is the client's IP address. ``expires_at`` is the POSIX time from
    which on the credential counts no more.
    """

    subject: str
    by: Literal["anonymous", "token", "jwt", "certificate"]
    roles: tuple[str, ...]
    rights: Rights
    address: str
    expires_at: float | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether it gave no credential."""
        return self.by == "anonymous"

    @property
    def key(self) -> str:
        """What quotas are counted by: the subject, or the address of an anonymous caller."""
        return f"{self.by}:{self.address if self.is_anonymous else self.subject}"


_CALLER = web.RequestKey("caller", Caller)


def caller_of(request: web.Request) -> Caller:
    """Who asks; for what runs behind :class:`mcp_discovery.facade.access.gate.Gate`."""
    return request[_CALLER]


def caller_if_known(request: web.Request) -> Caller | None:
    """Who asks; ``None`` for a request that was refused before that was known."""
    return request.get(_CALLER)


def identified(request: web.Request, caller: Caller) -> None:
    """Says of ``request`` who asks."""
    request[_CALLER] = caller
