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

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.tls_files import system_context
from mcp_discovery.urls import wire_url

#: Seconds for which the names in a server's certificate are remembered, and the most that are.
_REMEMBERED, _MOST_REMEMBERED = 60.0, 256
#: Seconds that reading these names may take, and how many are told.
_READING, _MOST_NAMES = 3.0, 5

_NOT_TRUSTED = (
    "its certificate is signed by a CA that is not trusted here; give that CA with --server-ca"
)
#: OpenSSL's codes for certificates that are not accepted (x509_vfy.h).
_EXPIRED = 10
_CERTIFICATE_SENTENCES = {
    2: _NOT_TRUSTED,
    9: "its certificate is not valid yet; compare the clocks of both machines",
    _EXPIRED: "its certificate has expired; renew it, or have the server load the renewed one",
    18: "its certificate is self-signed; give it with --server-ca",
    19: _NOT_TRUSTED,
    20: _NOT_TRUSTED,
    21: _NOT_TRUSTED,
}
_UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
_WRONG_NAME = frozenset({62, 63, 64})
_NOT_TLS = "it does not speak TLS there; write http:// or ws:// in its URL"
_CLIENT_CERTIFICATE = "it asks for a client certificate, and a probe has none"
_NOTHING_IN_COMMON = "it has no version of TLS or cipher in common with this machine"
#: OpenSSL's names for what ends a handshake.
_HANDSHAKE_SENTENCES = {
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "RECORD_LAYER_FAILURE": _NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_BAD_CERTIFICATE": _CLIENT_CERTIFICATE,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NOTHING_IN_COMMON,
    # What TLS 1.2 says of both.
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"{_CLIENT_CERTIFICATE}, or {_NOTHING_IN_COMMON}",
    "UNSUPPORTED_PROTOCOL": _NOTHING_IN_COMMON,
    "TLSV1_UNRECOGNIZED_NAME": "it has no certificate for this name; give --server-name",
}


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


def is_wrong_name(error: Exception) -> bool:
    """Whether the certificate is trusted, and was made for another name."""
    cause = _cause(error)
    return isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _WRONG_NAME


def is_unknown_ca(error: BaseException | None) -> bool:
    """Whether the certificate may be good for those who trust its CA."""
    cause = _cause(error) if isinstance(error, Exception) else None
    return isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _UNKNOWN_CA


def is_expired_ca(error: Exception, tls: ServerTls) -> bool:
    """Whether the certificate is not accepted because each CA that is trusted has expired."""
    cause, context = _cause(error), tls.context()
    if not isinstance(cause, ssl.SSLCertVerificationError) or context is None:
        return False
    ends = [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]
    return cause.verify_code == _EXPIRED and bool(ends) and max(ends) <= time.time()


def is_late_refusal(error: Exception) -> bool:
    """Whether the server refused the handshake after its end, as it does in TLS 1.3."""
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) and cause.reason in _HANDSHAKE_SENTENCES


def tls_sentence(error: Exception) -> str:
    """Why a handshake failed, of which ``error`` is aiohttp's or Python's own."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _WRONG_NAME:
            return "its certificate is for another name"
        known = _CERTIFICATE_SENTENCES.get(cause.verify_code)
        return known or f"its certificate is not accepted: {cause.verify_message}"
    reason = getattr(cause, "reason", None) or ""
    return _HANDSHAKE_SENTENCES.get(reason, "the TLS handshake failed")


def _cause(error: Exception) -> object:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return error.certificate_error
        case aiohttp.ClientConnectorSSLError():
            return error.os_error
        case aiohttp.ClientOSError():
            return error.__cause__
    return error


_names: TTLCache[tuple[str | None, int | None], tuple[str, ...]] = TTLCache(
    _MOST_REMEMBERED, _REMEMBERED
)


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


async def _names_in_certificate(
    session: aiohttp.ClientSession, url: str, tls: ServerTls
) -> tuple[str, ...]:
    trusted = tls.context()
    context = ssl.create_default_context()
    if trusted is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=b"".join(trusted.get_ca_certs(binary_form=True)))
    context.check_hostname = False
    context.sslobject_class = _CertificateReader
    try:
        async with session.get(
            wire_url(url), ssl=context, server_hostname=tls.name, middlewares=()
        ):
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
