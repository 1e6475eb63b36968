"""TLS files that are renewed: which certificate is in use, until when, and what is said of it."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import httpx2
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mcp_discovery import credential_files, tls_files
from mcp_discovery.adapters.http import HttpClient
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.probe import SYSTEM_TLS, ServerTls, UnreachableError, probe_health_url
from mcp_discovery.tls_files import CertificateFile, TLSFiles, certificates_in_use
from tests.servers.recording import recording
from tests.stores.tls import Certificate, Tls

DAY = 86400.0


def followed(tls: Tls, certificate: Certificate | None = None) -> TLSFiles:
    """The files of ``tls``, copied to where they can be renewed."""
    used = tls.folder / "used"
    used.mkdir(exist_ok=True)
    put(used, certificate or tls.client)
    (used / "ca.pem").write_bytes(tls.ca_file.read_bytes())
    names = ("ca.pem", "client.pem", "client-key.pem")
    return TLSFiles(*(str(used / name) for name in names))


def put(used: Path, certificate: Certificate, *, key: bool = True) -> None:
    (used / "client.pem").write_bytes(certificate.cert_file.read_bytes())
    if key:
        (used / "client-key.pem").write_bytes(certificate.key_file.read_bytes())


@pytest.mark.parametrize("kind", list(trustme.KeyType))
@pytest.mark.parametrize("year", [2026, 2049, 2050, 9999])
def test_when_a_certificate_expires(tmp_path: Path, kind: trustme.KeyType, year: int) -> None:
    """As another library reads it, in both forms that X.509 has for times."""
    ca = trustme.CA(key_type=kind, organization_name="Ä" * 60)
    until = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    issued = ca.issue_cert("a", "b" * 60, not_after=until, key_type=kind)
    intermediate = ca.create_child_ca()
    deep = intermediate.issue_cert("c", not_after=until)
    for leaf in (issued, deep):
        key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
        leaf.private_key_pem.write_to_path(str(key))
        chain.write_bytes(
            b"text before\n" + b"".join(each.bytes() for each in leaf.cert_chain_pems)
        )
        (found,) = TLSFiles(None, str(chain), str(key)).certificates()
        read = [x509.load_pem_x509_certificate(each.bytes()) for each in leaf.cert_chain_pems]
        first = min(read, key=lambda each: each.not_valid_after_utc)
        assert found.expires == first.not_valid_after_utc.timestamp()
        assert found.starts == first.not_valid_before_utc.timestamp()
        assert (found.purpose, found.file) == ("store-cert", str(chain))


def test_of_several_cas_the_last_one_counts(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    cas = [trustme.CA(), trustme.CA()]
    read = [x509.load_pem_x509_certificate(each.cert_pem.bytes()) for each in cas]
    bundle.write_bytes("# Zürich\n".encode() + b"\n".join(each.cert_pem.bytes() for each in cas))
    (found,) = TLSFiles(str(bundle), whom="server", beside_system=True).certificates()
    assert found.purpose == "server-ca"
    assert found.expires == max(each.not_valid_after_utc.timestamp() for each in read)


@pytest.mark.parametrize(
    ("life", "left", "soon"),
    [
        (365, 15, False),
        (365, 13.9, True),
        (365, -1, True),
        (60, 13.9, True),
        (59, 13.9, False),
        (30, 1.6, False),
        (30, 1.4, True),
        (1, 1 / 10, False),  # Vault's agent renews here
        (1, 1 / 24, True),
    ],
)
def test_what_is_soon(life: float, left: float, soon: bool) -> None:
    expires = time.time() + left * DAY
    assert CertificateFile("store-cert", "f", expires - life * DAY, expires).expires_soon is soon


def test_what_is_said_of_a_client_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Tls(tmp_path)
    files = followed(mine, mine.lasting(-5))
    used = mine.folder / "used"
    said = files.client_fault(told=True)
    assert said is not None
    assert "the client certificate expired at 20" in said
    assert said.endswith(f"renew {used / 'client.pem'}, which is followed")
    assert files.client_fault() == said, "whatever the other side says"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(used))
    said = files.client_fault(told=True)
    assert said is not None
    assert "is a copy that systemd made" in said
    assert "restart it" in said
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    # The next one is there, and its key is not: nobody is told to renew what was renewed.
    put(used, mine.lasting(300), key=False)
    for _ in range(3):
        files.renewed()
        said = files.client_fault(told=True)
        assert said is not None
        assert "store-key is not the key of the certificate in store-cert" in said
        assert "renew" not in said
    assert len(caplog.records) == 1
    put(used, mine.lasting(300))
    files.renewed()
    assert files.client_fault() is None
    said = files.client_fault(told=True)
    assert said is not None
    assert "compare the clocks of both machines" in said
    assert TLSFiles(str(mine.ca_file)).client_fault(told=True) is None


async def test_the_figures_follow_the_files(tmp_path: Path) -> None:
    mine = Tls(tmp_path)
    before, after = mine.lasting(300), mine.lasting(600)
    files = followed(mine, before)
    used = mine.folder / "used"

    def expires() -> list[tuple[str, float]]:
        return [
            (each.purpose, round(each.expires - time.time(), -2))
            for each in certificates_in_use()
            if each.file.startswith(str(used))
        ]

    ca = expires()[0]
    assert expires() == [ca, ("store-cert", 300)]
    put(used, after)
    files.renewed()
    assert expires() == [ca, ("store-cert", 600)]
    del files
    assert expires() == []


@pytest.fixture
def system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's file of CAs for this test, which trusts nobody that the tests know."""
    file = tmp_path / "system.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(credential_files, "CHECK_EVERY", 0.0)
    monkeypatch.setattr(credential_files, "SETTLED", 0.0)
    tls_files._system_files.cache_clear()
    yield file
    tls_files._system_files.cache_clear()


async def test_the_systems_cas_are_followed(system_file: Path) -> None:
    """By probes, and by the client library's connections, which are one pool for its life."""
    ca = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(serving)
    each_new = aiohttp.TCPConnector(force_close=True)
    async with recording(tls=serving) as server, aiohttp.ClientSession(connector=each_new) as http:
        url = f"https://localhost:{server.port}/health"
        shared = SharedHttp(connect_timeout=5, guard=None)
        with pytest.raises(UnreachableError, match="not trusted"):
            await probe_health_url(http, url, 5, tls=SYSTEM_TLS)
        with pytest.raises(httpx2.ConnectError):
            await shared.facade.get(url)
        ca.cert_pem.write_to_path(str(system_file))
        for _ in range(2):
            await probe_health_url(http, url, 5, tls=SYSTEM_TLS)
            answer = await shared.facade.get(url, headers={"Connection": "close"})
            assert answer.status_code == 200
            system_file.write_text("")  # the next one is on its way: the last stays in use
        await shared.close()


async def test_an_expired_ca_is_not_taken_for_the_servers_certificate(tmp_path: Path) -> None:
    """By a store, and by a probe; OpenSSL has one code for both."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a CA")])

    def signed(of: ec.EllipticCurvePrivateKey, days: int, what: x509.ExtensionType) -> bytes:
        subject = name if of is key else x509.Name([])
        building = x509.CertificateBuilder(name, subject, of.public_key(), 1)
        building = building.not_valid_before(now - timedelta(days=9)).add_extension(what, True)
        made = building.not_valid_after(now + timedelta(days=days)).sign(key, hashes.SHA256())
        return made.public_bytes(Encoding.PEM)

    ca, mine, serving = tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "key.pem"
    ca.write_bytes(signed(key, -1, x509.BasicConstraints(True, None)))
    own = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    mine.write_bytes(signed(own, 9, names))
    serving.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, serving)
    async with recording(tls=context) as server, aiohttp.ClientSession() as http:
        url = f"https://localhost:{server.port}/health"
        with pytest.raises(UnreachableError, match="the CA that is trusted for it has expired"):
            trusted = ServerTls(TLSFiles(str(ca), whom="server").current)
            await probe_health_url(http, url, 5, tls=trusted)
        client = HttpClient(url, StoreOptions(ca=str(ca)))
        with pytest.raises(StoreUnavailableError, match=f"the CA in {ca} expired at 20"):
            await client.request("GET", url)
        await client.close()


_MOUNTED = """
import logging, os, sys
from mcp_discovery import credential_files
from mcp_discovery.credential_files import Secret
logging.basicConfig(format="%(message)s", stream=sys.stdout)
credential_files.CHECK_EVERY = credential_files.SETTLED = 0.0
original, mounted = sys.argv[1:]
secret = Secret("store token", None, mounted)
with open(original + ".new", "w") as new:
    new.write("second")
os.rename(original + ".new", original)
print(secret.current(), secret.current(), secret._file.unused is not None)
"""


def test_a_file_that_is_mounted_by_itself_is_told_of(tmp_path: Path) -> None:
    """What containers do with single files: the mount stays, the file in its folder is another."""
    original, mounted = tmp_path / "original", tmp_path / "mounted"
    original.write_text("first")
    mounted.write_text("")
    script = f'mount --bind {original} {mounted} && exec "$0" -c "$1" {original} {mounted}'
    words = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, _MOUNTED)
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    warning, values = ended.stdout.splitlines()
    assert values == "first first True"
    assert warning.startswith(f"{mounted} was replaced outside of this container")
    assert "mount its folder" in warning
