"""What the facade may dial when it probes for others, so that it is no way into the network."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from multidict import istr

from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.facade.http.lines import Line, LineKeeper, Peer
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.facade.http.slashes import without_needless_slashes
from mcp_discovery.probe import (
    SYSTEM_TLS,
    AddressRefusedError,
    ServerTls,
    probing_session,
)
from mcp_discovery.record import Record
from mcp_discovery.tls_files import TLSFiles
from mcp_discovery.urls import wire_url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Connections to servers that are open at once.
_MOST_CONNECTIONS = 256
#: Seconds that a look whether connections are accepted may take.
_CONNECT_TIMEOUT = 1.0
#: What says that nobody listens there.
_NOBODY_THERE = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH}
)

#: In every request that a facade makes for others: so that one led to a facade is noticed there.
MARK = istr("X-Discovery-Probe")
_MARKED: Mapping[str, str] = MappingProxyType({MARK: "facade"})

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
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")  # RFC 3879; Python's is_global says nothing of it

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
_NUMERIC_HOST = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)


def why_refused(address: Address, *, private: bool) -> str | None:
    """Why ``address`` is not dialled, in a word or two; ``None`` when it may be.

    ``private`` allows loopback, private and shared ranges. An IPv4 address inside of an IPv6 one
    counts as well.
    """
    for each in _meant(address):
        for network, why in _NEVER:
            if each in network:
                return why
        if not private and (not each.is_global or each in _SITE_LOCAL):
            return "not public"
    return None


def _meant(address: Address) -> Iterator[Address]:
    """The address, and every IPv4 address that a packet to it may end at."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if any(address in network for network in _CARRIERS) and int(address) > 1:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address  # ``::1`` among them
    if address.sixtofour is not None:  # RFC 3056
        yield address.sixtofour
    if address.teredo is not None:  # RFC 4380
        yield from address.teredo


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


def trusting(file: str | None) -> ServerTls:
    """What trusts the CAs in a PEM ``file``, which is followed, as well as the system's.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` where it cannot be used.
    """
    if file is None:
        return SYSTEM_TLS
    return ServerTls(TLSFiles(file, whom="server", beside_system=True).current)


class Dialer:
    """A client session that connects to allowed addresses only; ``private`` as above.

    Every resolved address is checked, and checked again when its socket is made, just before that
    very address is connected to: a name that resolves to something else a moment later gains
    nothing. Make it inside a running event loop, and close it.
    """

    def __init__(
        self,
        *,
        private: bool,
        resolver: AbstractResolver | None = None,
        headers: Mapping[str, str] = _MARKED,
        connections: int = _MOST_CONNECTIONS,
        keepalive: float = 15.0,
        tls: ServerTls = SYSTEM_TLS,
    ) -> None:
        """``resolver`` is closed with this; the system's unless one is given. ``headers`` go with
        every request. ``connections`` may be open at once, 0 for any number; one that is idle is
        kept for ``keepalive`` seconds. ``tls`` is for what dials with it."""
        self.tls = tls
        self._private = private
        self._resolver = resolver or DefaultResolver()
        self._checked = _CheckedResolver(self._resolver, private=private)
        self._connector = LineKeeper(
            limit=connections,
            keepalive_timeout=keepalive,
            resolver=self._checked,
            socket_factory=self._socket,
        )
        #: Sends no cookies, goes through no proxy, follows no redirect by itself.
        self.session = probing_session(self._connector, headers)

    def check(self, record: Record) -> None:
        """Raises :class:`InvalidRecordError` where a URL that would be probed spells an address
        that is not dialled."""
        for field, url in (("endpoint.url", record.endpoint.url), ("healthUrl", record.health_url)):
            if url is None:
                continue
            try:
                address = literal(wire_url(url).raw_host or "")
                if address is not None:
                    _require(address, private=self._private)
            except AddressRefusedError as error:
                raise InvalidRecordError(field, f"{error}; name another one") from error

    def line(self, url: str) -> Line | None:
        """The connection over which the origin of ``url`` was asked last, if it ever was."""
        return self._connector.lines.get(wire_url(url).origin())

    async def accepts(self, url: str, peer: Peer | None = None) -> bool | None:
        """Whether a connection to the server at ``url`` is accepted, as it is closed again at once;
        ``None`` where that cannot be told.

        ``peer`` is the very address to connect to, where that is known.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                family, where = await self._peer(url) if peer is None else (_family(peer), peer)
                with self._socket((family, socket.SOCK_STREAM, 0, "", where)) as attempt:
                    attempt.setblocking(False)
                    await loop.sock_connect(attempt, where)
        except (AddressRefusedError, TimeoutError):
            return None
        except OSError as error:
            return False if error.errno in _NOBODY_THERE else None
        return True

    async def _peer(self, url: str) -> tuple[socket.AddressFamily, Peer]:
        parts = wire_url(url)
        found = (await self._checked.resolve(parts.raw_host or "", parts.port or 0))[0]
        return socket.AddressFamily(found["family"]), (found["host"], found["port"])

    async def close(self) -> None:
        """Closes every connection."""
        await self.session.close()
        await self._resolver.close()

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The socket for one attempt to connect; ``info`` is what ``getaddrinfo`` gives."""
        family, kind, protocol, _, where = info
        address = literal(where[0])
        if address is None:
            raise AddressRefusedError(f"its address {where[0][:100]!r} is not understood")
        _require(address, private=self._private)
        return socket.socket(family, kind, protocol)


def _family(peer: Peer) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in peer[0] else socket.AF_INET


class _CheckedResolver(AbstractResolver):
    """Resolves as another one does, and leaves out what is not dialled."""

    def __init__(self, resolver: AbstractResolver, *, private: bool) -> None:
        self._resolver = resolver
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The allowed addresses of ``host``; raises :class:`AddressRefusedError` if none is."""
        allowed: list[ResolveResult] = []
        refusal: AddressRefusedError | None = None
        try:
            resolved = await self._resolver.resolve(host, port, family)
        except UnicodeError as error:  # what Python says of ``a..b`` and of labels too long
            raise OSError(f"{host[:100]!r} is no host name") from error
        for found in resolved:
            address = literal(found["host"])
            if address is None:
                continue
            try:
                _require(address, private=self._private)
            except AddressRefusedError as error:
                refusal = error
            else:
                allowed.append(found)
        if not allowed and refusal is not None:
            raise refusal
        return allowed

    async def close(self) -> None:
        """Nothing: the resolver underneath is its maker's."""


def _require(address: Address, *, private: bool) -> None:
    why = why_refused(address, private=private)
    if why is not None:
        raise AddressRefusedError(f"its address {address} is not allowed ({why})")


def refusing_probes(mark: str, mcp: str) -> Callable[[web.Request], None]:
    """A check that refuses what a facade's own probe, or another facade's, posts here.

    What makes a facade probe is a POST: entries that point at a facade would have it probe itself,
    or two of them each other, for ever. Other facades may probe what is MCP itself, at the path
    ``mcp``: it makes nobody probe. ``mark`` is this facade's own, which may not: it would list what
    it lists.
    """

    def refuse_probes(request: web.Request) -> None:
        found = request.headers.get(MARK)
        if found is None or request.method in ("GET", "HEAD"):
            return
        if without_needless_slashes(request.path) != mcp or found == mark:
            detail = (
                "this is a facade, and a facade's probe was led to it; name the server's own URL"
            )
            raise ProblemError(508, "loop", detail)

    return refuse_probes
