"""Signing in to the pages, by a token or at an issuer, and signing out."""

from __future__ import annotations

import re
import secrets
from hmac import compare_digest
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from mcp_discovery.errors import MissingExtraError
from mcp_discovery.extras import require_extra
from mcp_discovery.facade.access.audit.recording import current_recording
from mcp_discovery.facade.access.authentication import AUTHENTICATION, FileAuthentication
from mcp_discovery.facade.access.browser_session import (
    CSRF_FIELD,
    BrowserSession,
    csrf_token,
    is_csrf_token,
    new_id,
    session_of,
)
from mcp_discovery.facade.access.caller import Caller, caller_of, refusal_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.access.quotas import QUOTAS
from mcp_discovery.facade.access.refused_credentials import IssuerAwayError, UntrustedTokenError
from mcp_discovery.facade.http.body import form_of
from mcp_discovery.facade.http.client_address import client_of
from mcp_discovery.facade.http.operation import Operation, Parameter
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.pages.site import HTML, page, page_operation, to_root

if TYPE_CHECKING:
    from mcp_discovery.facade.access.issuer_login import IssuerLogin
    from mcp_discovery.facade.access.sealing import SealingKeys

#: A path of this facade and a query: what some browser takes for another host is none.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f-\U0010ffff]{0,2000}")
#: Segments that lead out of a path.
_DOTS = re.compile(r"/(?:\.|%2e)", re.IGNORECASE)


def onward(given: str | None) -> str:
    """Where somebody goes who has signed in: ``given`` where it is a path of this facade that is
    shown to people, and otherwise the first page."""
    if given is None or _LOCAL.fullmatch(given) is None:
        return "/"
    path = urlsplit(given).path
    own = path == "/" or (path.startswith("/ui/") and not path.startswith("/ui/log"))
    return given if own and _DOTS.search(path) is None else "/"


def _relative(request: web.Request, path: str) -> str:
    """``path``, which begins with a slash, as seen from the page of ``request``."""
    return to_root(request) + path[1:]


def _sealing(request: web.Request) -> tuple[FileAuthentication, SealingKeys]:
    """What signs people in; raises :class:`ProblemError` where nobody can."""
    authentication = request.app.get(AUTHENTICATION)
    if authentication is None:
        detail = "this facade asks nobody who they are; it was started without --auth"
        raise ProblemError(404, "no-authentication", detail)
    try:
        require_extra("auth", "signing in to the pages")
    except MissingExtraError as error:
        raise ProblemError(501, "not-supported", str(error)) from error
    sealing = authentication.policy.sealing
    assert sealing is not None, "what seals sessions is installed"
    return authentication, sealing()


async def show(request: web.Request) -> web.Response:
    """The form to sign in with, for people.

    Who comes from a page of another site is led back first, once: the browser has sent no cookie
    with that (SameSite=Strict), and sends it then, if somebody is signed in.
    """
    authentication, _ = _sealing(request)
    next = onward(request.query.get("next"))
    if (
        "next" in request.query
        and request.headers.get("Sec-Fetch-Site") == "cross-site"
        and caller_of(request).is_anonymous
        and not authentication.sessions.has_cookie(request)
    ):
        return _leading_on(request, "going_on.html", "One moment", _relative(request, next))
    return _form(request, next)


def _form(
    request: web.Request, next: str, status: int = 200, problem: str = "", *, anew: bool = False
) -> web.Response:
    """The form, with what was wrong the last time; ``anew``: what was begun is over."""
    authentication, keys = _sealing(request)
    begun = {} if anew else authentication.sessions.login(request, keys) or {}
    id = str(begun.get("id") or new_id())
    response = page(
        request,
        "login.html",
        title="Sign in",
        status=status,
        issuers=[each.login_name for each in authentication.policy.file.logins],
        form_csrf=csrf_token(id),
        next=next,
        problem=problem,
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 15.5.2
    authentication.sessions.begin_login(request, response, {**begun, "id": id}, keys)
    if session_of(request) is None and authentication.sessions.has_cookie(request):
        authentication.sessions.forget(request, response)  # it counts no more
    return response


async def sign_in(request: web.Request) -> web.Response:
    """Signs in with the token that the form has, and leads on to where somebody was to go."""
    authentication, keys = _sealing(request)
    form = await form_of(request)
    next = onward(form.get("next"))
    begun = authentication.sessions.login(request, keys)
    if begun is None or not is_csrf_token(str(begun["id"]), form.get(CSRF_FIELD, "")):
        problem = "This form was too old, or its cookie was not kept; please send it again."
        return _form(request, next, 403, problem)
    session = BrowserSession.new(_lifetime(request), token=form.get("token", "").strip())
    try:
        caller = await authentication.caller_in(request, session)
    except ProblemError as error:
        if error.status != 401:
            return _form(request, next, error.status, f"{error.detail}.")
        return await _refused(request, next, "This token is not valid here, or not any more.")
    response = web.Response(status=303, headers={"Location": _relative(request, next)})
    _begin(request, response, session, caller)
    return response


async def _refused(request: web.Request, next: str, problem: str) -> web.Response:
    """Counts who gave a credential that does not count; raises :class:`ProblemError` (429)."""
    if (quotas := request.app.get(QUOTAS)) is not None:
        await quotas.refuse(request, client_of(request).address)
    return _form(request, next, 401, problem, anew=True)


def _lifetime(request: web.Request) -> float:
    return request.app[AUTHENTICATION].policy.file.sessions.lifetime


def _begin(
    request: web.Request, response: web.Response, session: BrowserSession, caller: Caller
) -> None:
    authentication, keys = _sealing(request)
    authentication.sessions.begin(request, response, session, keys)
    authentication.sessions.forget(request, response, "login")
    if (before := session_of(request)) is not None:
        authentication.sessions.end(before)
    _record("sign-in", session, caller)


def _record(name: str, session: BrowserSession, caller: Caller) -> None:
    if (recording := current_recording()) is not None:
        signed_in = session.signed_in
        recording.session(name, caller, "token" if signed_in is None else signed_in.issuer)


def _login(request: web.Request, authentication: FileAuthentication) -> IssuerLogin:
    name = request.match_info["issuer"]
    for each in authentication.policy.issuers.values():
        if each.login is not None and each.issuer.login_name == name:
            return each.login
    raise ProblemError(404, "unknown-issuer", f"nobody signs in at {name[:100]!r} here")


def _callback(request: web.Request) -> str:
    """The redirect URI: another one for each issuer, so that none can pass on an answer of another
    (RFC 9700, 4.4.2)."""
    base = request.app[CHALLENGES].base(request)
    return f"{base}/ui/login/{request.match_info['issuer']}/callback"


async def to_issuer(request: web.Request) -> web.Response:
    """Leads to the issuer, to sign in there with OpenID Connect (code and PKCE)."""
    authentication, keys = _sealing(request)
    login = _login(request, authentication)
    next = onward(request.query.get("next"))
    begun = authentication.sessions.login(request, keys) or {}
    flow = {each: secrets.token_urlsafe(32) for each in ("state", "nonce", "verifier")}
    try:
        url = await login.authorization_url(_callback(request), **flow)
    except IssuerAwayError as error:
        return _form(request, next, 503, f"{error}.")
    response = web.Response(status=303, headers={"Location": url, "Cache-Control": "no-store"})
    id = begun.get("id") or new_id()
    content = {"id": id, "issuer": login.issuer, "next": next, **flow}
    authentication.sessions.begin_login(request, response, content, keys)
    return response


async def from_issuer(request: web.Request) -> web.Response:
    """Takes the issuer's answer, signs in, and leads on to where somebody was to go.

    The answer is a page: a browser sends the session's cookie with what a page of the same site
    asks for, and not with a redirect from another one.
    """
    authentication, keys = _sealing(request)
    login = _login(request, authentication)
    flow = authentication.sessions.login(request, keys) or {}
    given = request.query
    state = str(flow.get("state", ""))
    own = state and compare_digest(
        state.encode(), given.get("state", "").encode("utf-8", "replace")
    )
    if not own or flow.get("issuer") != login.issuer:
        problem = "This answer is to no question of this browser, or came too late; sign in again."
        return _form(request, "/", 400, problem)
    next = onward(flow.get("next"))
    try:
        await login.require_issuer(given.get("iss"))
        if "error" in given:
            said = ": ".join(filter(None, (given["error"], given.get("error_description", ""))))
            problem = f"The issuer has not let you in: {said[:300]}"
            return _form(request, next, 403, problem, anew=True)
        signed_in = await login.signed_in(
            given.get("code", ""),
            _callback(request),
            str(flow["verifier"]),
            str(flow["nonce"]),
            public_url=authentication.public_url,
            roles=authentication.policy.file.roles,
        )
        session = BrowserSession.new(_lifetime(request), signed_in=signed_in)
        caller = await authentication.caller_in(request, session)
    except UntrustedTokenError as error:
        authentication.refused(request, error)
        problem = "The issuer's answer does not count here; the facade's log says why."
        return await _refused(request, next, problem)
    except IssuerAwayError as error:
        return _form(request, next, 503, f"{error}.")
    response = _leading_on(request, "going_on.html", "Signed in", _relative(request, next))
    _begin(request, response, session, caller)
    return response


async def sign_out(request: web.Request) -> web.Response:
    """Ends the session, and leads to the issuer to sign out there as well, where it began there and
    that can be done."""
    if (refusal := refusal_of(request)) is not None and session_of(request) is not None:
        raise refusal
    authentication, _ = _sealing(request)
    session = session_of(request)
    url = None
    if session is not None:
        authentication.sessions.end(session)
        _record("sign-out", session, caller_of(request))
        if session.signed_in is not None:
            url = await _sign_out_url(request, authentication, session.signed_in.issuer)
    response = _leading_on(request, "signed_out.html", "Signed out", url)
    authentication.sessions.forget(request, response)
    return response


async def _sign_out_url(
    request: web.Request, authentication: FileAuthentication, issuer: str
) -> str | None:
    keys = authentication.policy.issuers.get(issuer)
    if keys is None or keys.login is None:
        return None
    return await keys.login.sign_out_url(f"{request.app[CHALLENGES].base(request)}/ui/login")


def _leading_on(request: web.Request, template: str, title: str, url: str | None) -> web.Response:
    """A page that leads on to ``url``: where a form is redirected to another site, ``form-action``
    stops it."""
    response = page(request, template, title=title, url=url)
    if url is not None:
        response.headers["Refresh"] = f"0; url={url}"
    return response


_NEXT = Parameter("next", "Where to go then: a path of the pages.")
_ISSUER = Parameter("issuer", "What the issuer is called here.", where="path")
_ERRORS = (400, 401, 403, 404, 429, 501, 503)


def _posted(path: str, handler: Any) -> Operation:
    return Operation(
        "POST",
        path,
        handler,
        "pages",
        answers=HTML,
        errors=_ERRORS,
        media="text/html",
        lenient=True,
        needs="open",
    )


OPERATIONS = (
    page_operation("/ui/login", show, needs="open", parameters=(_NEXT,), errors=(404, 501)),
    _posted("/ui/login", sign_in),
    page_operation(
        "/ui/login/{issuer}", to_issuer, needs="open", parameters=(_ISSUER, _NEXT), errors=_ERRORS
    ),
    page_operation(
        "/ui/login/{issuer}/callback",
        from_issuer,
        needs="open",
        parameters=(_ISSUER,),
        errors=_ERRORS,
    ),
    _posted("/ui/logout", sign_out),
)
