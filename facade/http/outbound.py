"""What the facade may dial when it probes for others, so that it is no way into the network."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from multidict import istr

from mcp_discovery.errors import InvalidRecordError
from mcp_discovery.facade.http.addresses import Address, AddressPolicy, literal
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


def trusting(file: str | None) -> ServerTls:
    """What trusts the CAs in a PEM ``file``, which is followed, as well as the system's.

    Raises :class:`~mcp_discovery.errors.InvalidInputError` where it cannot be used.
    """
    if file is None:
        return SYSTEM_TLS
    return ServerTls(TLSFiles(file, whom="server", beside_system=True).current)


def require_dialable(record: Record, addresses: AddressPolicy) -> None:
    """Raises :class:`InvalidRecordError` where a URL of ``record`` spells an address that is none
    of ``addresses``."""
    for field, url in (("endpoint.url", record.endpoint.url), ("healthUrl", record.health_url)):
        if url is None:
            continue
        try:
            address = literal(wire_url(url).raw_host or "")
            if address is not None:
                _require(address, addresses)
        except AddressRefusedError as error:
            raise InvalidRecordError(field, f"{error}; name another one") from error


class Dialer:
    """A client session that connects to the ``addresses`` of a policy only.

    Every resolved address is checked, and checked again when its socket is made, just before that
    very address is connected to: a name that resolves to something else a moment later gains
    nothing. Make it inside a running event loop, and close it.
    """

    def __init__(
        self,
        addresses: AddressPolicy,
        *,
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
        self._addresses = addresses
        self._resolver = resolver or DefaultResolver()
        self._checked = _CheckedResolver(self._resolver, addresses)
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
        require_dialable(record, self._addresses)

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
        _require(address, self._addresses)
        return socket.socket(family, kind, protocol)


def _family(peer: Peer) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in peer[0] else socket.AF_INET


class _CheckedResolver(AbstractResolver):
    """Resolves as another one does, and leaves out what is not dialled."""

    def __init__(self, resolver: AbstractResolver, addresses: AddressPolicy) -> None:
        self._resolver = resolver
        self._addresses = addresses

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
                _require(address, self._addresses)
            except AddressRefusedError as error:
                refusal = error
            else:
                allowed.append(found)
        if not allowed and refusal is not None:
            raise refusal
        return allowed

    async def close(self) -> None:
        """Nothing: the resolver underneath is its maker's."""


def _require(address: Address, addresses: AddressPolicy) -> None:
    why = addresses.why_refused(address)
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
