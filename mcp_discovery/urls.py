"""URLs of MCP servers, which go out byte for byte as they were registered.

A URL may be signed (``?sig=%2Fp%2Fq``), so ``%2F`` and ``/``, ``%7E`` and ``~``, ``?`` and nothing
at the end are not the same. Whatever dials or publishes a registered URL takes it from here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from yarl import URL

#: Transport → the usual path of its endpoint.
USUAL_PATHS = {"streamable-http": "/mcp", "sse": "/sse", "websocket": "/ws"}

#: Where an agent's card is below its URL, by A2A from 0.3 on.
AGENT_CARD = "/.well-known/agent-card.json"

_PARTS = re.compile(r"([^:/?#]+)://([^/?#]*)([^#]*)(#.*)?", re.DOTALL)
_UNSENDABLE = re.compile(r"[^\x21-\x7e]+")
#: What a URI may not contain (RFC 3986, section 2); brackets only stand around an address.
_NOT_IN_URI = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9._~:/?#@!$&'()*+,;=%-]")


def urls_of(url: str, transport: str) -> tuple[str, ...]:
    """The URLs to try, in order: a ``url`` without path and query is tried at the usual path first.

    People register ``http://10.0.0.5:8000`` and mean ``http://10.0.0.5:8000/mcp``.
    """
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query or transport not in USUAL_PATHS:
        return (url,)
    return urlunsplit(parts._replace(path=USUAL_PATHS[transport])), url


@lru_cache(maxsize=4096)
def wire_url(url: str) -> URL:
    """``url`` for aiohttp, which sends its path and query as they are written.

    Only what no request line can hold is encoded: blanks and what is not ASCII. The host is in
    ASCII (IDNA); there is no fragment. Raises ValueError where ``url`` is none that can be dialled.
    """
    scheme, authority, target, _ = _split(url)
    origin = URL(f"{scheme}://{authority}")
    if not origin.raw_host:
        raise ValueError(f"{url[:200]!r} is not a URL with a host")
    if not target.startswith("/"):
        target = f"/{target}"
    # As the path of the URL, the query too: yarl would drop the "?" of an empty one.
    return origin.with_path(_UNSENDABLE.sub(_encoded, target), encoded=True)


def uri_of(url: str) -> str:
    """``url`` as a URI, for documents: what RFC 3986 does not allow is encoded, braces included,
    and the scheme is in lower case (3.1).

    Braces would be variables in ``server.json``. Raises ValueError for what is no URL.
    """
    scheme, authority, target, fragment = _split(url)
    if not authority.isascii():
        authority = URL(f"{scheme}://{authority}").raw_authority
    rest = _NOT_IN_URI.sub(_encoded, target) + _NOT_IN_URI.sub(_encoded, fragment)
    return f"{scheme.lower()}://{authority}{rest}"


def resolve_in_origin(base: str, reference: str) -> str | None:
    """``reference`` resolved against ``base``; ``None`` when it leaves the origin or is no URL.

    For what a server names itself, in a redirect or an ``endpoint`` event: the answer is as written
    there, and only its dot segments are resolved (RFC 3986, section 5.2.4).
    """
    try:
        target = urljoin(base, reference)
        if reference.endswith("?") and not target.endswith("?"):
            target += "?"  # urljoin drops it
        return target if origin_of(target) == origin_of(base) else None
    except ValueError:
        return None


def agent_card_url(url: str) -> str:
    """Where the card of the A2A agent at ``url`` is; one that ends with ``.json`` is the card's."""
    own = uri_of(url)
    return own if urlsplit(own).path.endswith(".json") else f"{own.rstrip('/')}{AGENT_CARD}"


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port; the scheme of a WebSocket is that of its handshake, ``http``."""
    parts = wire_url(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return scheme, (parts.raw_host or "").lower(), parts.port


def with_authority(url: str, authority: str) -> str:
    """``url`` at another host and port, and otherwise as it is written."""
    scheme, _, target, fragment = _split(url)
    return f"{scheme}://{authority}{target}{fragment}"


def _split(url: str) -> tuple[str, str, str, str]:
    """Scheme, authority, path with query, fragment; together they are ``url``."""
    match = _PARTS.fullmatch(url)
    if match is None:
        raise ValueError(f"{url[:200]!r} is not an absolute URL")
    scheme, authority, target, fragment = match.groups(default="")
    return scheme, authority, target, fragment


def _encoded(characters: re.Match[str]) -> str:
    return quote(characters.group(), safe="")
