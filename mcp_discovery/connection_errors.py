"""Why a connection failed, in one sentence: the one place that reads the errors of sockets and TLS.

aiohttp and httpx2 wrap what Python raised. aiohttp's errors of TLS are ``ssl.SSLError`` as well and
lack its ``reason``: what Python raised is looked for behind them.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mcp_discovery.errors import DiscoveryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What helps, in the words of whoever asked.

    ``ca`` is how a CA is given, ``plain`` how the address is written without TLS, ``certificate``
    what to do where a client certificate is asked for. ``refused``, ``closed`` and ``name`` follow
    where nobody listens, where a connection is closed without an answer, and where a server has no
    certificate for its name.
    """

    ca: str
    plain: str
    certificate: str
    refused: str = ""
    closed: str = ""
    name: str = ""

    @property
    def words(self) -> Mapping[str, str]:
        """What stands for each name in a sentence; a hint begins with a semicolon."""
        hints = {"refused": self.refused, "closed": self.closed, "name": self.name}
        following = {name: f"; {hint}" if hint else "" for name, hint in hints.items()}
        return {"ca": self.ca, "plain": self.plain, "certificate": self.certificate} | following


_NOT_TRUSTED = "its certificate is signed by a CA that is not trusted here; give that CA with {ca}"
_EXPIRED = 10
#: OpenSSL's codes for certificates that are not accepted (x509_vfy.h).
_CERTIFICATE_SENTENCES = {
    2: _NOT_TRUSTED,
    9: "its certificate is not valid yet; compare the clocks of both machines",
    _EXPIRED: "its certificate has expired; renew it, or have the server load the renewed one",
    18: "its certificate is self-signed; give it with {ca}",
    19: _NOT_TRUSTED,
    20: _NOT_TRUSTED,
    21: _NOT_TRUSTED,
}
_UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
_WRONG_NAME = frozenset({62, 63, 64})

_CUT_OFF = "it closed the connection in the TLS handshake; if it speaks no TLS there, write {plain}"
_NOT_TLS = "it does not speak TLS there; write {plain}"
_WANTS_CERTIFICATE = "it asks for a client certificate; {certificate}"
_NOTHING_IN_COMMON = "it has no version of TLS or cipher in common with this machine"
#: What ends a handshake, by a part of OpenSSL's name for it; the first that matches applies. The
#: alerts are a server's (RFC 8446, section 6.2), of which some servers send only the last ones.
_HANDSHAKE_SENTENCES = (
    ("WRONG_VERSION_NUMBER", _NOT_TLS),
    ("RECORD_LAYER_FAILURE", _NOT_TLS),
    ("PACKET_LENGTH_TOO_LONG", _NOT_TLS),
    ("HTTP_REQUEST", _NOT_TLS),
    ("CERTIFICATE_REQUIRED", _WANTS_CERTIFICATE),
    ("CERTIFICATE_EXPIRED", "it says that the client certificate has expired"),
    ("CERTIFICATE_REVOKED", "it says that the client certificate is revoked; give another one"),
    ("UNKNOWN_CA", "it does not know the CA of the client certificate; give one that it trusts"),
    (
        "ALERT_BAD_CERTIFICATE",
        "it refuses the client certificate, or asks for one and got none; {certificate}",
    ),
    (
        "CERTIFICATE_UNKNOWN",
        "it refuses the client certificate, or asks for one and got none; {certificate}",
    ),
    ("UNSUPPORTED_CERTIFICATE", "it takes no client certificate of that kind; give another one"),
    ("PROTOCOL_VERSION", _NOTHING_IN_COMMON),
    ("UNSUPPORTED_PROTOCOL", _NOTHING_IN_COMMON),
    ("NO_PROTOCOLS_AVAILABLE", _NOTHING_IN_COMMON),
    # What TLS 1.2 says of both.
    ("ALERT_HANDSHAKE_FAILURE", f"{_WANTS_CERTIFICATE}; or {_NOTHING_IN_COMMON}"),
    ("UNRECOGNIZED_NAME", "it has no certificate for the name that it was asked by{name}"),
    ("UNEXPECTED_EOF", _CUT_OFF),
)
#: The alerts with which a server refuses a handshake, in OpenSSL's names for what it was sent. What
#: else breaks a connection of TLS says nothing of what the server has read by then.
_REFUSAL = re.compile(
    r"(SSLV3|TLSV1|TLSV13)_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE"
    r"|PROTOCOL_VERSION|INSUFFICIENT_SECURITY|DECRYPT_ERROR|UNRECOGNIZED_NAME)"
)
_RESET = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_ERRNO_SENTENCES = {
    **dict.fromkeys(_RESET, "connection reset by the server{closed}"),
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
    errno.ETIMEDOUT: "connection attempt timed out",
}
_BROKEN_OFF = "the answer broke off"
#: By the names of aiohttp's and httpx2's classes: whoever uses one does not import the other.
_KINDS = {
    "ServerDisconnectedError": "the server closed the connection without an answer{closed}",
    "RemoteProtocolError": "the server closed the connection without an answer{closed}",
    "ClientPayloadError": _BROKEN_OFF,
    "ClientResponseError": "answered, but not HTTP",
    "TransferEncodingError": "answered, but not HTTP",
    "InvalidURL": "its address is no URL that can be dialled",
}
_CONNECTING = frozenset({"ClientConnectorError", "ConnectError"})
#: How servers answer plain HTTP where they speak TLS: Go, nginx, Apache, Tomcat.
_WANTS_TLS = re.compile(
    rb"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS port"
    rb"|plain HTTP to an SSL-enabled|combination of host and port requires TLS",
)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what it was made from, as far as that is known."""
    while error is not None:
        yield error
        behind = error.__cause__ or getattr(error, "os_error", None)
        if behind is None and type(error).__module__.startswith(("httpx2", "httpcore2", "anyio")):
            behind = error.__context__  # they raise theirs "from None"
        error = behind


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """OpenSSL's own error behind ``error``; ``None`` where TLS is not what failed."""
    for each in causes(error):
        if isinstance(each, ssl.SSLError) and getattr(each, "reason", None):
            return each
    return None


def is_no_connection(error: BaseException | None) -> bool:
    """Whether no connection was made, that of TLS included."""
    kinds = {kind.__name__ for each in causes(error) for kind in type(each).__mro__}
    if kinds & _CONNECTING:
        return True
    return "ReadError" not in kinds and tls_error(error) is not None


def is_refused_handshake(error: BaseException | None) -> bool:
    """Whether the server refused a handshake with an alert, which in TLS 1.3 comes after its end:
    it has processed no request then."""
    found = tls_error(error)
    return found is not None and _REFUSAL.match(found.reason) is not None


def is_wrong_name(error: BaseException | None) -> bool:
    """Whether the certificate is trusted, and was made for another name."""
    return getattr(tls_error(error), "verify_code", None) in _WRONG_NAME


def is_unknown_ca(error: BaseException | None) -> bool:
    """Whether the certificate may be good for those who trust its CA."""
    return getattr(tls_error(error), "verify_code", None) in _UNKNOWN_CA


def is_expired(error: BaseException | None) -> bool:
    """Whether the certificate, or that of its CA, has expired."""
    return getattr(tls_error(error), "verify_code", None) == _EXPIRED


def wants_tls(status: int, body: bytes | bytearray) -> bool:
    """Whether an answer to plain HTTP says that TLS is spoken there."""
    return status == 400 and _WANTS_TLS.search(body[:2000]) is not None


def connection_sentence(error: BaseException, remedies: Remedies) -> str:
    """Why ``error`` ended a connection, or kept it from being made: one line."""
    tls = tls_error(error)
    template = _socket_sentence(error) if tls is None else _tls_sentence(tls)
    return template.format_map(remedies.words)


def _tls_sentence(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"its certificate is for another name: {_literal(error.verify_message)}"
        known = _CERTIFICATE_SENTENCES.get(error.verify_code)
        return known or f"its certificate is not accepted: {_literal(error.verify_message)}"
    for part, sentence in _HANDSHAKE_SENTENCES:
        if part in error.reason:
            return sentence
    return f"the TLS handshake failed ({_literal(error.reason)})"


def _socket_sentence(error: BaseException) -> str:
    connecting, refused = False, ""
    for each in causes(error):
        if isinstance(each, DiscoveryError):  # one that was raised in the place of a connection
            return _literal(each)
    for each in causes(error):
        kinds = {kind.__name__ for kind in type(each).__mro__}
        connecting |= bool(kinds & _CONNECTING)
        if isinstance(each, socket.gaierror) or "ClientConnectorDNSError" in kinds:
            return "the host name does not resolve"
        if isinstance(each, ConnectionRefusedError):
            return "connection refused{refused}"
        number = getattr(each, "errno", None)
        if connecting and (isinstance(each, ConnectionResetError) or number in _RESET):
            return _CUT_OFF  # without TLS nobody resets what is not there yet
        for kind, sentence in _KINDS.items():
            if kind in kinds:
                # httpx2 has one class for the end before an answer and for that within one.
                return _BROKEN_OFF if "complete message body" in str(each) else sentence
        if isinstance(each, OSError) and number in _ERRNO_SENTENCES:
            return _ERRNO_SENTENCES[number]
        if type(each) is OSError and number is None and str(each):
            refused = _literal(each)  # by whoever lets us connect
    return refused or ("connection failed" if connecting else "the connection broke")


def _literal(text: object) -> str:
    """``text`` on one line of bounded length, fit for a template."""
    line = " ".join(str(text).split())[:300]
    return line.replace("{", "{{").replace("}", "}}")
