"""The file of ``--auth``: who is known, and what its roles may do.

It is YAML, read strictly, and followed: a change that can be used counts from the next request on;
one that cannot leaves the last good file in use. ``mcp-discovery config schema`` has its JSON
Schema. Sections of other subjects stand with them; this file has what all of them share.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from cachetools import LRUCache
from pydantic import Field, model_validator

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.errors import InvalidInputError, MissingExtraError
from mcp_discovery.extras import is_installed
from mcp_discovery.facade.access.certificates import CertificateRule
from mcp_discovery.facade.access.issuer_keyring import Keyring
from mcp_discovery.facade.access.issuers import Issuer
from mcp_discovery.facade.access.limits_section import LimitsSection
from mcp_discovery.facade.access.ownership import NameRule
from mcp_discovery.facade.access.rights import PARTS, VERBS, Grant, Need, Rights, Verb
from mcp_discovery.facade.access.sealing import SealingFiles, SealingKeys, SessionsSection
from mcp_discovery.facade.access.section import Section, Words, read_section
from mcp_discovery.facade.access.tokens import TokenEntry, TokenId
from mcp_discovery.nearest import nearest

log = logging.getLogger(__name__)
#: What is said of a value by its name and the kind of fault.
_WORDS: Mapping[tuple[str, str], str] = {
    ("hash", "string_pattern_mismatch"): (
        "is no hash; make the token with mcp-discovery token create"
    ),
    ("[key]", "string_pattern_mismatch"): (
        "is no id of a token; write small letters, digits and hyphens, at most 63"
    ),
}
#: So many sets of roles have their rights at hand.
_ROLE_SETS = 4096
#: What is said of a file in which nobody stands.
NOBODY = (
    "{file} names nobody, so that every request is refused: make a token with mcp-discovery token "
    "create, or write issuers:, certificates: or anonymous: into it"
)
#: A change counts so many seconds after it was made, at the latest; open streams end then, too.
_CHECK_EVERY = 0.2


class ScopeGrant(Section):
    """Verbs, and the servers and tools that they are for; globs such as ``payments-*``."""

    verbs: list[Verb] = Field(["read"], min_length=1)
    names: list[str] | None = None
    tags: list[str] | None = None
    owners: list[str] | None = None
    zones: list[str] | None = None
    tools: list[str] | None = None
    resources: list[str] | None = None
    prompts: list[str] | None = None
    skills: list[str] | None = None

    def grant(self) -> Grant:
        """The same for :class:`Rights`. Whoever may call something may see it, too."""
        implied: set[Verb] = {"read"} if "call" in self.verbs else set()
        selectors = {
            name: None if (globs := getattr(self, name)) is None else tuple(globs)
            for name in ("names", "tags", "owners", "zones", *PARTS)
        }
        return Grant(frozenset(self.verbs) | implied, **selectors)


class AuthFile(Section):
    """What the file says.

    ``roles`` maps a role to its scopes, ``scopes`` a scope to the names of tools that it lets see
    and call, or to one or several grants. The verbs are scopes themselves, for everything.
    ``anonymous`` are the roles of whoever gives no credential; without any, credentials are needed.
    ``tokens`` are those that ``mcp-discovery token`` made, by id; ``issuers`` are those whose JWTs
    count; ``certificates`` are those of clients' TLS connections. ``challenge_scopes`` are what
    clients shall ask an issuer for; by default those of its scopes that the issuers' ``scopes``
    name, or else the verb that is needed.
    ``sessions`` are those of browsers.
    ``names`` gives names of servers to callers and origins; other names belong to who registers
    them first.
    """

    roles: dict[str, Words] = Field({})
    scopes: dict[str, ScopeGrant | list[ScopeGrant] | list[str]] = Field({})
    anonymous: Words = Field([])
    tokens: dict[TokenId, TokenEntry] = Field({})
    names: list[NameRule] = Field([])
    issuers: list[Issuer] = Field([])
    certificates: list[CertificateRule] = Field([])
    challenge_scopes: Words | None = None
    limits: LimitsSection = LimitsSection()
    sessions: SessionsSection = SessionsSection()

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """A section with nothing below it is as one that is not there."""
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _check_references(self) -> AuthFile:
        for role, scopes in self.roles.items():
            for each in scopes:
                if each not in self.scopes and each not in VERBS:
                    raise ValueError(_unknown(f"roles.{role}: scope", each, {*self.scopes, *VERBS}))
        for each in self.anonymous:
            self.require_role("anonymous", each)
        for each in self.limits.roles:
            self.require_role("limits.roles", each)
        for id, token in self.tokens.items():
            for each in token.roles:
                self.require_role(f"tokens.{id}", each)
        for number, rule in enumerate(self.names):
            for each in rule.roles:
                self.require_role(f"names.{number}", each)
        for number, certificate in enumerate(self.certificates):
            for each in certificate.roles:
                self.require_role(f"certificates.{number}", each)
        for number, issuer in enumerate(self.issuers):
            mapped = (issuer.roles or {}).values()
            for each in (*issuer.default_roles, *chain.from_iterable(mapped)):
                self.require_role(f"issuers.{number}", each)
            for each in chain.from_iterable(issuer.scopes.values()):
                if each not in self.scopes and each not in VERBS:
                    where = f"issuers.{number}.scopes: scope"
                    raise ValueError(_unknown(where, each, {*self.scopes, *VERBS}))
        urls = Counter(each.issuer for each in self.issuers)
        for url, count in urls.items():
            if count > 1:
                raise ValueError(f"issuers: {url} stands there twice; write one entry")
        for name, count in Counter(each.login_name for each in self.logins).items():
            if count > 1:
                raise ValueError(
                    f"issuers: people sign in at two that are called {name}; give each its "
                    "login.name"
                )
        return self

    @property
    def knows_nobody(self) -> bool:
        """Whether every request is refused but for those that everybody may make."""
        return not (self.tokens or self.issuers or self.certificates or self.anonymous)

    @property
    def authorization_servers(self) -> list[str]:
        """The issuers that clients get their tokens from."""
        return [each.issuer for each in self.issuers if each.advertise]

    @property
    def logins(self) -> list[Issuer]:
        """The issuers at which people sign in to the pages."""
        return [each for each in self.issuers if each.login is not None]

    def scopes_for(self, need: Need | None = None) -> list[str]:
        """The scopes that a client shall ask an issuer for, to do what ``need`` says."""
        if need == "open":
            return []
        if self.challenge_scopes is not None:
            return self.challenge_scopes
        granting = {
            scope: None
            for issuer in self.issuers
            for scope, granted in issuer.scopes.items()
            if not set("*?[") & set(scope) and (need is None or self._grants(granted, need))
        }
        return list(granting) or ([] if need is None else [need])

    def _grants(self, scopes: Iterable[str], verb: Verb) -> bool:
        return any(verb in grant.verbs for scope in scopes for grant in self.grants(scope))

    def require_role(self, where: str, role: str) -> None:
        """Raises :class:`ValueError` for a role that the file does not have."""
        if role not in self.roles:
            raise ValueError(_unknown(f"{where}: role", role, self.roles))

    def grants(self, scope: str) -> Sequence[Grant]:
        """What ``scope`` grants; nothing for one that is not known."""
        found = self.scopes.get(scope)
        if found is None:
            return [ScopeGrant(verbs=[verb]).grant() for verb in VERBS if verb == scope]
        if isinstance(found, ScopeGrant):
            return [found.grant()]
        tools = tuple(each for each in found if isinstance(each, str))
        grants = [each.grant() for each in found if isinstance(each, ScopeGrant)]
        return [*grants, *([Grant(frozenset(("read", "call")), tools=tools)] if tools else ())]


class Policy:
    """One state of the file, with the rights of each set of roles compiled once.

    ``refused`` are the verbs that nobody has on this facade, and why; ``keyring`` has the
    keys of the file's issuers, ``sealing`` those of its sessions. Raises
    :class:`MissingExtraError`, or :class:`InvalidInputError`.
    """

    def __init__(
        self,
        file: AuthFile,
        refused: Mapping[Verb, str] | None = None,
        digest: bytes = b"",
        keyring: Keyring | None = None,
        sealing: SealingFiles | None = None,
    ) -> None:
        self.file = file
        #: Of the file's text: all facades with the same file have the same.
        self.digest = digest
        self.keyring = keyring or Keyring()
        self.issuers = self.keyring.of(file.issuers)
        #: What seals the sessions of browsers; ``None`` where that is not installed.
        self.sealing: Callable[[], SealingKeys] | None = None
        if is_installed("auth") or file.sessions.key_file is not None:
            self.sealing = (sealing or SealingFiles()).of(file.sessions)
        self._refused = refused or {}
        self._rights: LRUCache[tuple[frozenset[str], frozenset[str]], Rights] = LRUCache(_ROLE_SETS)

    def scopes_of(self, roles: Iterable[str]) -> list[str]:
        """The scopes that ``roles`` have, sorted."""
        return sorted({each for role in roles for each in self.file.roles.get(role, ())})

    def rights(self, roles: Iterable[str], scopes: Iterable[str] = ()) -> Rights:
        """What ``roles``, and ``scopes`` besides, grant; those that are not known grant nothing."""
        key = frozenset(roles), frozenset(scopes)
        found = self._rights.get(key)
        if found is None:
            names = {each for role in key[0] for each in self.file.roles.get(role, ())} | key[1]
            grants = {grant: None for name in sorted(names) for grant in self.file.grants(name)}
            found = self._rights[key] = Rights(tuple(grants), self._refused)
        return found


def follow(
    path: str,
    refused: Mapping[Verb, str] | None = None,
    *,
    public_url: str | None = None,
) -> FollowedFiles[Policy]:
    """The policy in the file at ``path``, followed while
    :class:`mcp_discovery.facade.access.lifetime.CredentialLifetimes` runs; raises
    :class:`InvalidInputError`.

    ``public_url`` is the audience of tokens from issuers that name none.
    """
    keyring, sealing = Keyring(), SealingFiles()

    def policy(contents: Sequence[bytes]) -> Policy:
        file = read(contents[0], path)
        for number, each in enumerate(file.issuers):
            if not each.audience and public_url is None:
                raise InvalidInputError(
                    f"{path}: issuers.{number}.audience is missing: name what the issuer's tokens "
                    "for this facade are made for, or start it with --public-url"
                )
        if file.knows_nobody:
            log.warning("%s", NOBODY.format(file=path))
        try:
            digest = hashlib.sha256(contents[0]).digest()
            return Policy(file, refused, digest, keyring, sealing)
        except MissingExtraError as error:
            raise InvalidInputError(str(error)) from error

    return FollowedFiles("access rules", [path], policy, check_every=_CHECK_EVERY, watched=True)


def read(data: bytes, path: str) -> AuthFile:
    """What ``data``, of the file at ``path``, says; raises :class:`InvalidInputError`."""
    return read_section(data, path, AuthFile, _WORDS)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | AuthFile.model_json_schema()


def _unknown(what: str, given: str, known: Collection[str]) -> str:
    if not known:
        return f"{what} {given!r} is not known; this file has no roles yet: write it below roles:"
    near = nearest(given, known)
    hint = f"did you mean {near!r}?" if near else f"it may be {', '.join(sorted(known))}"
    return f"{what} {given!r} is not known; {hint}"
