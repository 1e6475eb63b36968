"""The public keys of one issuer: got, kept and renewed.

Keys stay while the issuer is away, and are looked at again now and then. A token with the id of a
key that is not known has them looked at at once, but no more often than every ten seconds, however
many such tokens come: they wait for that one look.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from jwt.api_jwk import PyJWK
from jwt.exceptions import PyJWTError

from mcp_discovery.credential_files import FollowedFiles, Secret
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.access.issuer_login import IssuerLogin
from mcp_discovery.facade.access.issuers import Issuer, normal_resource
from mcp_discovery.facade.access.refused_credentials import IssuerAwayError
from mcp_discovery.oauth.metadata import metadata_places
from mcp_discovery.tls_files import TLSFiles

log = logging.getLogger(__name__)

#: Between two looks at the keys for the sake of tokens with unknown keys are so many seconds.
UNKNOWN_EVERY = 10.0
#: So many keys are remembered that the issuer did not have when it was asked last.
_MOST_MISSING = 1000
#: So many requests wait for such a look at most; others are refused at once.
_MOST_WAITING = 256
_TIMEOUT = aiohttp.ClientTimeout(total=10.0, connect=5.0)
_MOST_BYTES, _MOST_KEYS = 512 * 2**10, 100
#: Pauses in seconds before an issuer that is away is asked again: the first, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: Algorithms that a key of each kind is for.
_FITTING = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
    "Ed448": ("EdDSA",),
}


class UnfitKeysError(DiscoveryError):
    """The issuer's answer is no list of keys."""


@dataclass(frozen=True)
class PublicKey:
    """One key of an issuer (RFC 7517); ``text`` is the whole of it, by which keys are compared."""

    id: str | None
    algorithms: tuple[str, ...]
    text: str
    key: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def mark(self) -> str:
        """Tells it from all others, and is short."""
        return hashlib.blake2s(self.text.encode(), digest_size=12).hexdigest()

    def fits(self, algorithm: str) -> bool:
        """Whether it may have signed by ``algorithm``."""
        return algorithm in self.algorithms


def parse_keys(data: bytes) -> list[PublicKey]:
    """The keys in a JSON Web Key Set that sign; raises :class:`UnfitKeysError`.

    Keys of other kinds, and symmetric ones above all, are passed over.
    """
    try:
        given = json.loads(data)["keys"]
        listed = [each for each in given[:_MOST_KEYS] if isinstance(each, dict)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnfitKeysError("it is no JSON Web Key Set") from error
    return [key for each in listed if (key := _key(each)) is not None]


def _key(given: dict[str, Any]) -> PublicKey | None:
    kind = given.get("kty")
    algorithms = _FITTING.get(str(kind if kind == "RSA" else given.get("crv")), ())
    if (named := given.get("alg")) is not None:
        algorithms = tuple(each for each in algorithms if each == named)
    for_encryption = given.get("use", "sig") != "sig"
    if not algorithms or for_encryption or "verify" not in given.get("key_ops", ["verify"]):
        return None
    public = {name: value for name, value in given.items() if name not in ("d", "p", "q")}
    try:
        key = PyJWK(public, algorithms[0]).key
    except (PyJWTError, ValueError, TypeError) as error:
        log.debug("a key of an issuer is passed over: %s", type(error).__name__)
        return None
    id = given.get("kid")
    text = json.dumps(public, sort_keys=True)
    return PublicKey(id if isinstance(id, str) else None, algorithms, text, key)


class IssuerKeys:
    """The keys of ``issuer``; ``session`` gives what asks it.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` for files that cannot be used.
    """

    def __init__(self, issuer: Issuer, session: Callable[[], aiohttp.ClientSession]) -> None:
        self.issuer = issuer
        self._session = session
        self._tls = TLSFiles(issuer.ca, whom="issuer", beside_system=True) if issuer.ca else None
        self._token = Secret("issuer's token", None, issuer.token_file)
        #: How people sign in there.
        self.login = None if issuer.login is None else IssuerLogin(self, issuer.login)
        self._keys: list[PublicKey] = []
        self._file: FollowedFiles[list[PublicKey]] | None = None
        if issuer.jwks_file is not None:
            self._file = FollowedFiles("keys of an issuer", [issuer.jwks_file], _from_file)
        #: When the keys were read last, by the monotonic clock; ``None``: never.
        self.read_at: float | None = None
        #: Goes up whenever a key is gone: what it signed counts no more.
        self.removed = 0
        #: What its tokens are made for.
        self.audience = frozenset(map(normal_resource, issuer.audience))
        #: When it was asked last for an unknown key, and which keys it did not have then.
        self._asked_at = -math.inf
        self._missing: set[str | None] = set()
        self._refreshing: asyncio.Task[bool] | None = None
        self._waiting = 0
        self._problem: str | None = None
        self._jwks_url: str | None = issuer.jwks_url

    @property
    def age(self) -> float | None:
        """For how many seconds the keys were not read again; ``None`` without any."""
        if self._file is not None:
            return 0.0
        return None if self.read_at is None else time.monotonic() - self.read_at

    @property
    def state(self) -> tuple[int, bool]:
        """Changes whenever tokens that counted may count no more."""
        try:
            self.known()
        except IssuerAwayError:
            return self.removed, False
        return self.removed, True

    def known(self) -> list[PublicKey]:
        """The keys that count; raises :class:`IssuerAwayError` where there are none."""
        if self._file is not None:
            self._use(self._file.current())
            return self._keys
        age, most = self.age, self.issuer.keys_max_age
        if age is None or (most is not None and age > most):
            raise IssuerAwayError(f"the keys of {self.issuer.issuer} are not known now")
        return self._keys

    async def find(self, id: str | None, algorithm: str) -> list[PublicKey]:
        """The keys with which a token may be signed that names ``id``, after asking the issuer for
        one that is not known.

        Raises :class:`IssuerAwayError`.
        """
        if self._refreshing is not None and not self._has(id, algorithm):
            await self.refresh()
        if (found := self._matching(id, algorithm)) or self._file is not None:
            return found
        if id in self._missing and time.monotonic() < self._asked_at + UNKNOWN_EVERY:
            return []
        if not await self._ask_in_turn():
            raise IssuerAwayError(f"{self.issuer.issuer} cannot be asked for its keys now")
        if not (found := self._matching(id, algorithm)) and len(self._missing) < _MOST_MISSING:
            self._missing.add(id)
        return found

    def _has(self, id: str | None, algorithm: str) -> bool:
        try:
            return bool(self._matching(id, algorithm))
        except IssuerAwayError:
            return False

    def _matching(self, id: str | None, algorithm: str) -> list[PublicKey]:
        found = [key for key in self.known() if key.fits(algorithm)]
        # Without an id the issuer has few keys; each that is tried costs time.
        return found[:4] if id is None else [key for key in found if key.id == id][:4]

    async def _ask_in_turn(self) -> bool:
        """Asks the issuer, together with all others that wait for it; whether it answered."""
        if self._waiting >= _MOST_WAITING:
            return False
        self._waiting += 1
        try:
            before = self._asked_at
            await asyncio.sleep(before + UNKNOWN_EVERY - time.monotonic())
            if self._asked_at == before:  # nobody else has asked meanwhile
                self._asked_at = time.monotonic()
                self._missing.clear()
                return await self.refresh()
            return await self.refresh() if self._refreshing is not None else self._problem is None
        finally:
            self._waiting -= 1

    async def run(self) -> None:
        """Looks at the keys again and again, for ever."""
        pause = _FIRST_PAUSE
        while True:
            pause, wait = min(pause * 2, _LONGEST_PAUSE), pause
            try:
                if await self.refresh():
                    pause, wait = _FIRST_PAUSE, self.issuer.refresh
            except Exception:  # the guard that keeps the keys renewed
                log.exception("reading an issuer's keys failed in a way it must not")
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))

    async def refresh(self) -> bool:
        """Reads the keys anew; whether that went well. Those that are known stay otherwise."""
        if self._file is not None:
            return True
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), name="read an issuer's keys")
        return await asyncio.shield(self._refreshing)

    async def _refresh(self) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT.total):
                keys = await self._fetched()
        except (aiohttp.ClientError, OSError, TimeoutError, DiscoveryError, ValueError) as error:
            self._note_problem(str(error) or "it does not answer in time")
            return False
        finally:
            self._refreshing = None
        if self._problem is not None:
            log.info("the issuer %s answers again", self.issuer.issuer)
        self._problem, self.read_at = None, time.monotonic()
        self._use(keys)
        return True

    def close(self) -> None:
        """Ends what it does for requests that wait."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _use(self, keys: list[PublicKey]) -> None:
        if keys is not self._keys:
            if not set(self._keys) <= set(keys):
                self.removed += 1
                log.info("the issuer %s has dropped a key", self.issuer.issuer)
            self._keys = keys

    def _note_problem(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            kept = "its keys stay in use" if self.read_at else "no key of it is known yet"
            log.warning("the issuer %s: %s; %s", self.issuer.issuer, problem[:300], kept)

    async def _fetched(self) -> list[PublicKey]:
        if self._jwks_url is None:
            self._jwks_url = str((await self.metadata())["jwks_uri"])
        try:
            keys = parse_keys(await self._get(self._jwks_url))
        except (aiohttp.ClientError, OSError, DiscoveryError):
            self._jwks_url = self.issuer.jwks_url  # it may have moved
            raise
        if not keys:
            raise UnfitKeysError(f"{self._jwks_url} has no key that signs")
        return keys

    async def metadata(self) -> dict[str, Any]:
        """What the issuer says of itself (RFC 8414, OpenID Connect Discovery), with an issuer and a
        ``jwks_uri`` that are fit; raises :class:`UnfitKeysError` and what a connection does."""
        first: DiscoveryError | None = None
        for place in metadata_places(self.issuer.issuer):
            try:
                return self._checked(await self._get(place), place)
            except DiscoveryError as error:
                first = first or error
        assert first is not None
        raise first

    def _checked(self, data: bytes, place: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(data)
            issuer, uri = found["issuer"], found["jwks_uri"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UnfitKeysError(f"{place} has no issuer and jwks_uri") from error
        if issuer != self.issuer.issuer:
            raise UnfitKeysError(f"{place} is of another issuer: {str(issuer)[:200]}")
        if not isinstance(uri, str) or not self.issuer.is_safe(uri):
            raise UnfitKeysError(f"{place} names keys that are not at an https URL")
        return found

    async def _get(self, url: str) -> bytes:
        headers = {"Accept": "application/json"}
        # A token is for the issuer, not for whom its metadata name.
        trusted = self.issuer.jwks_url or self.issuer.issuer
        if urlsplit(url)[:2] == urlsplit(trusted)[:2] and (token := self._token.current()):
            headers["Authorization"] = f"Bearer {token}"
        status, data = await self.ask("GET", url, headers)
        if status != 200:
            raise UnfitKeysError(f"{url} answers {status}")
        return data

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """The status and the body of an answer of the issuer's, which is never redirected.

        Raises :class:`UnfitKeysError` for one that is too large, and what a connection does.
        """
        tls = self._tls.current() if self._tls is not None else None
        async with self._session().request(
            method,
            url,
            data=form,
            headers=headers,
            ssl=True if tls is None else tls,
            timeout=_TIMEOUT,
            allow_redirects=False,
        ) as response:
            data = await response.content.read(_MOST_BYTES + 1)
            while len(data) <= _MOST_BYTES and (more := await response.content.readany()):
                data += more
            if len(data) > _MOST_BYTES:
                raise UnfitKeysError(f"{url} answers with more than {_MOST_BYTES:,} bytes")
            return response.status, data


def _from_file(contents: Sequence[bytes]) -> list[PublicKey]:
    try:
        keys = parse_keys(contents[0])
    except UnfitKeysError as error:
        raise ValueError(str(error)) from error
    if not keys:
        raise ValueError("it has no key that signs")
    return keys
