"""Which addresses the facade dials: a table of its own, the same whatever Python it runs under.

The sources are IANA's special-purpose address registries (RFC 6890) as of 2026-11,
https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry, with what is not "globally reachable"
in them, and the IPv6 address space, of which 2000::/3 alone is assigned for unicast. The module
:mod:`ipaddress` has such tables too, which differ from one version of Python to the next.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from mcp_discovery.errors import InvalidInputError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Never dialled, whatever the options say. What each cloud's instances are told (credentials
#: included) is served at addresses of its own: RFC 3927 for most, and those named below.
_NEVER = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("::/128", "unspecified"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("fd00:ec2::254/128", "cloud metadata"),  # AWS
        ("fd00:ec2::23/128", "cloud metadata"),  # AWS EKS
        ("fd20:ce::254/128", "cloud metadata"),  # Google Cloud
        ("100.100.100.200/32", "cloud metadata"),  # Alibaba Cloud
        ("168.63.129.16/32", "cloud metadata"),  # Azure
        ("192.0.0.192/32", "cloud metadata"),  # Oracle Cloud
    )
)
#: Not public: all that the registries do not call globally reachable. Of blocks that are nested the
#: smallest counts.
_SPECIAL = tuple(
    (ipaddress.ip_network(network), public)
    for network, public in (
        ("10.0.0.0/8", False),  # private use, RFC 1918
        ("100.64.0.0/10", False),  # shared address space, RFC 6598
        ("127.0.0.0/8", False),  # loopback, RFC 1122, 3.2.1.3
        ("172.16.0.0/12", False),  # private use, RFC 1918
        ("192.0.0.0/24", False),  # IETF protocol assignments, RFC 6890, 2.1
        ("192.0.0.9/32", True),  # Port Control Protocol anycast, RFC 7723
        ("192.0.0.10/32", True),  # TURN anycast, RFC 8155
        ("192.0.2.0/24", False),  # documentation, RFC 5737
        ("192.88.99.0/24", False),  # 6to4 relay anycast, deprecated, RFC 7526
        ("192.168.0.0/16", False),  # private use, RFC 1918
        ("198.18.0.0/15", False),  # benchmarking, RFC 2544
        ("198.51.100.0/24", False),  # documentation, RFC 5737
        ("203.0.113.0/24", False),  # documentation, RFC 5737
        ("::/0", False),  # nothing of it but 2000::/3 is assigned for unicast, RFC 3513
        ("2000::/3", True),
        ("64:ff9b::/96", True),  # IPv4-IPv6 translation, RFC 6052
        ("2001::/23", False),  # IETF protocol assignments, RFC 2928; Teredo (2001::/32) in it
        ("2001:1::1/128", True),  # Port Control Protocol anycast, RFC 7723
        ("2001:1::2/128", True),  # TURN anycast, RFC 8155
        ("2001:1::3/128", True),  # DNS-SD Service Registration Protocol anycast, RFC 9665
        ("2001:3::/32", True),  # AMT, RFC 7450
        ("2001:4:112::/48", True),  # AS112-v6, RFC 7535
        ("2001:20::/28", True),  # ORCHIDv2, RFC 7343
        ("2001:30::/28", True),  # drone remote ID, RFC 9374
        ("2001:db8::/32", False),  # documentation, RFC 3849
        ("2002::/16", False),  # 6to4, whose relays are deprecated, RFC 7526
        ("3fff::/20", False),  # documentation, RFC 9637
        ("5f00::/16", False),  # segment routing identifiers, RFC 9602
    )
)
#: IPv6 prefixes in whose last 32 bits stands the IPv4 address that is really reached.
_CARRIERS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "::/96",  # IPv4-compatible, RFC 4291, 2.5.5.1
        "::ffff:0:0/96",  # IPv4-mapped, RFC 4291, 2.5.5.2
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 7915
        "64:ff9b::/96",  # NAT64, RFC 6052
    )
)
#: Translation prefixes of local use are cut from this one, in any of the lengths of RFC 6052.
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215
#: What a translator could be made to reach; it drops packets to the others that are never dialled.
_LED_INSIDE = ("link-local", "cloud metadata")
_NUMERIC_HOST = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses may be dialled.

    ``private`` allows all but those that never are: loopback, private and shared ranges as well as
    public ones. Without it ``allowed`` are the ranges that are dialled though they are not public.
    """

    private: bool = True
    allowed: tuple[Network, ...] = ()

    def why_refused(self, address: Address) -> str | None:
        """Why ``address`` is not dialled, in a word or two; ``None`` when it may be.

        An IPv4 address inside of an IPv6 one counts as well.
        """
        for each in _meant(address):
            if (why := _why_never(each)) is not None:
                return why
            if not self.private and not _is_public(each) and not self._allows(each):
                return "not public"
        return None

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self.allowed)


def address_policy(*, private: bool, allowed: Iterable[str] = ()) -> AddressPolicy:
    """The policy of ``--probe-public-only`` and of ``--probe-allow`` with these ranges, which
    needs the former.

    Raises :class:`InvalidInputError` for what is no range, or one that is never dialled.
    """
    networks = tuple(map(_network, allowed))
    return AddressPolicy(private and not networks, networks)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise InvalidInputError(
            f"--probe-allow {text[:60]!r} is no range of addresses ({error}); write one such as "
            "10.20.0.0/16 or fd12:3456::/32"
        ) from error
    for never, why in _NEVER:
        if never.version == network.version and network.subnet_of(never):  # type: ignore[arg-type]
            raise InvalidInputError(f"--probe-allow {text}: it is {why}, which is never dialled")
    return network


@cache
def _by_size(version: int) -> tuple[tuple[Network, bool], ...]:
    """The special blocks of IPv4 or IPv6, the smallest first."""
    found = [each for each in _SPECIAL if each[0].version == version]
    return tuple(sorted(found, key=lambda each: -each[0].prefixlen))


def _is_public(address: Address) -> bool:
    return next((public for net, public in _by_size(address.version) if address in net), True)


def _why_never(address: Address) -> str | None:
    return next((why for network, why in _NEVER if address in network), None)


def _meant(address: Address) -> Iterator[Address]:
    """The address, and every IPv4 address that a packet to it may end at."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    bits = int(address)
    if any(address in network for network in _CARRIERS) and bits > 1:
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    else:
        yield address  # ``::1`` among them
    if address in _LOCAL_NAT64:
        # Which of the lengths the prefix has is not known here. The other candidates are made of
        # parts of the address, so that only what must never be reached counts.
        yield from (each for each in _translated(bits) if _why_never(each) in _LED_INSIDE)
    if address.sixtofour is not None:  # RFC 3056
        yield address.sixtofour
    if address.teredo is not None:  # RFC 4380
        yield from address.teredo


def _translated(bits: int) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 one holds under a prefix of 48, 56, 64 or 96 bits (RFC 6052,
    2.2); bits 64 to 71 are not used."""
    yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)
    without_gap = ((bits >> 64) << 56) | (bits & ((1 << 56) - 1))
    for prefix in (48, 56, 64):
        yield ipaddress.IPv4Address((without_gap >> (120 - prefix - 32)) & 0xFFFFFFFF)


def literal(host: str) -> Address | None:
    """The address that ``host`` spells, also as for ``inet_aton`` (``0x7f.1``), or ``None``."""
    host = host.rstrip(".")
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if not _NUMERIC_HOST.fullmatch(host):
            return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
