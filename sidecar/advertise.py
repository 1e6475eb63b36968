"""Finds the URL under which other machines reach the MCP server."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from mcp_discovery.adapters.backoff import Backoff
from mcp_discovery.adapters.store import Store
from mcp_discovery.adapters.stores import find_kind
from mcp_discovery.errors import InvalidInputError, StoreError
from mcp_discovery.listening import listeners
from mcp_discovery.sidecar.settings import SidecarSettings
from mcp_discovery.urls import with_authority

log = logging.getLogger(__name__)

#: Where the environment may name this machine's or pod's address, the most telling one first.
VARIABLES = ("MCP_DISCOVERY_ADVERTISE_HOST", "POD_IP", "HOST_IP")

#: Addresses for documentation (RFC 5737, RFC 3849): a route to them is the default route.
_ELSEWHERE = ("192.0.2.1", "2001:db8::1")

_LOOPBACK = "loopback, because the store is local"
_ADVICE = "give --advertise-url with the URL under which agents reach the MCP server"


@dataclass(frozen=True, slots=True)
class Advertised:
    """How a URL that works on this machine is given to others.

    ``fixed`` is the whole URL, when it was given; ``host`` replaces a loopback host; ``why`` is for
    the log.
    """

    fixed: str | None
    host: str | None
    why: str

    def url(self, url: str) -> str:
        """The URL to advertise for an MCP server that answers at ``url``."""
        return self.fixed or self._moved(url)

    def health_url(self, url: str | None) -> str | None:
        """The health URL to advertise; ``None`` where it only means something on this machine."""
        if url is None or (self.fixed and _is_here(urlsplit(url).hostname or "")):
            return None
        return self._moved(url)

    def _moved(self, url: str) -> str:
        parts = urlsplit(url)
        if self.host is None or not _is_here(parts.hostname or ""):
            return url
        host = f"[{self.host}]" if ":" in self.host else self.host
        credentials, at, _ = parts.netloc.rpartition("@")
        port = f":{parts.port}" if parts.port is not None else ""
        return with_authority(url, f"{credentials}{at}{host}{port}")


async def choose(
    settings: SidecarSettings, store_url: str, environ: Mapping[str, str]
) -> Advertised:
    """Decides what to advertise: the option, then ``environ``, then the route to the store.

    Unless it is given, loopback is advertised only when the store is local, that is of this
    machine alone or on loopback; :func:`as_known_to` asks such a store whether it is so. Raises
    :class:`~mcp_discovery.errors.InvalidInputError` when nothing else is found.
    """
    local = _is_local(store_url)
    if settings.advertise_url:
        if not local and _is_here(urlsplit(settings.advertise_url).hostname or ""):
            log.warning(
                "%s means nothing on other machines, and the store %s is on one of them",
                settings.advertise_url,
                store_url,
            )
        return Advertised(settings.advertise_url, None, "as given")
    host = urlsplit(settings.url).hostname or ""
    if not _is_here(host):
        return Advertised(None, None, "the MCP server's own host")
    for variable in VARIABLES:
        value = environ.get(variable, "").strip().strip("[]")
        if value and _usable(variable, value, local):
            return Advertised(None, value, f"from {variable}")
    if local:
        return Advertised(None, dialled(host), _LOOPBACK)
    address = await _route(_hosts(store_url))
    if address is None:
        raise InvalidInputError(
            f"{host} means nothing on other machines, and no route to {store_url} shows this "
            f"machine's address; {_ADVICE}"
        )
    return Advertised(None, address, "this machine's address on the route to the store")


async def as_known_to(store: Store, chosen: Advertised) -> Advertised:
    """``chosen``, with loopback replaced by the address by which ``store`` knows this machine.

    A Consul agent on loopback is one of a cluster's, as a rule, and other machines read what is
    registered with it. Asks until the store answers; to be cancelled.
    """
    if chosen.why != _LOOPBACK:
        return chosen
    backoff = Backoff()
    warned = False
    while True:
        try:
            address = await store.node_address()
        except StoreError as error:
            if not warned:
                log.warning("cannot ask by which address this machine is known: %s", error)
                warned = True
            await asyncio.sleep(backoff.next())
            continue
        if address is None or _is_here(address):
            return chosen
        return Advertised(None, address, "the address by which the store knows this machine")


def listening_host(chosen: Advertised) -> str:
    """The address to listen on, so that what is advertised leads there: that one where it is this
    machine's own, else all."""
    host = chosen.host if chosen.fixed is None else urlsplit(chosen.fixed).hostname
    host = host or "127.0.0.1"
    try:
        for each in listeners(host, 0):
            each.close()
    except OSError:
        return "0.0.0.0"
    return host


def dialled(host: str) -> str:
    """``host`` as it is dialled: an unspecified address (0.0.0.0) stands for loopback."""
    address = _address(host)
    if address is not None and address.is_unspecified:
        return "::1" if address.version == 6 else "127.0.0.1"
    return host


def dialled_url(url: str) -> str:
    """``url`` with an unspecified address replaced by loopback: servers refuse the former's Host
    header."""
    return Advertised(None, dialled(urlsplit(url).hostname or ""), "").url(url)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _is_here(host: str) -> bool:
    """Whether ``host`` means this machine on every machine that dials it."""
    return _is_loopback(host) or dialled(host) != host


def _usable(variable: str, host: str, local: bool) -> bool:
    if any(letter in host for letter in "/@ ") or (":" in host and _address(host) is None):
        log.warning("%s=%r is not a host or an address; it is ignored", variable, host)
        return False
    return local or not _is_here(host)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def _hosts(store_url: str) -> list[tuple[str, int]]:
    """Hosts and ports in a store URL, which may name several: ``etcd://a:2379,b:2379/prefix``."""
    places = []
    netloc = urlsplit(store_url).netloc.rpartition("@")[2]
    for part in filter(None, netloc.split(",")):
        with suppress(ValueError):
            place = urlsplit(f"//{part}")
            if place.hostname:
                places.append((place.hostname, place.port or 1))
    return places


def _is_local(store_url: str) -> bool:
    kind = find_kind(store_url)
    if kind is not None and kind.shared_by != "network":
        return True
    hosts = _hosts(store_url)
    return bool(hosts) and all(_is_loopback(host) for host, _ in hosts)


async def _route(places: list[tuple[str, int]]) -> str | None:
    """This machine's address on the way to the first of ``places`` that has one, or to anywhere."""
    loop = asyncio.get_running_loop()
    for host, port in [*places, *((address, 9) for address in _ELSEWHERE)]:
        try:
            async with asyncio.timeout(5):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, TimeoutError) as error:
            log.warning("the store's host %s does not resolve: %s", host, error)
            continue
        for family, kind, protocol, _, address in found:
            own = _source_address(family, kind, protocol, address)
            if own is not None and not _is_here(own) and not own.startswith("fe80:"):
                return own
    return None


def _source_address(family: int, kind: int, protocol: int, to: tuple[object, ...]) -> str | None:
    # Connecting a datagram socket sends nothing: the kernel only looks up the route.
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(to)
            return str(probe.getsockname()[0])
    except OSError:
        return None
