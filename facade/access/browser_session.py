"""Sessions of browsers: a sealed cookie in the place of the ``Authorization`` header.

Nothing is kept here of a session but that it was ended: what it is of stands in its cookie. One
that a token began has that token in it, which is verified with every request as in a header; one
that began at an issuer has what that said. What a page of the facade changes in its name needs the
session's own token as well, which no page of another origin can read.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from mcp_discovery.facade.access.refused_credentials import UntrustedTokenError
from mcp_discovery.facade.access.sealing import SealingKeys
from mcp_discovery.facade.http.body import form_of
from mcp_discovery.facade.http.cors import vary
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.health import utcnow

#: The header of requests that change something, and the field of forms of the pages.
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
#: The cookies, as they are called without prefix and port: that of a session, and that of whoever
#: is about to sign in.
_NAMES: Final = {"session": "mcp_discovery_session", "login": "mcp_discovery_login"}
Kind = Literal["session", "login"]
#: Browsers keep cookies of up to 4,096 bytes, name and attributes included (RFC 6265, 6.1).
_LONGEST: Final = 3800
#: For so many seconds somebody may take to sign in.
LOGIN_TIME: Final = 900.0
#: So many sessions are remembered that were ended before their time.
_MOST_ENDED: Final = 50_000
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
#: Only pages have forms.
_PAGES: Final = "/ui/"


class SignedIn(NamedTuple):
    """What the issuer said of who signed in there, and the key that signed it.

    ``read_by`` are the claims that subject and roles were read from: others mean something else.
    """

    issuer: str
    client_id: str
    subject: str
    roles: tuple[str, ...]
    scope: str
    read_by: tuple[str, str]
    key_id: str | None
    algorithm: str
    key: str


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """One: by a ``token`` or by who ``signed_in`` at an issuer. ``id`` is secret, too."""

    id: str = field(repr=False)
    began: float
    ends_at: float
    token: str | None = field(default=None, repr=False)
    signed_in: SignedIn | None = None

    @classmethod
    def new(
        cls, lifetime: float, *, token: str | None = None, signed_in: SignedIn | None = None
    ) -> BrowserSession:
        """One that begins now and lasts for ``lifetime`` seconds."""
        now = float(int(time.time()))
        return cls(new_id(), now, now + lifetime, token, signed_in)


def new_id() -> str:
    """A secret name for a session or a login, of 144 random bits."""
    return secrets.token_urlsafe(18)


def csrf_token(id: str) -> str:
    """A token that only pages of the session ``id`` have; each time another text, so that nobody
    guesses it from the sizes of compressed pages."""
    salt = secrets.token_urlsafe(9)
    return f"{salt}.{_mac(id, salt)}"


def is_csrf_token(id: str, given: str) -> bool:
    """Whether ``given`` is such a token of the session ``id``."""
    salt, _, mac = given.partition(".")
    return hmac.compare_digest(_mac(id, salt).encode(), mac.encode("utf-8", "replace"))


def _mac(id: str, salt: str) -> str:
    digest = hmac.digest(id.encode(), b"csrf:" + salt.encode("utf-8", "replace"), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


class _Cookie(NamedTuple):
    name: str
    path: str
    secure: bool


@lru_cache(256)
def _cookie(base: str, kind: Kind) -> _Cookie:
    """The cookie of the facade at ``base``.

    Other ports of a host have the same cookies (RFC 6265, 8.5): the port in its name keeps several
    facades apart. Under TLS no other host and no plain page can set it (RFC 6265bis, 4.1.3).
    """
    parts = urlsplit(base)
    name, prefix, secure = _NAMES[kind], parts.path.rstrip("/"), parts.scheme == "https"
    if parts.port not in (None, _DEFAULT_PORTS[parts.scheme]):
        name += f"_{parts.port}"
    if secure:
        name = f"__Secure-{name}" if prefix else f"__Host-{name}"
    return _Cookie(name, prefix or "/", secure)


class BrowserSessions:
    """Those of one facade, of which ``base`` tells the URL for a request."""

    def __init__(self, base: Callable[[web.Request], str]) -> None:
        self._base = base
        #: Ids of sessions that were ended → when they would have.
        self._ended: dict[str, float] = {}
        #: Goes up when one is ended.
        self.ended = 0

    def has_cookie(self, request: web.Request) -> bool:
        """Whether the browser shows a session's cookie, or several."""
        try:
            return self.shown(request) is not None
        except UntrustedTokenError:
            return True

    def shown(self, request: web.Request, kind: Kind = "session") -> str | None:
        """The value of the cookie; raises :class:`UntrustedTokenError` for several of them, of
        which some other site may have set one."""
        given = request.headers.getall("Cookie", ())
        if not given:
            return None
        name = f"{_cookie(self._base(request), kind).name}="
        pairs = (each.strip() for line in given for each in line.split(";"))
        found = {each[len(name) :].strip('"') for each in pairs if each.startswith(name)}
        if len(found) > 1:
            raise UntrustedTokenError("session", "there are several cookies of its name")
        return found.pop() if found else None

    def opened(self, sealed: str, keys: SealingKeys) -> BrowserSession:
        """The session in the cookie ``sealed``; raises :class:`UntrustedTokenError`."""
        found = keys.open("session", sealed) if len(sealed) <= _LONGEST else None
        if found is None:
            raise UntrustedTokenError("session", "no key of this facade has sealed its cookie")
        if (given := found["signed_in"]) is not None:
            roles, read_by = tuple(given.pop("roles")), tuple(given.pop("read_by"))
            found["signed_in"] = SignedIn(**given, roles=roles, read_by=read_by)
        session = BrowserSession(**found)
        if session.ends_at <= time.time():
            raise UntrustedTokenError("expired", "the session has ended")
        return session

    def begin(
        self,
        request: web.Request,
        response: web.Response,
        session: BrowserSession,
        keys: SealingKeys,
    ) -> None:
        """Gives the browser the cookie of ``session``; raises :class:`ProblemError` (413) where it
        would be too large to be kept."""
        content = asdict(session)
        if session.signed_in is not None:
            content["signed_in"] = session.signed_in._asdict()
        sealed = keys.seal("session", content)
        if len(sealed) > _LONGEST:
            detail = (
                "this credential is too large for a cookie, as it has too many roles or groups; "
                "have the issuer put fewer of them into its tokens"
            )
            raise ProblemError(413, "session-too-large", detail)
        self._set(request, response, "session", sealed, session.ends_at - time.time())

    def begin_login(
        self,
        request: web.Request,
        response: web.Response,
        content: Mapping[str, Any],
        keys: SealingKeys,
    ) -> None:
        """Gives the browser the cookie of a login, with ``content``."""
        sealed = keys.seal("login", {**content, "until": utcnow().timestamp() + LOGIN_TIME})
        self._set(request, response, "login", sealed, LOGIN_TIME)

    def login(self, request: web.Request, keys: SealingKeys) -> dict[str, Any] | None:
        """What :meth:`begin_login` gave the browser, if it did in time."""
        try:
            sealed = self.shown(request, "login")
        except UntrustedTokenError:
            return None
        found = None if sealed is None or len(sealed) > _LONGEST else keys.open("login", sealed)
        return found if found is not None and found["until"] > time.time() else None

    def _set(
        self, request: web.Request, response: web.Response, kind: Kind, value: str, age: float
    ) -> None:
        cookie = _cookie(self._base(request), kind)
        response.set_cookie(
            cookie.name,
            value,
            max_age=math.ceil(age),
            path=cookie.path,
            secure=cookie.secure,
            httponly=True,
            # Whoever comes back from an issuer comes from another site.
            samesite="Strict" if kind == "session" else "Lax",
        )

    def forget(self, request: web.Request, response: web.Response, kind: Kind = "session") -> None:
        """Has the browser drop the cookie."""
        self._set(request, response, kind, "", 0)

    def end(self, session: BrowserSession) -> None:
        """Lets ``session`` count no more at this facade, whoever has its cookie."""
        now = time.time()
        for id in [id for id, ends_at in self._ended.items() if ends_at <= now]:
            del self._ended[id]
        while len(self._ended) >= _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.id] = session.ends_at
        self.ended += 1

    def has_ended(self, session: BrowserSession) -> bool:
        """Whether somebody has ended ``session``."""
        return session.id in self._ended


_SESSION = web.RequestKey("session of a browser", BrowserSession)


async def require_csrf(request: web.Request, session: BrowserSession) -> None:
    """Raises :class:`ProblemError` (403) for a request of ``session`` that may change something, or
    opens a WebSocket, and has not its token."""
    if request.method in _SAFE and "Upgrade" not in request.headers:
        return
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.path.startswith(_PAGES):
        given = (await form_of(request)).get(CSRF_FIELD)
    if given is None or not is_csrf_token(session.id, given):
        detail = (
            f"a browser's session changes something with the header {CSRF_HEADER} alone, which the "
            "facade's own pages send; load the page again, or send Authorization: Bearer instead"
        )
        raise ProblemError(403, "csrf", detail)


def identified_by(request: web.Request, session: BrowserSession) -> None:
    """Says of ``request`` which session it is of."""
    request[_SESSION] = session


def session_of(request: web.Request) -> BrowserSession | None:
    """The session that ``request`` is of; ``None`` where another credential says who asks."""
    return request.get(_SESSION)


def csrf_of(request: web.Request) -> str:
    """The token with which a page that answers ``request`` may change something; ``""`` where none
    is needed."""
    session = session_of(request)
    return "" if session is None else csrf_token(session.id)


def sign_session(request: web.Request, response: web.StreamResponse) -> None:
    """Says of the answer to a request of a session that it is nobody else's: caches that many share
    know that of ``Authorization`` alone (RFC 9111, 3.5)."""
    if request.get(_SESSION) is not None:
        vary(response, "Cookie")
        kept = response.headers.get("Cache-Control", "no-cache")
        if not {"private", "no-store"} & {each.strip() for each in kept.split(",")}:
            response.headers["Cache-Control"] = f"private, {kept}"
