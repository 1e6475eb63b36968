"""What a caller shows, and what counts of it: tokens of the file, JWTs, and logins at issuers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mcp_discovery.facade.access import tokens
from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.browser_session import BrowserSession, SignedIn
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.refused_credentials import UntrustedTokenError
from mcp_discovery.facade.access.rights import Rights

if TYPE_CHECKING:
    from mcp_discovery.facade.access.issuer_keys import IssuerKeys
    from mcp_discovery.facade.access.sealing import SealingKeys

#: The longest credential that is looked at, in characters.
_LONGEST = 16 * 2**10
#: Seconds between two looks at the age of the keys that a credential was verified with.
_LOOK_EVERY = 0.25


@dataclass(eq=False, slots=True)
class Credential:
    """A token that counted: it does while the policy is the same and its issuer drops no key."""

    policy: Policy
    by: Literal["token", "jwt"]
    subject: str
    roles: tuple[str, ...]
    rights: Rights
    expires_at: float | None
    keys: IssuerKeys | None = None
    removed: int = 0
    #: For which resources it was made, ``None`` for all of the facade's.
    audience: frozenset[str] | None = None
    #: The session of a browser that shows it, and the keys that opened its cookie.
    session: BrowserSession | None = None
    sealing: SealingKeys | None = None
    #: Who showed it last, most often at the same address as now.
    _caller: Caller | None = None
    _looked_at: float = 0.0

    def caller(self, address: str) -> Caller:
        """Who shows it at ``address``."""
        if self._caller is None or self._caller.address != address:
            self._caller = Caller(
                *(self.subject, self.by, self.roles, self.rights, address, self.expires_at),
                is_for_one_resource=self.audience is not None,
            )
        return self._caller

    def counts_in(self, policy: Policy) -> bool:
        """Whether it counts still; raises :class:`IssuerAwayError`."""
        if self.policy is not policy:
            return False
        if policy.sealing is not None and self.sealing not in (None, policy.sealing()):
            return False
        now = time.time()
        if self.keys is not None:
            if not self._looked_at <= now < self._looked_at + _LOOK_EVERY:
                self.keys.known()  # has a file of keys looked at, and how old they are
                self._looked_at = now
            if self.removed != self.keys.removed:
                return False
        return self.expires_at is None or self.expires_at > now


async def credential_in(header: str, policy: Policy, public_url: str | None) -> Credential:
    """What counts of an ``Authorization`` header; raises :class:`UntrustedTokenError` and
    :class:`IssuerAwayError`."""
    token = _bearer_token(header)
    if token.startswith(tokens.PREFIX):
        return _of_facade(token, policy)
    if policy.issuers:
        return await _of_issuer(token, policy, public_url)
    raise UntrustedTokenError("unknown", "it is no token of this facade")


def _of_facade(token: str, policy: Policy) -> Credential:
    """A token that ``mcp-discovery token`` made; raises :class:`UntrustedTokenError`."""
    found = tokens.find(token, policy.file.tokens)
    if found is None:
        raise UntrustedTokenError("unknown", "it is not in the file, or not any more")
    id, entry = found
    expires = None if entry.expires is None else entry.expires.timestamp()
    if expires is not None and expires <= time.time():
        raise UntrustedTokenError("expired", f"the token {id} has expired")
    roles = tuple(entry.roles)
    return Credential(policy, "token", entry.subject or id, roles, policy.rights(roles), expires)


async def _of_issuer(text: str, policy: Policy, public_url: str | None) -> Credential:
    """A JWT; raises :class:`UntrustedTokenError` and :class:`IssuerAwayError`."""
    from mcp_discovery.facade.access import signed_tokens

    read = signed_tokens.read(text)
    keys = policy.issuers.get(read.issuer)
    if keys is None:
        raise UntrustedTokenError("issuer", "its issuer is not one of the file")
    signed_tokens.check(read, keys.issuer)
    found = await keys.find(read.key_id, read.algorithm)
    removed = keys.removed
    token = signed_tokens.verify(read, keys.issuer, found)
    rights = policy.rights(token.roles, token.scopes)
    is_for_all = not token.audience.isdisjoint(keys.audience or {public_url})
    return Credential(
        *(policy, "jwt", token.subject, token.roles, rights, token.expires_at),
        keys=keys,
        removed=removed,
        audience=None if is_for_all else token.audience,
    )


async def credential_of_login(found: SignedIn, policy: Policy) -> Credential:
    """Who signed in at an issuer, with the roles that its claims give now; raises
    :class:`UntrustedTokenError` and :class:`IssuerAwayError`."""
    keys = policy.issuers.get(found.issuer)
    issuer = None if keys is None else keys.issuer
    if keys is None or issuer is None or issuer.login is None:
        raise UntrustedTokenError("issuer", "nobody signs in at its issuer any more")
    if issuer.login.client_id != found.client_id:
        raise UntrustedTokenError("client", "it was begun by another client")
    if (issuer.subject_claim, issuer.roles_claim) != found.read_by:
        raise UntrustedTokenError("claims", "its claims were read otherwise than now")
    known = await keys.find(found.key_id, found.algorithm)
    if all(each.mark != found.key for each in known):
        raise UntrustedTokenError("signature", "its issuer has dropped the key that signed it")
    roles = tuple(issuer.roles_of({issuer.roles_claim: list(found.roles)}))
    rights = policy.rights(roles, issuer.scopes_of({"scope": found.scope}))
    subject = f"{issuer.issuer}#{found.subject}"
    return Credential(policy, "jwt", subject, roles, rights, None, keys, keys.removed)


def _bearer_token(header: str) -> str:
    """The token; raises :class:`UntrustedTokenError` for another kind of credential."""
    scheme, _, token = header.partition(" ")
    token = token.strip(" \t")  # RFC 9110, 5.6.3
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST:
        raise UntrustedTokenError("malformed", "it is no bearer token, or too long a one")
    return token
