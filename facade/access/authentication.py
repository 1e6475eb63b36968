"""Who asks, by the file of ``--auth``."""

from __future__ import annotations

import time

from aiohttp import web

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.facade.access import tokens
from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.challenge import Challenges
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.problems import ProblemError

#: The longest credential that is looked at, in characters.
_LONGEST = 16 * 2**10


class FileAuthentication:
    """Tells callers by the tokens, issuers and certificates that a file names."""

    def __init__(self, policy: FollowedFiles[Policy], challenges: Challenges) -> None:
        self._policy = policy
        self._challenges = challenges

    async def identify(self, request: web.Request) -> Caller:
        """The caller; raises :class:`ProblemError` (401) for a credential that is not valid."""
        policy = self._policy.current()
        token = self._token(request)
        address = client_of(request).address
        if token is None:
            roles = tuple(policy.file.anonymous)
            return Caller("", "anonymous", roles, policy.rights(roles), address)
        found = tokens.find(token, policy.file.tokens)
        if found is None:
            raise self._challenges.invalid_token(request)
        id, entry = found
        expires = None if entry.expires is None else entry.expires.timestamp()
        if expires is not None and expires <= time.time():
            raise self._challenges.invalid_token(request)
        roles = tuple(entry.roles)
        return Caller(entry.subject or id, "token", roles, policy.rights(roles), address, expires)

    def _token(self, request: web.Request) -> str | None:
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
            raise self._challenges.invalid_token(request)
        return token
