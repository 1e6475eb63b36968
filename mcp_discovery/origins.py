"""Origins (scheme, host and port), which credentials and names are tied to: a name is anybody's.

Who may register a server under a name is for others to say; who answers at an origin is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.urls import origin_of

_PORTS = {"http": 80, "https": 443}
#: ``https://*.example.com:8443``; what comes behind the port is not looked at.
_GLOB = re.compile(
    r"(?P<scheme>https?|wss?)://(?P<host>\[[0-9a-f:.*]+\]|[^][/:@?#\s]+)"
    r"(?::(?P<port>\d{1,5}|\*))?(?:/\S*)?",
    re.IGNORECASE,
)


class Origins:
    """Origins by globs of their hosts: ``https://payments.example.com``, ``http://10.1.*.*:8000``.

    Without a port it is the scheme's usual one; ``:*`` is any. A URL stands for its origin. The
    scheme of a WebSocket is that of its handshake. Raises :class:`InvalidInputError`.
    """

    def __init__(self, given: str | Iterable[str]) -> None:
        each = (given,) if isinstance(given, str) else tuple(given)
        if not each:
            raise InvalidInputError("no origin is given; write for example https://api.example.com")
        self._globs = tuple(map(_glob, each))
        self._text = ", ".join(each)

    def __str__(self) -> str:
        return self._text

    def include(self, url: str) -> bool:
        """Whether what is at ``url`` is of one of these origins."""
        try:
            scheme, host, port = origin_of(url)
        except ValueError:
            return False
        return any(
            scheme == wanted and ports in (None, port) and fits.fullmatch(host.strip("[]"))
            for wanted, fits, ports in self._globs
        )


@lru_cache(1024)
def _glob(text: str) -> tuple[str, re.Pattern[str], int | None]:
    match = _GLOB.fullmatch(text)
    if match is None or not match["host"]:
        raise InvalidInputError(
            f"{text[:200]!r} is no origin; write scheme, host and port, such as "
            "https://api.example.com or http://10.1.*.*:8000"
        )
    host = match["host"].strip("[]").lower().rstrip(".")
    if not re.search(r"[a-z0-9]", host):
        raise InvalidInputError(f"{text[:200]!r} is any host at all; name those that are meant")
    scheme = {"ws": "http", "wss": "https"}.get(match["scheme"].lower(), match["scheme"].lower())
    port = match["port"]
    number = None if port == "*" else int(port) if port else _PORTS[scheme]
    return scheme, re.compile(translate(host)), number
