"""Callers by the certificates of their TLS connections: SPIFFE ids and subjects."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web
from pydantic import Field, model_validator

from mcp_discovery.facade.access.section import Section, Words

#: The short names of attributes (RFC 4514, 3).
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL = re.compile(r'([,+"\\<>;=])')

#: A SPIFFE id (SPIFFE-ID, 2.1 and 2.2): no empty or dot segments, no query, nothing encoded.
_SPIFFE = re.compile(
    r"(?=.{1,2048}\Z)spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*", re.ASCII
)


class CertificateRule(Section):
    """Which certificates have which roles: by their SPIFFE id, or by their subject; globs."""

    spiffe: str | None = Field(None, description="Such as spiffe://example.org/ns/mcp/sa/*")
    subject: str | None = Field(None, description="As RFC 4514 writes it: CN=agent-*,O=Example")
    roles: Words = Field(min_length=1)

    @model_validator(mode="after")
    def _require_one(self) -> CertificateRule:
        if (self.spiffe is None) == (self.subject is None):
            raise ValueError("spiffe and subject: give one of them")
        return self

    def matches(self, found: ClientCertificate) -> bool:
        """Whether ``found`` has the roles."""
        if self.spiffe is not None:
            return found.spiffe is not None and fnmatchcase(found.spiffe, self.spiffe)
        return self.subject is not None and fnmatchcase(found.subject, self.subject)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Whose certificate it is, and the POSIX time from which on it counts no more."""

    spiffe: str | None
    subject: str
    expires_at: float

    @property
    def name(self) -> str:
        """The SPIFFE id, or the subject where there is none."""
        return self.spiffe or self.subject


def certificate_of(request: web.Request) -> ClientCertificate | None:
    """The certificate of the client's connection, which the listener has verified."""
    transport = request.transport
    given = None if transport is None else transport.get_extra_info("peercert")
    return None if not given else _read(given)


def roles_of(found: ClientCertificate, rules: Iterable[CertificateRule]) -> tuple[str, ...]:
    """The roles that ``rules`` give it."""
    roles = (role for rule in rules if rule.matches(found) for role in rule.roles)
    return tuple(dict.fromkeys(roles))


def _read(given: Mapping[str, Any]) -> ClientCertificate:
    names = [
        value
        for kind, value in given.get("subjectAltName", ())
        if kind == "URI" and value.startswith("spiffe://")
    ]
    # An SVID has exactly one (X509-SVID, 5.2): who has two is nobody. What is no SPIFFE id might
    # fit a glob that was made for others: .../sa/../../other.
    spiffe = names[0] if len(names) == 1 and _SPIFFE.fullmatch(names[0]) else None
    parts = (
        "+".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in rdn)
        for rdn in reversed(given.get("subject", ()))
    )
    return ClientCertificate(spiffe, ",".join(parts), ssl.cert_time_to_seconds(given["notAfter"]))


def _escaped(value: str) -> str:
    """A value in which no character ends it (RFC 4514, 2.4)."""
    return _SPECIAL.sub(r"\\\1", value)
