"""Callers by client certificates: SPIFFE ids and subjects, over a real TLS listener."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.facade.access.tokens import bearer, guarded
from tests.facade.harness import Client, leased
from tests.stores.waiting import bounded

RULES = [
    {"spiffe": "spiffe://example.org/ns/mcp/sa/*", "roles": "registrar"},
    {"subject": "CN=agent-*,O=Example", "roles": ["reader"]},
]


class Authority:
    """A CA whose certificates have the names that a test gives them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))
        server = self._ca.issue_cert("127.0.0.1")
        self.options = {
            "tls_cert": str(folder / "server.pem"),
            "tls_key": str(folder / "server.key"),
            "tls_client_ca": str(self.file),
        }
        server.private_key_pem.write_to_path(self.options["tls_key"])
        for each in server.cert_chain_pems:
            each.write_to_path(self.options["tls_cert"], append=True)

    def context(
        self, *uris: str, common_name: str = "", organization: str = "Example", seconds: float = 600
    ) -> ssl.SSLContext:
        """A client's context with such a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        issuer = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
        if common_name:
            names.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
        )
        if uris:
            given = x509.SubjectAlternativeName(map(x509.UniformResourceIdentifier, uris))
            builder = builder.add_extension(given, critical=False)
        certificate = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
        file = self._folder / "client.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(cafile=str(self.file))
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Authority(folder)


@asynccontextmanager
async def asking(url: str, context: ssl.SSLContext) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(url, session)


@asynccontextmanager
async def facade(folder: Path, authority: Authority, **sections: Any) -> AsyncIterator[Client]:
    session_of = authority.context(common_name="nobody")
    given: dict[str, Any] = {"certificates": RULES} | sections
    async with guarded(folder, given, context=session_of, **authority.options) as ask:
        yield ask


async def test_a_certificate_is_a_caller(tmp_path: Path, authority: Authority) -> None:
    async with facade(tmp_path, authority) as ask:
        assert (await ask("GET", "/servers")).status == 401  # nobody is in no rule
        for context, read, write in (
            (authority.context("spiffe://example.org/ns/mcp/sa/sidecar"), 200, 201),
            (authority.context(common_name="agent-1"), 200, 403),
            (authority.context("spiffe://example.org/ns/other/sa/x"), 401, 401),
            (authority.context("spiffe://evil.org/ns/mcp/sa/x"), 401, 401),
            # What is no SPIFFE id is none, whatever glob it fits.
            (authority.context("spiffe://example.org/ns/mcp/sa/../../other"), 401, 401),
            (authority.context("spiffe://example.org/ns/mcp/sa/a?x"), 401, 401),
            (authority.context("spiffe://example.org/ns/mcp/sa/"), 401, 401),
            # Two ids are none, and a name cannot hold the rest of a subject.
            (
                authority.context(
                    "spiffe://example.org/ns/mcp/sa/a", "spiffe://example.org/ns/mcp/sa/b"
                ),
                401,
                401,
            ),
            (authority.context(common_name="agent-1,O=Example", organization="Evil"), 401, 401),
        ):
            async with asking(ask.url, context) as client:
                assert (await client("GET", "/servers")).status == read
                assert (await client("POST", "/servers", leased("one"))).status == write
        async with asking(ask.url, authority.context(common_name="agent-1")) as client:
            # A token goes before the certificate, whether it counts or not.
            body = leased("two", name="two")
            reply = await client("POST", "/servers", body, headers=bearer("registrar"))
            assert reply.status == 201
            bad = {"Authorization": "Bearer bad"}
            assert (await client("GET", "/servers", headers=bad)).status == 401


@pytest.mark.slow
async def test_a_stream_ends_with_its_certificate(tmp_path: Path, authority: Authority) -> None:
    async with facade(tmp_path, authority) as ask:
        context = authority.context(common_name="agent-1", seconds=3)

        async def read() -> None:
            async with asking(ask.url, context) as client, client.events() as events:
                await events.next()
                with pytest.raises(EOFError):
                    while True:
                        await events.next()

        await bounded(asyncio.create_task(read()), 10)
