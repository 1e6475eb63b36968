"""Who asks, by the file of ``--auth``: a token, a browser's session, or a certificate."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from hmac import compare_digest

from aiohttp import web
from aiohttp.hdrs import AUTHORIZATION

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.facade.access.auth_file import Policy
from mcp_discovery.facade.access.browser_session import (
    BrowserSession,
    BrowserSessions,
    identified_by,
    require_csrf,
)
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.certificates import certificate_of, roles_of
from mcp_discovery.facade.access.challenge import Challenges, resource_path
from mcp_discovery.facade.access.credential import (
    Credential,
    credential_in,
    credential_of_login,
)
from mcp_discovery.facade.access.refused_credentials import (
    IssuerAwayError,
    RefusedCredentials,
    UntrustedTokenError,
)
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.http_listener import Connection

#: So many credentials are remembered that counted, by their hashes; then it begins anew.
_MOST_REMEMBERED = 20_000


class FileAuthentication:
    """Tells callers by the tokens, issuers and certificates that a file names.

    An ``Authorization`` header goes before a browser's session, one of the ``sessions``, and either
    before the certificate of the connection, which may be a proxy's.

    ``public_url`` is where clients reach this facade: a token that was made for one of its
    resources (RFC 8707) is good for that one.
    """

    def __init__(
        self,
        policy: FollowedFiles[Policy],
        challenges: Challenges,
        refusals: RefusedCredentials,
        sessions: BrowserSessions,
        public_url: str | None = None,
    ) -> None:
        self._policy = policy
        #: Those of browsers, which it knows callers by.
        self.sessions = sessions
        self._challenges = challenges
        self._keyring = policy.current().keyring
        self._refusals = refusals
        self.public_url = public_url
        self._known: dict[bytes, Credential] = {}

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """From start to clean-up of the application: follows the issuers' keys."""
        async with self._keyring:
            self._keyring.follow(self._policy.current().issuers.values())
            yield

    @property
    def policy(self) -> Policy:
        """What the file says now."""
        return self._policy.current()

    async def renew(self) -> None:
        """Reads the file anew where it has changed: in a thread, as 1,000 tokens take 0.2 s."""
        if self._policy.has_changed():
            await asyncio.to_thread(self._policy.take)

    @property
    def state(self) -> tuple[object, ...]:
        """Changes whenever a credential that counted may count no more."""
        policy = self._policy.current()
        issuers = policy.issuers
        self._keyring.follow(issuers.values())
        sealing = None if policy.sealing is None else policy.sealing()
        keys = (each.state for each in issuers.values())
        return (policy, sealing, self.sessions.ended, *keys)

    async def identify(self, request: web.Request) -> Caller:
        """The caller; raises :class:`ProblemError` (401) for a credential that is not valid."""
        policy = self._policy.current()
        address = client_of(request).address
        given = request.headers.getall(AUTHORIZATION, None)
        if given is not None and len(given) > 1:
            detail = "there are several Authorization headers; send one"
            raise ProblemError(400, "invalid-request", detail)
        try:
            if given is None:
                cookie = None if policy.sealing is None else self.sessions.shown(request)
                if cookie is None:
                    return _without_token(request, policy, address)
                found = await self._of_browser(cookie, policy)
            else:
                found = self._remembered(request, given[0], policy) or await self._verified(
                    given[0], policy
                )
            if found.audience is not None:
                self._require_resource(request, found.audience)
        except UntrustedTokenError as error:
            refusal = self.refused(request, error)
            raise (refusal if given else self._challenges.ended_session(request)) from error
        except IssuerAwayError as error:
            raise ProblemError(503, "issuer-away", str(error)) from error
        if found.session is not None:
            identified_by(request, found.session)
            await require_csrf(request, found.session)
        return found.caller(address)

    async def caller_in(self, request: web.Request, session: BrowserSession) -> Caller:
        """Who asks in a ``session`` that is about to begin; raises :class:`ProblemError` (401, 503)
        where what it is by is not valid for this facade as a whole."""
        try:
            found = await self._of_session(session, self._policy.current())
            if found.audience is not None:
                self._require_resource(request, found.audience)
        except UntrustedTokenError as error:
            raise self.refused(request, error) from error
        except IssuerAwayError as error:
            raise ProblemError(503, "issuer-away", str(error)) from error
        return found.caller(client_of(request).address)

    def refused(self, request: web.Request, error: UntrustedTokenError) -> ProblemError:
        """Counts a credential that does not count; what its sender is told (401)."""
        self._refusals.note(error, client_of(request).address)
        return self._challenges.invalid_token(request)

    async def _of_browser(self, cookie: str, policy: Policy) -> Credential:
        """The credential in the session with this ``cookie``; raises :class:`UntrustedTokenError`
        and :class:`IssuerAwayError`."""
        header = f"session {cookie}"
        found = self._known_in(policy, header)
        if found is None:
            assert policy.sealing is not None, "without keys there are no sessions"
            sealing = policy.sealing()
            session = self.sessions.opened(cookie, sealing)
            found = await self._of_session(session, policy)
            found.sealing = sealing
            self._remember(header, found)
        if found.session is not None and self.sessions.has_ended(found.session):
            raise UntrustedTokenError("expired", "somebody has signed out of the session")
        return found

    async def _of_session(self, session: BrowserSession, policy: Policy) -> Credential:
        if session.signed_in is not None:
            found = await credential_of_login(session.signed_in, policy)
        else:
            header = f"Bearer {session.token}"
            found = await credential_in(header, policy, self.public_url)
        found.session = session
        own = session.ends_at
        found.expires_at = own if found.expires_at is None else min(own, found.expires_at)
        return found

    def _remembered(self, request: web.Request, header: str, policy: Policy) -> Credential | None:
        """The credential of ``header``, if it is known and counts still."""
        connection = request.protocol
        if not isinstance(connection, Connection) or not header.isascii():
            return self._known_in(policy, header)
        # Most connections show one credential; a proxy's has the requests of many clients.
        shown, last = connection.shown
        if (
            isinstance(last, Credential)
            and compare_digest(shown, header)
            and last.counts_in(policy)
        ):
            return last
        if (found := self._known_in(policy, header)) is not None:
            connection.shown = header, found
        return found

    def _known_in(self, policy: Policy, header: str) -> Credential | None:
        found = self._known.get(_digest(header))
        return found if found is not None and found.counts_in(policy) else None

    async def _verified(self, header: str, policy: Policy) -> Credential:
        """What counts of an ``Authorization`` header; raises :class:`UntrustedTokenError` and
        :class:`IssuerAwayError`."""
        found = await credential_in(header, policy, self.public_url)
        self._remember(header, found)
        return found

    def _remember(self, header: str, found: Credential) -> None:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[_digest(header)] = found

    def _require_resource(self, request: web.Request, audience: frozenset[str]) -> None:
        """RFC 8707: a token that was made for one resource is refused for another."""
        if (self.public_url or "") + resource_path(request) not in audience:
            raise UntrustedTokenError("audience", "it was made for another resource")


def _digest(header: str) -> bytes:
    return hashlib.blake2s(header.encode("utf-8", "surrogateescape")).digest()


def _without_token(request: web.Request, policy: Policy, address: str) -> Caller:
    """The caller by its certificate, or an anonymous one."""
    rules = policy.file.certificates
    found = certificate_of(request) if rules else None
    if found is not None and (roles := roles_of(found, rules)):
        rights = policy.rights(roles)
        return Caller(found.name, "certificate", roles, rights, address, found.expires_at)
    anonymous = tuple(policy.file.anonymous)
    return Caller("", "anonymous", anonymous, policy.rights(anonymous), address)


AUTHENTICATION: web.AppKey[FileAuthentication] = web.AppKey("authentication", FileAuthentication)
