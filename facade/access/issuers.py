"""Issuers of JWTs: OAuth 2.1 authorization servers, OpenID Connect providers, Kubernetes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from mcp_discovery.facade.access.section import Section, Words
from mcp_discovery.oauth.http import is_protected
from mcp_discovery.record import url_problem

#: Signatures that need the issuer's private key: with ``none`` or ``HS256`` anybody who reads its
#: public keys could sign (RFC 8725, 3.1 and 3.2).
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
#: How many values of one claim are read.
_MOST_VALUES = 1000


class LoginSection(Section):
    """How people sign in to the pages at the issuer: OpenID Connect, authorization code and PKCE.

    ``client_id`` is the facade's client there, a public one unless ``client_secret_file`` has its
    secret, which is followed. Its redirect URI is ``<public URL>/ui/login/<name>/callback``;
    ``name``, the issuer's host by default, is what the button says, too. ``resource`` is asked for
    as RFC 8707 has it, where the issuer puts roles into access tokens alone.
    """

    client_id: str = Field(min_length=1, max_length=512)
    client_secret_file: str | None = None
    scopes: Words = Field(["openid"], min_length=1)
    resource: str | None = None
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


class Issuer(Section):
    """Whose JWTs count, and what their claims say about a caller.

    The keys come from ``jwks_file``, which is followed, or from ``jwks_url``, or from where the
    issuer's own metadata say (``.well-known/openid-configuration``, RFC 8414). ``ca`` is a PEM file
    of CAs besides the system's, ``token_file`` a token to show there.
    """

    issuer: str = Field(min_length=1, max_length=2048)
    audience: Words = Field([], description="Of these a token names one; otherwise --public-url.")
    jwks_url: str | None = None
    jwks_file: str | None = None
    ca: str | None = None
    token_file: str | None = None
    insecure_http: bool = False
    algorithms: list[Algorithm] = Field(
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
        min_length=1,
    )
    skew: float = Field(2.0, ge=0, le=300, description="Seconds that two clocks may differ by.")
    at_jwt: bool = Field(False, description="Whether only the type at+jwt counts (RFC 9068).")
    clients: Words | None = Field(None, description="Globs: who may have got the token.")
    subject_claim: str = "sub"
    roles_claim: str = "roles"
    roles: dict[str, Words] | None = Field(
        None, description="Globs of the claim's values, and roles; by default the values are roles."
    )
    default_roles: Words = Field([], description="Roles of each caller from this issuer.")
    scopes: dict[str, Words] = Field(
        {}, description="Globs of the token's scopes, and the scopes here that they grant."
    )
    login: LoginSection | None = Field(None, description="How people sign in to the pages there.")
    advertise: bool = Field(True, description="Whether clients get their tokens there.")
    refresh: float = Field(300.0, ge=10, le=86400, description="Seconds between two looks at keys.")
    keys_max_age: float | None = Field(
        None, gt=0, description="After so many seconds without the issuer its keys count no more."
    )

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _require_url(cls, value: str | None) -> str | None:
        if value is not None and (problem := url_problem(value, ("http", "https"))) is not None:
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _check(self) -> Issuer:
        if self.jwks_url is not None and self.jwks_file is not None:
            raise ValueError("jwks_url and jwks_file are both given; give one")
        if self.login is not None and "openid" not in self.login.scopes:
            raise ValueError("login.scopes: openid is missing; without it there is no ID token")
        if self.jwks_file is None and not self.is_safe(self.jwks_url or self.issuer):
            raise ValueError(
                f"{self.jwks_url or self.issuer} is not https: whoever is on the way could put "
                "keys of its own there; write https, or insecure_http: true"
            )
        return self

    @property
    def login_name(self) -> str:
        """What its button says, and its redirect URI has in its path."""
        given = None if self.login is None else self.login.name
        return given or urlsplit(self.issuer).hostname or "issuer"

    def is_safe(self, url: str) -> bool:
        """Whether keys may be read from ``url``, and secrets sent there."""
        return is_protected(url) or self.insecure_http

    def roles_of(self, claims: Mapping[str, Any]) -> list[str]:
        """The roles of who has a token with ``claims``."""
        values = texts(claim(claims, self.roles_claim))
        named = values if self.roles is None else _mapped(values, self.roles)
        return list(dict.fromkeys((*self.default_roles, *named)))

    def scopes_of(self, claims: Mapping[str, Any]) -> list[str]:
        """The scopes here that the token's own scopes grant (RFC 9068, 2.2.3; Entra's ``scp``)."""
        values = [
            word
            for name in ("scope", "scp")
            for text in texts(claims.get(name))
            for word in text.split()
        ]
        return list(dict.fromkeys(_mapped(values, self.scopes)))


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at ``path``: a name, which may have dots in it, or names of objects in objects."""
    if path in claims:
        return claims[path]
    head, dot, rest = path.partition(".")
    inner = claims.get(head)
    return claim(inner, rest) if dot and isinstance(inner, Mapping) else None


def texts(value: Any) -> list[str]:
    """The texts in a claim that holds one or several; nothing of what is no text."""
    if isinstance(value, str):
        return [value]
    given = value[:_MOST_VALUES] if isinstance(value, list) else []
    return [each for each in given if isinstance(each, str)]


def normal_resource(url: str) -> str:
    """An audience without the slash at its end, with which some clients write it."""
    return url.rstrip("/")


def _mapped(values: Iterable[str], table: Mapping[str, Iterable[str]]) -> list[str]:
    return [
        word
        for value in values
        for glob, words in table.items()
        if fnmatchcase(value, glob)
        for word in words
    ]
