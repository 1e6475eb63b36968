"""The TLS of a listener: its certificate, and the CAs of its clients' certificates, followed."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.tls_files import (
    CertificateFile,
    TLSMaterial,
    certificate_files,
    in_use,
    load_ca,
    load_certificate,
)

#: What stands in the first line of a certificate, and of a private key, in PEM.
_CERTIFICATE, _PRIVATE_KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"


class ListenerTLS:
    """Makes the TLS context of a listener from PEM files, which are followed.

    With ``client_ca`` clients are asked for a certificate that one of its CAs signed. They need not
    show one; one that is not good ends the handshake. Established connections stay as they are when
    a file changes. Raises :class:`~mcp_discovery.errors.InvalidInputError`.
    """

    def __init__(self, certificate: str, key: str, client_ca: str | None = None) -> None:
        given = {"tls-cert": certificate, "tls-key": key, "tls-client-ca": client_ca}
        paths = {purpose: path for purpose, path in given.items() if path}
        make = partial(_material, paths)
        self._files = FollowedFiles("TLS material of the listener", list(paths.values()), make)
        #: For every connection that is accepted.
        self.context = _context(paths)
        self.context.sni_callback = self._use_current
        in_use(self)

    @classmethod
    def of_options(
        cls, certificate: str | None, key: str | None, client_ca: str | None
    ) -> ListenerTLS | None:
        """What the options say; ``None`` for a listener without TLS.

        Raises :class:`~mcp_discovery.errors.InvalidInputError`.
        """
        if certificate and key:
            return cls(certificate, key, client_ca)
        if certificate or key:
            raise InvalidInputError(
                "a certificate needs its key, and a key its certificate: give both --tls-cert and "
                "--tls-key"
            )
        if client_ca:
            raise InvalidInputError(
                "--tls-client-ca needs a listener with TLS: give --tls-cert and --tls-key, too"
            )
        return None

    def certificates(self) -> tuple[CertificateFile, ...]:
        """The files of certificates in use."""
        return self._files.current().files

    def _use_current(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        """Called within each handshake, before a certificate is chosen, whether it has a server
        name or not."""
        current = self._files.current().context
        assert current is not None
        connection.context = current


def _material(paths: dict[str, str], contents: Sequence[bytes]) -> TLSMaterial:
    return TLSMaterial(_context(paths), certificate_files(paths, contents))


def _context(paths: dict[str, str]) -> ssl.SSLContext:
    """Raises :class:`ValueError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        load_certificate(context, paths, "tls")
    except ValueError as error:
        if _are_swapped(paths):
            raise ValueError(
                f"--tls-cert is {paths['tls-cert']}, which holds a key, and --tls-key "
                f"{paths['tls-key']}, which holds a certificate; swap them"
            ) from error
        raise
    if ca := paths.get("tls-client-ca"):
        load_ca(context, "tls-client-ca", ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        # A client is not spared its certificate because it was known before: its CA may be gone.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _are_swapped(paths: Mapping[str, str]) -> bool:
    """Whether the certificate is in the file of the key, and the key in that of the certificate."""
    try:
        certificate, key = (Path(paths[f"tls-{kind}"]).read_bytes() for kind in ("cert", "key"))
    except OSError:
        return False
    return (
        _PRIVATE_KEY in certificate
        and _CERTIFICATE in key
        and _CERTIFICATE not in certificate
        and _PRIVATE_KEY not in key
    )
