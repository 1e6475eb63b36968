"""A listener's own certificate, and those of its clients."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_discovery.credential_files import read_again
from mcp_discovery.errors import InvalidInputError
from mcp_discovery.listener_tls import ListenerTLS
from mcp_discovery.tls_files import certificates_in_use
from tests.stores.tls import Certificate, Tls
from tests.stores.waiting import bounded


def put(folder: Path, certificate: Certificate, ca: Tls) -> None:
    folder.mkdir(exist_ok=True)
    shutil.copy(certificate.cert_file, folder / "cert.pem")
    shutil.copy(certificate.key_file, folder / "key.pem")
    shutil.copy(ca.ca_file, folder / "ca.pem")


@asynccontextmanager
async def server(tls: ListenerTLS) -> AsyncIterator[int]:
    """Sends each client the serial number of the certificate that it showed."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("peercert") or {}
        writer.write(f"{shown.get('serialNumber', 'none')}\n".encode())
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(tell, "127.0.0.1", 0, ssl=tls.context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def ask(
    port: int, context: ssl.SSLContext, name: str | None = "localhost"
) -> tuple[str, str]:
    """The server's serial number, and what it says of the client's."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name
    )
    try:
        shown = writer.get_extra_info("peercert")
        assert isinstance(shown, dict)
        said = await bounded(reader.readline(), 10)
        if not said:
            raise ConnectionResetError("no answer")
        return shown["serialNumber"], said.decode().strip()
    finally:
        writer.close()


def followed(folder: Path) -> ListenerTLS:
    return ListenerTLS(*(str(folder / name) for name in ("cert.pem", "key.pem", "ca.pem")))


async def test_its_certificate_and_its_cas_are_followed(tmp_path: Path) -> None:
    mine, other = Tls(tmp_path / "a"), Tls(tmp_path / "b")
    used = tmp_path / "used"
    put(used, mine.server, mine)
    both = mine.client_context()
    both.load_verify_locations(str(other.ca_file))
    stranger = other.client_context()
    stranger.load_verify_locations(str(mine.ca_file))
    async with server(followed(used)) as port:
        first, shown = await ask(port, both)
        assert shown != "none"
        with pytest.raises(OSError):
            await ask(port, stranger)
        put(used, other.server, other)
        read_again()
        second, shown = await ask(port, stranger)
        assert second != first and shown != "none"
        with pytest.raises(OSError):
            await ask(port, both)
        both.check_hostname = False
        with pytest.raises(OSError):  # a handshake without a server name uses the new files, too
            await ask(port, both, "")


async def test_a_client_need_not_show_one(tmp_path: Path) -> None:
    mine = Tls(tmp_path)
    put(tmp_path / "used", mine.server, mine)
    async with server(followed(tmp_path / "used")) as port:
        assert (await ask(port, mine.client_context(with_certificate=False)))[1] == "none"


async def test_old_protocols_are_refused(tmp_path: Path) -> None:
    mine = Tls(tmp_path)
    put(tmp_path / "used", mine.server, mine)
    old = mine.client_context()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with server(followed(tmp_path / "used")) as port:
        with pytest.raises(OSError):
            await ask(port, old)


def test_its_files_are_in_the_figures(tmp_path: Path) -> None:
    mine = Tls(tmp_path)
    put(tmp_path / "used", mine.server, mine)
    tls = followed(tmp_path / "used")
    purposes = {each.purpose for each in certificates_in_use() if str(tmp_path) in each.file}
    assert purposes == {"tls-cert", "tls-client-ca"}
    assert tls.certificates()


def test_what_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    mine = Tls(tmp_path)
    cert, key = str(mine.server.cert_file), str(mine.server.key_file)
    assert ListenerTLS.of_options(None, None, None) is None
    for given, said in (
        ((cert, None, None), "give both --tls-cert and --tls-key"),
        ((None, None, cert), "--tls-client-ca needs a listener with TLS"),
        ((cert, str(mine.client.key_file), None), "tls-key is not the key of the certificate"),
        ((key, cert, None), "which holds a certificate; swap them"),
        ((cert, cert, None), "hold no certificate with its key"),
        ((cert, key, key), "tls-client-ca holds no certificate of a CA"),
        ((cert, "/nowhere", None), "cannot read /nowhere"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            ListenerTLS.of_options(*given)
