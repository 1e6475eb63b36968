"""TLS contexts that follow their files, and when the certificates in these expire."""

from __future__ import annotations

import base64
import os
import re
import ssl
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from mcp_discovery.credential_files import FollowedFiles
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.health import rfc3339

_PEM = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END", re.ASCII
)


#: Seconds before its expiry at which a certificate that is made for long should be renewed.
_AHEAD = 14 * 86400.0
#: The shortest time, in seconds, for which such a certificate is made.
_LONG = 60 * 86400.0


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A file of certificates that is in use.

    ``purpose`` is the option that names it: ``store-cert``, ``store-ca``, ``server-ca``,
    ``tls-cert``, ``tls-client-ca``. Times are in seconds since 1970 and those of one certificate:
    in a chain of the one that expires first, of several CAs the one that expires last.
    """

    purpose: str
    file: str
    starts: float
    expires: float

    @property
    def expiry(self) -> str:
        """When it expires, for messages."""
        return rfc3339(datetime.fromtimestamp(self.expires, UTC))

    @property
    def expired(self) -> bool:
        """Whether it has expired, by this machine's clock."""
        return self.expires <= time.time()

    @property
    def expires_soon(self) -> bool:
        """Whether it should have been renewed by now: two weeks before its end, or where it is made
        for less than 60 days, when less than a twentieth of its time is left. The alert has the
        same rule (``deploy/prometheus/rules``)."""
        life = self.expires - self.starts
        return self.expires - time.time() < (_AHEAD if life >= _LONG else life / 20)


@dataclass(frozen=True, slots=True)
class TLSMaterial:
    """What is made of files. ``context`` is ``None`` where the one will do that a library made at
    its import."""

    context: ssl.SSLContext | None
    files: tuple[CertificateFile, ...] = ()


class TLSFiles:
    """The TLS context for connections to ``whom`` (``store`` or ``server``), made from PEM files,
    which are followed.

    ``ca`` takes the place of the system's CAs, or with ``beside_system`` stands beside them; where
    it is not given, the system's own file of CAs is followed (``SSL_CERT_FILE``, or OpenSSL's). A
    client shows ``certificate``, of which ``key`` is the key.

    Raises :class:`~mcp_discovery.errors.InvalidInputError`.
    """

    def __init__(
        self,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        *,
        whom: str = "store",
        beside_system: bool = False,
    ) -> None:
        if bool(certificate) != bool(key):
            raise InvalidInputError(
                "a client certificate needs its key, and a key its certificate: give both"
            )
        given = {f"{whom}-ca": ca, f"{whom}-cert": certificate, f"{whom}-key": key}
        paths = {purpose: path for purpose, path in given.items() if path}
        self._files = _system_files()
        if paths:
            followed = list(paths.values())
            if (system := _system_file()) is not None and (beside_system or not ca):
                followed.append(system)
            make = partial(_material, paths, whom, beside_system)
            self._files = FollowedFiles(f"TLS material for the {whom}", followed, make)
            in_use(self)

    def current(self) -> ssl.SSLContext | None:
        """The context for new connections; ``None`` for the system's defaults."""
        return None if self._files is None else self._files.current().context

    def renewed(self) -> ssl.SSLContext | None:
        """The context after reading the files now, for when a handshake failed."""
        return None if self._files is None else self._files.renewed().context

    def certificates(self) -> tuple[CertificateFile, ...]:
        """The files of certificates in use, those of the system left out."""
        return () if self._files is None else self._files.current().files

    def client_fault(self, *, told: bool = False) -> str | None:
        """What is wrong with the client certificate in use, in a sentence, or ``None``.

        ``told`` says that the other side called it expired. Read the files with :meth:`renewed`
        before: a certificate that was renewed is never told to be renewed.
        """
        mine = next((each for each in self.certificates() if each.purpose.endswith("-cert")), None)
        if self._files is None or mine is None:
            return None
        if not mine.expired:
            if not told:
                return None
            return (
                f"it says that the client certificate has expired, and {mine.file} is good until "
                f"{mine.expiry} by the clock here: compare the clocks of both machines"
            )
        since = f"the client certificate expired at {mine.expiry}"
        if (unused := self._files.unused) is not None:
            return f"{since}, and what came after it is not in use: {unused}"
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder and Path(mine.file).is_relative_to(folder):
            return (
                f"{since}; {mine.file} is a copy that systemd made when the service was started: "
                "restart it if the original was renewed"
            )
        return f"{since}; renew {mine.file}, which is followed"

    def expired_ca(self) -> str | None:
        """That each CA in its file has expired, in a sentence, or ``None``."""
        for each in self.certificates():
            if each.purpose.endswith("-ca") and each.expired:
                return (
                    f"the CA in {each.file} expired at {each.expiry}; put the one there that "
                    "signs now"
                )
        return None


class UsesCertificates(Protocol):
    """Follows files of certificates."""

    def certificates(self) -> tuple[CertificateFile, ...]:
        """The files in use."""
        ...


_in_use: weakref.WeakSet[UsesCertificates] = weakref.WeakSet()


def in_use(user: UsesCertificates) -> None:
    """Says that ``user`` follows files from now on, as long as it lives."""
    _in_use.add(user)


def certificates_in_use() -> list[CertificateFile]:
    """The files of certificates that this process follows, by purpose and name."""
    found = {each for tls in list(_in_use) for each in tls.certificates()}
    latest = {(each.purpose, each.file): each for each in sorted(found, key=_by_end)}
    return [latest[key] for key in sorted(latest)]


#: What a facade's and a sidecar's figures tell of each file: name, help, seconds.
CERTIFICATE_METRICS: tuple[tuple[str, str, Callable[[CertificateFile], float]], ...] = (
    (
        "certificate_expiry_seconds",
        "When a certificate in use expires, in seconds since 1970.",
        lambda file: file.expires,
    ),
    (
        "certificate_lifetime_seconds",
        "For how long that certificate was made: from its beginning to its expiry.",
        lambda file: file.expires - file.starts,
    ),
)


def _by_end(file: CertificateFile) -> float:
    return -file.expires  # a dict keeps the last: where two differ, the one that expires first


def system_context() -> ssl.SSLContext | None:
    """The context that trusts the system's CAs as their file is now; ``None`` as long as those will
    do that the libraries have read at their import."""
    files = _system_files()
    return None if files is None else files.current().context


@cache
def _system_files() -> FollowedFiles[TLSMaterial] | None:
    file, made = _system_file(), False

    def make(_: Sequence[bytes]) -> TLSMaterial:
        nonlocal made
        if not made:
            made = True
            return TLSMaterial(None)
        context = ssl.create_default_context()
        if not context.get_ca_certs():
            raise ValueError("it holds no certificate of a CA")
        return TLSMaterial(context)

    return None if file is None else FollowedFiles("list of the system's CAs", [file], make)


def _system_file() -> str | None:
    """The file of the system's CAs; those that are in a folder OpenSSL reads as it needs them."""
    file = ssl.get_default_verify_paths().cafile
    return file if file is not None and os.access(file, os.R_OK) else None


def _material(
    paths: dict[str, str], whom: str, beside_system: bool, contents: Sequence[bytes]
) -> TLSMaterial:
    ca, certificate = paths.get(f"{whom}-ca"), paths.get(f"{whom}-cert")
    if beside_system or not ca:
        context = ssl.create_default_context()
        if ca:
            load_ca(context, f"{whom}-ca", ca)
    else:
        try:
            context = ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise _no_ca(f"{whom}-ca", error) from error
    if certificate:
        load_certificate(context, paths, whom)
    return TLSMaterial(context, certificate_files(paths, contents))


def load_ca(context: ssl.SSLContext, purpose: str, path: str) -> None:
    """Has ``context`` trust the CAs in a file; raises :class:`ValueError`, naming ``purpose``."""
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise _no_ca(purpose, error) from error


def _no_ca(purpose: str, error: Exception) -> ValueError:
    return ValueError(f"{purpose} holds no certificate of a CA ({_reason(error)})")


def load_certificate(context: ssl.SSLContext, paths: Mapping[str, str], whom: str) -> None:
    """Has ``context`` show the certificate in ``paths``; raises :class:`ValueError`."""
    certificate, key = paths[f"{whom}-cert"], paths[f"{whom}-key"]
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        if (reason := _reason(error)) == "KEY_VALUES_MISMATCH":
            why = f"{whom}-key is not the key of the certificate in {whom}-cert"
        else:
            why = f"{whom}-cert and {whom}-key hold no certificate with its key ({reason})"
        raise ValueError(why) from error


def certificate_files(
    paths: Mapping[str, str], contents: Sequence[bytes]
) -> tuple[CertificateFile, ...]:
    """What :func:`certificates_in_use` tells of the files at ``paths``, with these contents."""
    files = []
    for (purpose, path), content in zip(paths.items(), contents, strict=False):
        if purpose.endswith("-key"):
            continue
        which = max if purpose.endswith("-ca") else min
        if known := list(_validities(content)):
            starts, expires = which(known, key=lambda each: each[1])
            files.append(CertificateFile(purpose, path, starts, expires))
    return tuple(files)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)


def _no_password() -> str:
    raise ValueError("its key is encrypted; give one without a password")


def _validities(pem: bytes) -> Iterator[tuple[float, float]]:
    """From when until when each certificate in a PEM file is valid, in seconds since 1970.

    OpenSSL has read them before, and may take what is not written as it should be, whose times are
    left out. The standard library tells the times of CAs alone.
    """
    for block in _PEM.findall(pem):
        with suppress(ValueError, IndexError):
            yield _validity(base64.b64decode(block))


def _validity(der: bytes) -> tuple[float, float]:
    # RFC 5280, 4.1: Certificate, in it TBSCertificate, in it an optional version, three fields
    # (serial number, signature, issuer), and the validity.
    at = _element(der, _element(der, 0)[0])[0]
    for _ in range(4 if der[at] == 0xA0 else 3):
        at = _element(der, at)[1]
    begin = _element(der, at)[0]
    end = _element(der, begin)[1]
    return _time(der, begin), _time(der, end)


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at ``at`` begins, and where it ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start])
    return start, start + length


def _time(der: bytes, at: int) -> float:
    """A UTCTime or a GeneralizedTime, as RFC 5280 (4.1.2.5) has them written."""
    start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if der[at] == 0x17:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
