"""Where a request comes from: its client, behind the proxies that are trusted.

What ``X-Forwarded-For``, ``-Proto`` and ``-Host`` say counts only where the peer is a proxy that
the operator named: anybody can write these headers. ``Forwarded`` and ``X-Real-IP`` are never read:
a proxy that writes one of several such headers passes the others on as its client sent them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from mcp_discovery.errors import InvalidInputError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The most hops that are read of ``X-Forwarded-For``, from the right.
_MOST_HOPS = 32
_SCHEMES = frozenset({"http", "https"})
#: IPv4 addresses as IPv6 ones (RFC 4291, 2.5.5.2): what a socket for both sees.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class ClientAddress(NamedTuple):
    """The client of one request, as far as it can be known.

    ``address`` is its IP address, an IPv4 one never as an IPv6 one; ``""`` where the peer has none,
    as on a Unix socket. ``hops`` begin with it, and have the trusted proxies that the request came
    through. ``scheme`` and ``host`` (with its port) are of the URL that the client asked for.
    """

    address: str
    hops: tuple[str, ...]
    scheme: str
    host: str


class TrustedProxies:
    """The proxies whose ``X-Forwarded-*`` headers count, by their networks."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """``networks`` are in CIDR notation, or single addresses; raises
        :class:`InvalidInputError`."""
        self._networks = tuple(map(_network, networks))

    def client(self, request: web.Request) -> ClientAddress:
        """The client of ``request``."""
        peer = _normal(request.remote or "")
        if not self._networks or not self._trusts(peer):
            return ClientAddress(peer, (peer,) if peer else (), request.scheme, request.host)
        hops = [peer]
        for each in reversed(_listed(request, "X-Forwarded-For")[-_MOST_HOPS:]):
            # What is behind an address that cannot be read was written by nobody who is trusted.
            if not (address := _normal(_without_port(each))):
                break
            hops.insert(0, address)
            if not self._trusts(address):
                break
        proxies = len(hops) - 1 or 1
        scheme = _seen(request, "X-Forwarded-Proto", proxies).lower()
        return ClientAddress(
            hops[0],
            tuple(hops),
            scheme if scheme in _SCHEMES else request.scheme,
            _seen(request, "X-Forwarded-Host", proxies) or request.host,
        )

    def trusts(self, address: str) -> bool:
        """Whether a proxy that is trusted has this address."""
        return self._trusts(_normal(address))

    def _trusts(self, address: str) -> bool:
        known = _parsed(address)
        return known is not None and any(
            known.version == network.version and known in network for network in self._networks
        )


TRUSTED_PROXIES: web.AppKey[TrustedProxies] = web.AppKey("trusted proxies", TrustedProxies)
_CLIENT = web.RequestKey("client", ClientAddress)


def client_of(request: web.Request) -> ClientAddress:
    """The client of ``request``, which any code may ask, in the middlewares as well."""
    try:
        return request[_CLIENT]
    except KeyError:
        found = request[_CLIENT] = request.app[TRUSTED_PROXIES].client(request)
        return found


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidInputError(
            f"--trusted-proxy {text[:100]!r} is neither an address nor a network in CIDR notation "
            f"({error}); write for example 10.0.0.0/8"
        ) from error
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        v4 = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((v4, network.prefixlen - 96))
    return network


@lru_cache(4096)
def _parsed(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


@lru_cache(4096)
def _normal(text: str) -> str:
    """The address in its one spelling; ``""`` for what is none."""
    found = _parsed(text)
    return "" if found is None else str(found)


def _without_port(text: str) -> str:
    """``text`` without the port and the quotes that some proxies add."""
    text = text.strip().strip('"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _listed(request: web.Request, name: str) -> list[str]:
    whole = ",".join(request.headers.getall(name, ()))
    return [each.strip() for each in whole.split(",") if each.strip()]


def _seen(request: web.Request, name: str, proxies: int) -> str:
    """What the outermost of so many trusted proxies saw: each adds a value, or replaces all."""
    values = _listed(request, name)
    return values[-min(len(values), proxies)] if values else ""
