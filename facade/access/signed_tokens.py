"""JWTs (RFC 7519), read strictly and verified as RFC 8725 and RFC 9068 ask."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hmac import compare_digest
from typing import Any

from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_decode

from mcp_discovery.facade.access.issuer_keys import PublicKey
from mcp_discovery.facade.access.issuers import Issuer, claim, normal_resource, texts
from mcp_discovery.facade.access.refused_credentials import UntrustedTokenError

#: Headers that say where a key is to be had, or hold it: only the issuer's own list counts.
_KEYS_OF_ITS_OWN = ("jwk", "jku", "x5u", "x5c")
#: Types that are no access tokens are refused: an ID token has ``JWT`` or none, as many access
#: tokens have; those differ by their audience.
_TYPES = frozenset({"jwt", "at+jwt"})
_LONGEST_ID, _LONGEST_SUBJECT = 512, 512

_JWS = PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A JWT as it is read, before anything in it counts."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """The ``iss`` claim; ``""`` where there is none."""
        found = self.claims.get("iss")
        return found if isinstance(found, str) else ""

    @property
    def key_id(self) -> str | None:
        """The ``kid`` header."""
        found = self.header.get("kid")
        return found if isinstance(found, str) else None

    @property
    def algorithm(self) -> str:
        """The ``alg`` header."""
        return str(self.header.get("alg"))


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What counts of a JWT whose signature is its issuer's."""

    subject: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    audience: frozenset[str]
    expires_at: float


def read(token: str) -> SignedToken:
    """The parts of ``token``; raises :class:`UntrustedTokenError` for what is no JWT."""
    parts = token.split(".")
    if len(parts) != 3 or not all(parts[:2]):
        raise UntrustedTokenError("malformed", "it is no JWT")
    try:
        header, claims = (_object(base64url_decode(part)) for part in parts[:2])
    except (ValueError, RecursionError) as error:
        raise UntrustedTokenError("malformed", f"it is no JWT: {error}") from error
    return SignedToken(token, header, claims)


def check(token: SignedToken, issuer: Issuer) -> None:
    """Whether ``token`` would count if its signature were good.

    Raises :class:`UntrustedTokenError`. It is asked before the issuer is: so nobody makes the
    facade ask an issuer for keys with a token that could not count anyway.
    """
    _check_header(token, issuer)
    _check_type(token, at_jwt=issuer.at_jwt)
    _check_times(token.claims, issuer.skew)
    if issuer.clients is not None:
        names = [token.claims.get(each) for each in ("client_id", "azp", "appid")]
        named = next((each for each in names if isinstance(each, str)), "")
        if not any(fnmatchcase(named, glob) for glob in issuer.clients):
            raise UntrustedTokenError("client", "it was given to another client")
    subject_of(token, issuer)


def check_id_token(token: SignedToken, issuer: Issuer, client_id: str, nonce: str) -> None:
    """Whether ``token`` would be the ID token that ``client_id`` asked for with ``nonce`` if its
    signature were good (OpenID Connect Core, 3.1.3.7); raises :class:`UntrustedTokenError`."""
    _check_header(token, issuer)
    _check_type(token, at_jwt=False)
    if token.issuer != issuer.issuer:
        raise UntrustedTokenError("issuer", "its issuer is another one")
    if str(token.header.get("typ")).lower().endswith("at+jwt"):
        raise UntrustedTokenError("type", "it is no ID token")
    audience, party = texts(token.claims.get("aud")), token.claims.get("azp")
    if client_id not in audience:
        raise UntrustedTokenError("audience", "it was made for another client")
    if party != client_id and (party is not None or len(audience) > 1):
        raise UntrustedTokenError("client", "it was given to another client")
    given = token.claims.get("nonce")
    if not isinstance(given, str) or not compare_digest(given.encode(), nonce.encode()):
        raise UntrustedTokenError("claims", "its nonce is another one")
    _check_times(token.claims, issuer.skew)
    subject_of(token, issuer)


def verify(token: SignedToken, issuer: Issuer, keys: Iterable[PublicKey]) -> VerifiedToken:
    """What counts of ``token``, which was checked, if one of ``keys`` signed it.

    Raises :class:`UntrustedTokenError`.
    """
    signing_key(token, keys)
    return VerifiedToken(
        f"{issuer.issuer}#{subject_of(token, issuer)}",
        tuple(issuer.roles_of(token.claims)),
        tuple(issuer.scopes_of(token.claims)),
        frozenset(normal_resource(each) for each in texts(token.claims.get("aud"))),
        _number(token.claims, "exp") + issuer.skew,
    )


def signing_key(token: SignedToken, keys: Iterable[PublicKey]) -> PublicKey:
    """Which of ``keys`` signed ``token``; raises :class:`UntrustedTokenError` where none did."""
    algorithm = token.algorithm
    for key in keys:
        if not key.fits(algorithm):
            continue
        try:
            _JWS.decode_complete(token.text, key.key, algorithms=[algorithm])
        except (PyJWTError, ValueError, TypeError):
            continue
        return key
    raise UntrustedTokenError("signature", "no key of its issuer has signed it")


def _check_header(token: SignedToken, issuer: Issuer) -> None:
    if token.algorithm not in issuer.algorithms:
        raise UntrustedTokenError("algorithm", "its algorithm is not allowed")
    if "crit" in token.header or any(name in token.header for name in _KEYS_OF_ITS_OWN):
        raise UntrustedTokenError("malformed", "it has headers that are not allowed")
    key_id = token.header.get("kid")
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= _LONGEST_ID):
        raise UntrustedTokenError("malformed", "its key id is not fit")


def _object(data: bytes) -> dict[str, Any]:
    found = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    if not isinstance(found, dict):
        raise ValueError("a part is no object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7519, 4: the names in a claims set are unique."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_constant(_: str) -> None:
    raise ValueError("a number is none")


def _check_type(token: SignedToken, *, at_jwt: bool) -> None:
    found = token.header.get("typ")
    name = str(found).lower().removeprefix("application/") if found is not None else "jwt"
    if name not in _TYPES or (at_jwt and name != "at+jwt"):
        raise UntrustedTokenError("type", "it is no access token")


def _check_times(claims: Mapping[str, Any], skew: float) -> None:
    now = time.time()
    if _number(claims, "exp") + skew <= now:
        raise UntrustedTokenError("expired", "it has expired")
    for name in ("nbf", "iat"):
        if name in claims and _number(claims, name) - skew > now:
            raise UntrustedTokenError("not-yet-valid", "it is not valid yet")


def _number(claims: Mapping[str, Any], name: str) -> float:
    found = claims.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or abs(found) > 1e12:
        raise UntrustedTokenError("claims", f"its {name} is missing or no time")
    return float(found)


def subject_of(token: SignedToken, issuer: Issuer) -> str:
    """Who it is, by the claim that the issuer has it in; raises :class:`UntrustedTokenError`."""
    found = claim(token.claims, issuer.subject_claim)
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_SUBJECT:
        raise UntrustedTokenError("claims", f"its {issuer.subject_claim} is missing or no text")
    if not found.isprintable():
        raise UntrustedTokenError("claims", f"its {issuer.subject_claim} is not printable")
    return found
