"""The page Me: who somebody is to the facade, by what, what they may do, and what is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from mcp_discovery.facade.access import tokens
from mcp_discovery.facade.access.authentication import AUTHENTICATION
from mcp_discovery.facade.access.browser_session import BrowserSession, session_of
from mcp_discovery.facade.access.caller import Caller, caller_of, refusal_of
from mcp_discovery.facade.access.challenge import CHALLENGES
from mcp_discovery.facade.access.rights import PARTS, VERBS, Grant, Rights, Verb
from mcp_discovery.facade.access.tokens import TokenEntry
from mcp_discovery.facade.http.pauses import sliced
from mcp_discovery.facade.pages.site import page, page_operation
from mcp_discovery.facade.servers.current_list import view_of

#: What a right is to, for people.
_MEANING: dict[Verb, str] = {
    "read": "see servers and what they offer",
    "call": "call their tools through this facade",
    "register": "change the list",
    "report": "report outcomes, and have servers probed",
    "admin": "see and do what concerns the facade itself",
}
_SELECTORS = ("names", "tags", "owners", "zones", *PARTS)
#: So many names are shown.
_MOST_NAMES = 200


@dataclass(frozen=True, slots=True)
class RightLine:
    """A right that somebody has: for everything, or for what each of ``parts`` selects."""

    verb: Verb
    meaning: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenLine:
    """A token of somebody's, without its secret."""

    id: str
    entry: TokenEntry
    is_in_use: bool
    has_expired: bool


def right_lines(rights: Rights) -> list[RightLine]:
    """What is granted, by verbs."""
    return [
        RightLine(verb, _MEANING[verb], () if rights.grants_all(verb) else _parts(rights, verb))
        for verb in VERBS
        if verb in rights.verbs
    ]


def _parts(rights: Rights, verb: Verb) -> tuple[str, ...]:
    found = {_selected(each): None for each in rights.grants if verb in each.verbs}
    return tuple(found)


def _selected(grant: Grant) -> str:
    chosen = ((each, getattr(grant, each)) for each in _SELECTORS)
    return "; ".join(
        f"{name}: {', '.join(globs) or 'none'}" for name, globs in chosen if globs is not None
    )


async def me(request: web.Request) -> web.Response:
    """Who asks, by what, with which rights, tokens and names of servers, for people."""
    if (refusal := refusal_of(request)) is not None:
        raise refusal
    caller, session = caller_of(request), session_of(request)
    if caller.is_anonymous and not caller.rights.verbs:
        raise request.app[CHALLENGES].unauthenticated(request, "read")
    names = [] if caller.is_anonymous else await _names(request, caller.subject)
    ends = caller.expires_at
    return page(
        request,
        "me.html",
        title="Me",
        current="me",
        by=_by(caller, session),
        rights=right_lines(caller.rights),
        ends_at=None if ends is None else datetime.fromtimestamp(ends, UTC),
        session=session,
        began=None if session is None else datetime.fromtimestamp(session.began, UTC),
        tokens=_tokens(request, caller, session),
        names=names[:_MOST_NAMES],
        more_names=max(0, len(names) - _MOST_NAMES),
    )


def _by(caller: Caller, session: BrowserSession | None) -> str:
    match caller.by:
        case "token":
            return "a token of this facade"
        case "certificate":
            return "the certificate of this connection"
        case "jwt" if session is not None and session.signed_in is not None:
            return f"the issuer {session.signed_in.issuer}"
        case "jwt":
            return "a token of an issuer"
    return ""


async def _names(request: web.Request, subject: str) -> list[str]:
    """The names of servers that are the caller's, of those that it sees."""
    return sorted(
        {
            each.record.name
            async for each in sliced(view_of(request))
            if each.instance.lease.holder.owner == subject
        }
    )


def _tokens(
    request: web.Request, caller: Caller, session: BrowserSession | None
) -> list[TokenLine]:
    """Those of the file that are the caller's, and nobody else's."""
    authentication = request.app.get(AUTHENTICATION)
    if authentication is None or caller.is_anonymous:
        return []
    known = authentication.policy.file.tokens
    shown = None if session is None or session.token is None else tokens.find(session.token, known)
    now = datetime.now(UTC)
    return [
        TokenLine(id, entry, shown is not None and shown[0] == id, _has_expired(entry, now))
        for id, entry in known.items()
        if (entry.subject or id) == caller.subject
    ]


def _has_expired(entry: TokenEntry, now: datetime) -> bool:
    return entry.expires is not None and entry.expires <= now


OPERATIONS = (page_operation("/ui/me", me, needs="open", errors=(401,)),)
