"""The front door: for which hosts a server answers, and which web pages may ask.

A browser sends what any page says to any address that it reaches, in the name of the person before
it. It tells the page by ``Origin`` and ``Sec-Fetch-Site``, which pages cannot write; and a page
whose own name was made to resolve to this server (DNS rebinding) is told by ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from mcp_discovery.errors import DiscoveryError, InvalidInputError, raise_all
from mcp_discovery.http_listener import Connection

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^\s:/?#\[\]@\\]{1,253}?)\.?(?::\d{0,5})?", re.ASCII)
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|\*", re.ASCII)
#: What load balancers' health checks ask.
_HEALTH = frozenset(("/health", "/ready"))
#: What a browser says of requests of the facade's own pages, and of those of nobody's.
_OWN_SITES = frozenset(("same-origin", "none"))
#: The longest path, in characters: it comes back in answers.
_LONGEST_PATH = 8192
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def host_name(host: str) -> str:
    """The name in ``host``, without its port and in lower case; ``""`` for what is no host."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1].lower()


class NotAdmittedError(DiscoveryError):
    """A request that goes no further: an HTTP ``status`` (400, 403, 414, 421 or 503), a ``kind`` in
    words joined by hyphens, and ``facts`` about it; ``str()`` is one sentence."""

    def __init__(self, status: int, kind: str, detail: str, **facts: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.facts = facts


class AllowedHosts:
    """The hosts that a server answers for: all IP addresses, ``localhost`` and names below it, and
    ``names``, of which ``*.example.com`` are all below that one and ``*`` are all.

    An address cannot be rebound, and nobody else's name is among those that an operator gives.
    """

    def __init__(self, names: Iterable[str]) -> None:
        given = {each.lower().rstrip(".") for each in names}
        raise_all(
            InvalidInputError(
                f"--allowed-host {each[:100]!r} is no host; write a name alone, such as "
                "facade.example.com or *.example.com, or * for all"
            )
            for each in sorted(given)
            if _NAME.fullmatch(each) is None
        )
        self._all = "*" in given
        self._names = {each for each in given if "*" not in each} | {"localhost"}
        below = {each[1:] for each in given if each.startswith("*.")}
        self._below = (".localhost", *sorted(below))
        self.names = lru_cache(1024)(self._is_named)

    def allows(self, host: str) -> bool:
        """Whether ``host``, with or without a port, is one of them."""
        return self._all or self.names(host)

    def _is_named(self, host: str) -> bool:
        """The same, of those that were not allowed by ``*``."""
        if not (name := host_name(host)):
            return False
        try:
            if name.startswith("["):
                return bool(IPv6Address(name[1:-1]))
            IPv4Address(name)
        except AddressValueError:
            return name in self._names or name.endswith(self._below)
        return True


class FrontDoor:
    """Refuses requests for hosts that are not allowed, and those of foreign pages that would change
    something, open a WebSocket or speak MCP.

    ``hosts`` are those it answers for besides addresses, ``origins`` those of the pages that may
    ask, ``*`` for all; ``public_url`` is where clients reach it; ``what`` is what it is the door
    of. What a page merely reads needs no refusal: its browser shows it nothing unless CORS says so.
    """

    #: What to do where pages of other origins are meant to, behind the sentence that refuses them.
    pages_advice = ""

    def __init__(
        self,
        hosts: Iterable[str],
        origins: Iterable[str] = (),
        public_url: str | None = None,
        *,
        what: str,
    ) -> None:
        public = urlsplit(public_url or "")
        self._public = f"{public.scheme}://{public.netloc.rpartition('@')[2]}".lower()
        self._hosts = AllowedHosts([*hosts, *filter(None, [public.hostname])])
        self._origins = frozenset(origins)
        self._what = what

    def is_guarded(self, request: web.Request) -> bool:
        """Whether foreign pages may not make ``request``: of all that a subclass does not know
        better."""
        return True

    def client_of(self, request: web.Request) -> tuple[str, str]:
        """The scheme and the host of the URL that the client asked for."""
        return request.scheme, request.host

    def check(self, request: web.Request) -> None:
        """Raises :class:`NotAdmittedError` for what is refused."""
        connection = request.protocol
        if (
            isinstance(connection, Connection)
            and (why := connection.place.over) is not None
            and request.path not in _HEALTH
        ):
            raise NotAdmittedError(503, "too-many-connections", why)
        headers = request.headers
        hosts = headers.getall("Host", ())
        if len(hosts) != 1 and (hosts or request.version >= HttpVersion11):
            detail = f"there are {len(hosts)} Host headers; send one, as HTTP/1.1 wants (RFC 9112)"
            raise NotAdmittedError(400, "bad-host", detail)
        # That of a target in absolute form goes before the header (RFC 9112, 3.2.2).
        for host in hosts:
            self._require_allowed(host)
        if (asked := request.host) not in hosts:
            self._require_allowed(asked)
        if len(request.rel_url.raw_path) > _LONGEST_PATH:
            detail = f"the path is longer than {_LONGEST_PATH:,} characters"
            raise NotAdmittedError(414, "path-too-long", detail)
        origins, sites = headers.getall("Origin", ()), headers.getall("Sec-Fetch-Site", ())
        if origins or sites:
            self._check_page(request, origins, sites)

    def _require_allowed(self, host: str) -> None:
        if not self._hosts.allows(host):
            name = host[:100].encode("ascii", "backslashreplace").decode()
            detail = (
                f"this {self._what} does not answer for the host {name}; start it with "
                "--allowed-host and that name if it is meant to"
            )
            raise NotAdmittedError(421, "foreign-host", detail, host=name)

    def _check_page(
        self, request: web.Request, origins: Sequence[str], sites: Sequence[str]
    ) -> None:
        allowed = self._origins
        if not self.is_guarded(request) or "*" in allowed:
            return
        if origins and allowed.issuperset(origins):
            return
        # Browsers send one of each; of what something on the way has added, each has to be right.
        foreign = next((each for each in origins if not self._is_own(request, each)), None)
        if foreign is not None:
            page = f"pages of {foreign[:100]!r}"
        elif not _OWN_SITES.issuperset(sites):
            page = f"pages of other sites (Sec-Fetch-Site: {', '.join(sites)[:100]})"
        else:
            return
        detail = f"{page} may not ask here{self.pages_advice}"
        raise NotAdmittedError(403, "foreign-origin", detail)

    def _is_own(self, request: web.Request, origin: str) -> bool:
        """Whether a page of ``origin`` came from this server: from the host that it asks now, which
        is one of its own, and not one that merely any name was allowed to be."""
        scheme, found, host = origin.lower().partition("://")
        if not found or scheme not in _DEFAULT_PORTS:
            return False
        if f"{scheme}://{host}" == self._public:
            return True
        asked_scheme, asked_host = self.client_of(request)
        if scheme == "http" and asked_scheme == "https":
            return False  # whoever is on the way can be a page of that one
        if host == self._public.partition("://")[2]:
            return False  # the same host by another scheme: whoever can read or change that one
        port = _DEFAULT_PORTS[scheme]
        asked = (request.host, asked_host)
        return any(
            self._hosts.names(each) and each.lower().removesuffix(port) == host for each in asked
        )
