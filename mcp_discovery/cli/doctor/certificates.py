"""Do certificates expire soon: those in the files that are given, and those that servers show?"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

from mcp_discovery.cli.doctor.case import Case, DoctorFinding, host_of, ok, wrong
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.tls_files import CertificateFile, TLSFiles

_FILES = "put the next one there, and its key: facades and sidecars follow their files"
_SHOWN = "renew it there, and see that the new one is served"


async def check_certificates(case: Case) -> AsyncIterator[DoctorFinding]:
    """One finding for each file of certificates, and for each address that is asked over TLS."""
    given = case.credentials
    try:
        store = TLSFiles(given.ca, given.certificate, given.key)
        server = TLSFiles(case.server_ca, whom="server")
    except InvalidInputError as error:
        yield wrong(str(error), "mend the files, or the options that name them")
        return
    for each in (*store.certificates(), *server.certificates()):
        yield _look_at(each, f"{each.file} ({each.purpose})", _FILES)
    shown = {case.facade: None, **dict.fromkeys(case.store_urls, store.current())}
    for url, context in shown.items():
        if url.startswith("https://"):
            certificate = await _shown_at(url, context or ssl.create_default_context(), case)
            if certificate is not None:  # otherwise the checks that use the address say why
                yield _look_at(certificate, f"the certificate of {url}", _SHOWN)


def _look_at(certificate: CertificateFile, what: str, advice: str) -> DoctorFinding:
    when = certificate.expiry
    if certificate.expired:
        return wrong(f"{what} expired at {when}", advice)
    if certificate.expires_soon:
        return wrong(f"{what} expires at {when}, which is soon", advice)
    return ok(f"{what} is good until {when}")


async def _shown_at(url: str, context: ssl.SSLContext, case: Case) -> CertificateFile | None:
    host, port = host_of(url)
    try:
        async with asyncio.timeout(case.timeout):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (TimeoutError, OSError):
        return None
    shown = writer.get_extra_info("peercert") or {}
    writer.close()
    if "notAfter" not in shown:
        return None
    starts, expires = (ssl.cert_time_to_seconds(shown[each]) for each in ("notBefore", "notAfter"))
    return CertificateFile("", url, starts, expires)
