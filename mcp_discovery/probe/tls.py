"""How one server's certificate is verified, and why it was not accepted."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from cachetools import TTLCache
from yarl import URL

from mcp_discovery.connection_errors import Remedies, is_expired, tls_error
from mcp_discovery.errors import DiscoveryError
from mcp_discovery.tls_files import system_context
from mcp_discovery.urls import wire_url

#: Seconds for which the names in a server's certificate are remembered, and the most that are.
_REMEMBERED, _MOST_REMEMBERED = 60.0, 256
#: Seconds that reading these names may take, and how many are told.
_READING, _MOST_NAMES = 3.0, 5

#: What helps where a probe could not connect.
REMEDIES = Remedies(
    ca="--server-ca",
    plain="http:// or ws:// in its URL",
    certificate="a probe has none",
    name="give --server-name",
)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How the certificate of one server is verified.

    ``context`` gives the context for new connections, ``None`` for the system's CAs. ``name`` is
    asked for (SNI) and verified in place of the host in the URL, where it is given.
    """

    context: Callable[[], ssl.SSLContext | None] = system_context
    name: str | None = None

    def options(self) -> dict[str, Any]:
        """What a request of aiohttp is given."""
        return {"ssl": self.context() or True, "server_hostname": self.name}


#: The system's CAs, and the host in the URL.
SYSTEM_TLS = ServerTls()


def is_expired_ca(error: BaseException | None, tls: ServerTls) -> bool:
    """Whether the certificate is not accepted because each CA that is trusted has expired."""
    context = tls.context()
    if context is None or not is_expired(error):
        return False
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]
    return bool(ends) and max(ends) <= time.time()


_names: TTLCache[tuple[str | None, int | None], tuple[str, ...]] = TTLCache(
    _MOST_REMEMBERED, _REMEMBERED
)
_secure: TTLCache[tuple[str | None, int | None], bool] = TTLCache(_MOST_REMEMBERED, _REMEMBERED)


async def wrong_name_sentence(session: aiohttp.ClientSession, url: str, tls: ServerTls) -> str:
    """That the certificate of the server at ``url`` is for other names, and for which.

    OpenSSL does not tell the names in a certificate that it refuses: they are read in a second
    handshake, which ends before anything is sent.
    """
    where = wire_url(url)
    key = where.raw_host, where.port
    if key not in _names:
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_READING):
                _names[key] = await _names_in_certificate(session, url, tls)
    asked = tls.name or where.raw_host
    names = _names.get(key)
    if not names:
        return f"its certificate is not for {asked}; give its name with --server-name"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        f"its certificate is for {', '.join(names[:_MOST_NAMES])}{more}, not for {asked}; write "
        "one of these in its URL, or give it with --server-name"
    )


async def speaks_tls(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether TLS is spoken where ``url`` asks for none: in a handshake that sends nothing else."""
    where = wire_url(url)
    key = where.raw_host, where.port
    known = _secure.get(key)
    if known is None:
        secure = where.with_scheme("wss" if where.scheme == "ws" else "https")
        try:
            async with asyncio.timeout(_READING):
                await _read_certificate(session, secure.with_port(where.port), None)
            known = True
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            refused = tls_error(error)  # in the words of TLS: it wants a certificate, or a name
            known = refused is not None and "ALERT" in refused.reason
        _secure[key] = known
    return known


async def _names_in_certificate(
    session: aiohttp.ClientSession, url: str, tls: ServerTls
) -> tuple[str, ...]:
    trusted = tls.context()
    context = ssl.create_default_context()
    if trusted is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=b"".join(trusted.get_ca_certs(binary_form=True)))
    context.check_hostname = False
    return await _read_certificate(session, wire_url(url), context, tls.name)


async def _read_certificate(
    session: aiohttp.ClientSession,
    url: URL,
    context: ssl.SSLContext | None,
    name: str | None = None,
) -> tuple[str, ...]:
    """The names in the certificate of ``url``, which ``context`` verifies, if there is one."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslobject_class = _CertificateReader
    try:
        async with session.get(url, ssl=context, server_hostname=name, middlewares=()):
            return ()
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _CertificateReadError):
            return error.os_error.names
        raise


class _CertificateReadError(DiscoveryError, ssl.SSLError):
    """Ends a handshake in which the names of a trusted certificate were read."""

    def __init__(self, certificate: dict[str, Any]) -> None:
        super().__init__("the certificate was read")
        named = (name for _, name in certificate.get("subjectAltName", ()))
        common = (
            value
            for part in certificate.get("subject", ())
            for key, value in part
            if key == "commonName"
        )
        self.names = tuple(dict.fromkeys(named)) or tuple(common)


class _CertificateReader(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        raise _CertificateReadError(self.getpeercert() or {})
