"""Signing in at an issuer: OpenID Connect's authorization code flow, with PKCE (RFC 7636).

https://openid.net/specs/openid-connect-core-1_0.html, 3.1; RFC 9700; RFC 9207.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote_plus, urlencode

import aiohttp

from mcp_discovery.credential_files import Secret
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.browser_session import SignedIn
from mcp_discovery.facade.access.issuers import LoginSection, claim, texts
from mcp_discovery.facade.access.refused_credentials import IssuerAwayError, UntrustedTokenError
from mcp_discovery.record import url_problem

if TYPE_CHECKING:
    from mcp_discovery.facade.access.issuer_keys import IssuerKeys
    from mcp_discovery.facade.access.signed_tokens import SignedToken

log = logging.getLogger(__name__)

#: After so many seconds an issuer that could not be asked is asked again.
_AGAIN_AFTER = 5.0
#: Where roles take more characters than this, those are left out that mean nothing here.
_MOST_OF_ROLES = 2000


class Endpoints(NamedTuple):
    """Where people sign in and out. ``names_itself``: answers have ``iss`` (RFC 9207)."""

    authorization: str
    token: str
    end_session: str | None
    names_itself: bool
    by_header: bool


class IssuerLogin:
    """How people sign in at the issuer of ``keys``, as ``section`` says.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for a secret that cannot be used.
    """

    def __init__(self, keys: IssuerKeys, section: LoginSection) -> None:
        self._keys = keys
        self.section = section
        self._secret = Secret(
            "client's secret at the issuer", None, section.client_secret_file, in_header=False
        )
        self._endpoints: Endpoints | None = None
        self._read_at = -math.inf
        self._reading = asyncio.Lock()

    @property
    def issuer(self) -> str:
        """Its URL."""
        return self._keys.issuer.issuer

    async def endpoints(self) -> Endpoints:
        """Those that the issuer's metadata name, read anew now and then; raises
        :class:`IssuerAwayError` where none are known."""
        async with self._reading:
            now = time.monotonic()
            every = self._keys.issuer.refresh if self._endpoints is not None else _AGAIN_AFTER
            if now > self._read_at + every:
                self._read_at = now
                try:
                    self._endpoints = self._fit(await self._keys.metadata())
                except (aiohttp.ClientError, OSError, DiscoveryError) as error:
                    log.warning("signing in at %s: %s", self._keys.issuer.issuer, error)
        if self._endpoints is None:
            raise self._away()
        return self._endpoints

    def _fit(self, found: Mapping[str, Any]) -> Endpoints:
        names = "authorization_endpoint", "token_endpoint", "end_session_endpoint"
        urls = [found.get(each) for each in names]
        for name, url in zip(names, urls, strict=True):
            fit = isinstance(url, str) and url_problem(url, ("http", "https")) is None
            if not (fit and self._keys.issuer.is_safe(str(url))) and (
                url is not None or not name.startswith("end")
            ):
                raise IssuerAwayError(f"its metadata have no {name} at an https URL")
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Endpoints(
            str(urls[0]),
            str(urls[1]),
            urls[2],
            found.get("authorization_response_iss_parameter_supported") is True,
            "client_secret_basic" in methods,
        )

    def _away(self) -> IssuerAwayError:
        return IssuerAwayError(
            f"{self._keys.issuer.issuer} cannot be asked now; try again soon, or sign in otherwise"
        )

    async def authorization_url(
        self, redirect_uri: str, state: str, nonce: str, verifier: str
    ) -> str:
        """Where the browser goes to sign in; raises :class:`IssuerAwayError`."""
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        wanted = {
            "response_type": "code",
            "client_id": self.section.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.section.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        if self.section.resource is not None:
            wanted["resource"] = self.section.resource
        return _with_query((await self.endpoints()).authorization, wanted)

    async def sign_out_url(self, back: str) -> str | None:
        """Where the browser signs out there as well and comes ``back`` from (OpenID Connect
        RP-Initiated Logout 1.0); ``None`` where that cannot be done."""
        try:
            url = (await self.endpoints()).end_session
        except IssuerAwayError:
            return None
        wanted = {"client_id": self.section.client_id, "post_logout_redirect_uri": back}
        return None if url is None else _with_query(url, wanted)

    async def require_issuer(self, given: str | None) -> None:
        """Raises :class:`UntrustedTokenError` where an answer is another issuer's (RFC 9207)."""
        if given is None and not (await self.endpoints()).names_itself:
            return
        if given != self._keys.issuer.issuer:
            raise UntrustedTokenError("issuer", "the answer is of another issuer")

    async def signed_in(
        self,
        code: str,
        redirect_uri: str,
        verifier: str,
        nonce: str,
        *,
        public_url: str | None,
        roles: Iterable[str],
    ) -> SignedIn:
        """Who the authorization ``code`` is of. ``public_url`` is the audience of tokens for the
        facade, where the file names none; ``roles`` are those that the file has.

        Raises :class:`UntrustedTokenError` and :class:`IssuerAwayError`.
        """
        from mcp_discovery.facade.access import signed_tokens

        issuer, client_id = self._keys.issuer, self.section.client_id
        given = await self._exchanged(code, redirect_uri, verifier)
        token = signed_tokens.read(str(given.get("id_token", "")))
        signed_tokens.check_id_token(token, issuer, client_id, nonce)
        key = signed_tokens.signing_key(token, await self._keys.find(token.key_id, token.algorithm))
        access = await self._counting(str(given.get("access_token", "")), public_url)
        sources = [token.claims]
        if access is not None and access.claims.get("sub") == token.claims.get("sub"):
            sources.append(access.claims)
        values = {role: None for each in sources for role in texts(claim(each, issuer.roles_claim))}
        scopes = [text for each in sources for text in texts(each.get("scope"))]
        scopes += [text for each in sources for text in texts(each.get("scp"))]
        return SignedIn(
            issuer=issuer.issuer,
            client_id=client_id,
            subject=signed_tokens.subject_of(token, issuer),
            roles=tuple(self._fitting(values, frozenset(roles))),
            scope=" ".join(scopes),
            read_by=(issuer.subject_claim, issuer.roles_claim),
            key_id=token.key_id,
            algorithm=token.algorithm,
            key=key.mark,
        )

    def _fitting(self, values: Iterable[str], known: frozenset[str]) -> list[str]:
        """``values``, or of too many those that give somebody a role here."""
        every = list(values)
        if sum(map(len, every)) <= _MOST_OF_ROLES:
            return every
        default = set(self._keys.issuer.default_roles)
        given = self._keys.issuer.roles_of
        claims = self._keys.issuer.roles_claim
        return [each for each in every if (set(given({claims: each})) - default) & known]

    async def _counting(self, text: str, public_url: str | None) -> SignedToken | None:
        """The access token, where it is a JWT that counts here."""
        from mcp_discovery.facade.access import signed_tokens

        keys = self._keys
        try:
            token = signed_tokens.read(text)
            if token.issuer != keys.issuer.issuer:
                return None
            signed_tokens.check(token, keys.issuer)
            found = await keys.find(token.key_id, token.algorithm)
            verified = signed_tokens.verify(token, keys.issuer, found)
        except (UntrustedTokenError, IssuerAwayError):
            return None
        return token if not verified.audience.isdisjoint(keys.audience or {public_url}) else None

    async def _exchanged(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        if self.section.resource is not None:
            form["resource"] = self.section.resource
        secret = self._secret.current()
        status, answer = await self._asked(form, secret)
        if answer.get("error") == "invalid_client" and self._secret.renewed() != secret:
            status, answer = await self._asked(form, self._secret.current())
        if status == 200:
            return answer
        if status >= 500:
            raise self._away()
        error = str(answer.get("error", f"HTTP {status}"))[:100]
        raise UntrustedTokenError("code", f"its issuer gives no token for the code: {error}")

    async def _asked(self, form: dict[str, str], secret: str | None) -> tuple[int, dict[str, Any]]:
        endpoints = await self.endpoints()
        headers = {"Accept": "application/json"}
        id = self.section.client_id
        if secret is None:
            form = {**form, "client_id": id}
        elif endpoints.by_header:
            # RFC 6749, 2.3.1: both are encoded as in a form first.
            pair = f"{quote_plus(id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form = {**form, "client_id": id, "client_secret": secret}
        try:
            status, data = await self._keys.ask("POST", endpoints.token, headers, form)
        except (aiohttp.ClientError, OSError, DiscoveryError) as error:
            raise self._away() from error
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        return status, answer if isinstance(answer, dict) else {}


def _with_query(url: str, values: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}"
