"""Cross-origin requests: which pages of other origins may read the answers."""

from __future__ import annotations

from aiohttp import web

from mcp_discovery.errors import InvalidInputError, raise_all
from mcp_discovery.record import url_problem

#: What a page may read of an answer's head besides what every page may.
EXPOSED = (
    "Allow, ETag, Link, Location, Mcp-Session-Id, RateLimit, RateLimit-Policy, Retry-After, "
    "Server-Timing, WWW-Authenticate, X-Discovery-Revision, X-Request-Id"
)
#: What a page may send, where its browser does not say what it wants to send.
_SENT = "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id"
#: How long, in seconds, a browser may remember the answer to its preflight.
_MAX_AGE = 600


class Cors:
    """Answers for pages of ``origins``; ``*`` stands for all of them. No origin, no headers.

    Credentials of the browser (cookies, client certificates) are never asked for: the facade
    knows none. Raises :class:`InvalidInputError` for what is no origin.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        raise_all(
            InvalidInputError(
                f"{each[:200]!r} is no origin; write scheme, host and port in lower case, such "
                "as https://console.example.com, or * for all"
            )
            for each in origins
            if each != "*" and not _is_origin(each)
        )
        #: Whose pages may read responses.
        self.origins = frozenset(origins)

    def answer_preflight(self, request: web.Request, response: web.StreamResponse) -> None:
        """Adds to the response to ``OPTIONS`` what a browser asks for before it sends a request."""
        wanted = request.headers.get("Access-Control-Request-Method")
        if wanted is not None and self._allowed(request) is not None:
            sent = request.headers.get("Access-Control-Request-Headers", "")
            response.headers["Access-Control-Allow-Methods"] = response.headers["Allow"]
            response.headers["Access-Control-Allow-Headers"] = _sane(sent) or _SENT
            response.headers["Access-Control-Max-Age"] = str(_MAX_AGE)

    def sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Says on a response, as its head is written, which origin may read it."""
        if "*" not in self.origins:
            vary(response, "Origin")
        allowed = self._allowed(request)
        if allowed is not None:
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = EXPOSED

    def _allowed(self, request: web.Request) -> str | None:
        if "*" in self.origins:
            return "*"
        origin = request.headers.get("Origin")
        return origin if origin in self.origins else None


def vary(response: web.StreamResponse, name: str) -> None:
    """Adds ``name`` to the answer's ``Vary``, unless it is there."""
    if "Vary" not in response.headers:
        response.headers["Vary"] = name
        return
    known = [each.strip() for each in response.headers["Vary"].split(",") if each.strip()]
    if name.lower() not in (each.lower() for each in known):
        response.headers["Vary"] = ", ".join([*known, name])


def _sane(headers: str) -> str:
    """The names of headers that a browser lists, unless they are anything else."""
    names = [each.strip() for each in headers[:1000].split(",")]
    fit = all(each and each.isascii() and each.replace("-", "").isalnum() for each in names)
    return ", ".join(names) if fit else ""


def _is_origin(text: str) -> bool:
    """Whether ``text`` is an origin as a browser spells it (RFC 6454, 6.2)."""
    fit = url_problem(text, ("http", "https")) is None
    return fit and text.count("/") == 2 and text == text.lower() and "@" not in text
