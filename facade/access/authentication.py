"""Who asks, by the file of ``--auth``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from cachetools import LRUCache

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.facade.access import tokens
from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.certificates import certificate_of, roles_of
from mcp_discovery.facade.access.challenge import Challenges, resource_path
from mcp_discovery.facade.access.refused_credentials import (
    IssuerAwayError,
    RefusedCredentials,
    UntrustedTokenError,
)
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.problems import ProblemError

if TYPE_CHECKING:
    from mcp_discovery.facade.access.issuer_keys import IssuerKeys
    from mcp_discovery.facade.access.signed_tokens import VerifiedToken

#: The longest credential that is looked at, in characters.
_LONGEST = 16 * 2**10
#: So many JWTs are remembered once they are verified, by their hashes.
_MOST_VERIFIED = 20_000


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A verified JWT: it counts while the policy is the same and its issuer drops no key."""

    policy: Policy
    keys: IssuerKeys
    removed: int
    token: VerifiedToken

    def counts_in(self, policy: Policy) -> bool:
        """Whether it counts still; raises :class:`IssuerAwayError`."""
        self.keys.known()  # has a file of keys looked at, and how old they are
        return (
            self.policy is policy
            and self.removed == self.keys.removed
            and self.token.expires_at > time.time()
        )


class FileAuthentication:
    """Tells callers by the tokens, issuers and certificates that a file names.

    A token goes before the certificate of the connection, which may be a proxy's.

    ``public_url`` is where clients reach this facade: a token that was made for one of its
    resources (RFC 8707) is good for that one.
    """

    def __init__(
        self,
        policy: FollowedFiles[Policy],
        challenges: Challenges,
        refusals: RefusedCredentials,
        public_url: str | None = None,
    ) -> None:
        self._policy = policy
        self._challenges = challenges
        self._keyring = policy.current().keyring
        self._refusals = refusals
        self._public_url = public_url
        self._verified: LRUCache[bytes, _Remembered] = LRUCache(_MOST_VERIFIED)

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application: follows the issuers' keys."""
        async with self._keyring:
            self._keyring.follow(self._policy.current().issuers.values())
            yield

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever a credential that counted may count no more."""
        policy = self._policy.current()
        issuers = policy.issuers
        self._keyring.follow(issuers.values())
        return (policy, *(each.state for each in issuers.values()))

    async def identify(self, request: web.Request) -> Caller:
        """The caller; raises :class:`ProblemError` (401) for a credential that is not valid."""
        policy = self._policy.current()
        address = client_of(request).address
        try:
            token = _bearer_token(request)
            if token is None:
                return _without_token(request, policy, address)
            if token.startswith(tokens.PREFIX):
                return _of_facade(token, policy, address)
            return await self._of_issuer(request, token, policy, address)
        except UntrustedTokenError as error:
            self._refusals.note(error, address)
            raise self._challenges.invalid_token(request) from error

    async def _of_issuer(
        self, request: web.Request, text: str, policy: Policy, address: str
    ) -> Caller:
        if not policy.issuers:
            raise UntrustedTokenError("unknown", "it is no token of this facade")
        digest = hashlib.sha256(text.encode()).digest()
        known = self._verified.get(digest)
        try:
            if known is None or not known.counts_in(policy):
                known = self._verified[digest] = await self._verify(text, policy)
        except IssuerAwayError as error:
            raise ProblemError(503, "issuer-away", str(error)) from error
        token = known.token
        self._require_audience(request, token, known.keys)
        rights = policy.rights(token.roles, token.scopes)
        return Caller(token.subject, "jwt", token.roles, rights, address, token.expires_at)

    async def _verify(self, text: str, policy: Policy) -> _Remembered:
        from mcp_discovery.facade.access import signed_tokens

        read = signed_tokens.read(text)
        keys = policy.issuers.get(read.issuer)
        if keys is None:
            raise UntrustedTokenError("issuer", "its issuer is not one of the file")
        signed_tokens.check(read, keys.issuer)
        found = await keys.find(read.key_id, read.algorithm)
        return _Remembered(
            policy, keys, keys.removed, signed_tokens.verify(read, keys.issuer, found)
        )

    def _require_audience(
        self, request: web.Request, token: VerifiedToken, keys: IssuerKeys
    ) -> None:
        """RFC 8707: a token that was made for another resource is refused."""
        if not token.audience.isdisjoint(keys.audience):
            return
        if self._public_url is not None:
            if self._public_url + resource_path(request) in token.audience:
                return
            if not keys.audience and self._public_url in token.audience:
                return
        raise UntrustedTokenError("audience", "it was made for another resource")


def _without_token(request: web.Request, policy: Policy, address: str) -> Caller:
    """The caller by its certificate, or an anonymous one."""
    rules = policy.file.certificates
    found = certificate_of(request) if rules else None
    if found is not None and (roles := roles_of(found, rules)):
        rights = policy.rights(roles)
        return Caller(found.name, "certificate", roles, rights, address, found.expires_at)
    anonymous = tuple(policy.file.anonymous)
    return Caller("", "anonymous", anonymous, policy.rights(anonymous), address)


def _of_facade(token: str, policy: Policy, address: str) -> Caller:
    """The caller with a token that ``mcp-discovery token`` made."""
    found = tokens.find(token, policy.file.tokens)
    if found is None:
        raise UntrustedTokenError("unknown", "it is not in the file, or not any more")
    id, entry = found
    expires = None if entry.expires is None else entry.expires.timestamp()
    if expires is not None and expires <= time.time():
        raise UntrustedTokenError("expired", f"the token {id} has expired")
    roles = tuple(entry.roles)
    return Caller(entry.subject or id, "token", roles, policy.rights(roles), address, expires)


def _bearer_token(request: web.Request) -> str | None:
    """The bearer token, ``None`` without any credential."""
    given = request.headers.getall("Authorization", ())
    if not given:
        return None
    if len(given) > 1:
        detail = "there are several Authorization headers; send one"
        raise ProblemError(400, "invalid-request", detail)
    scheme, _, token = given[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST:
        raise UntrustedTokenError("malformed", "it is no bearer token, or too long a one")
    return token
