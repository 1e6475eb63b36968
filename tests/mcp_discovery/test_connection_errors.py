"""Whoever connects says in one sentence why that failed: to a port of another protocol, with
certificates that are wrong in each way, over aiohttp and over httpx2."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import httpx2
import pytest
import trustme
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from mcp_discovery.adapters.http import remedies_for
from mcp_discovery.client.attempt import REMEDIES as OF_CLIENT
from mcp_discovery.client.transports import SharedHttp
from mcp_discovery.connection_errors import Remedies, connection_sentence, wants_tls
from mcp_discovery.facade.gateway.upstream import (
    ForwardedRequest,
    ReplicaUnreachableError,
    send_request,
)
from mcp_discovery.facade.http.problems import ProblemError
from mcp_discovery.probe import ServerTls
from mcp_discovery.probe.tls import REMEDIES as OF_PROBE
from tests.mcp_discovery.probe.test_tls import blocking_server
from tests.records import record

CA, STRANGER = trustme.CA(), trustme.CA()
NOW = datetime.now(UTC)
PAST, FUTURE = (-2, -1), (1, 2)
OF_STORE = remedies_for("consul+https://h:8501")


def issued(
    name: str = "localhost", authority: trustme.CA = CA, days: tuple[int, int] = (-1, 2)
) -> trustme.LeafCert:
    """A certificate for ``name`` that is valid between these days from today."""
    first, last = (NOW + timedelta(days=each) for each in days)
    return authority.issue_cert(name, not_before=first, not_after=last)


def serving(name: str = "localhost", days: tuple[int, int] = (-1, 2)) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued(name, days=days).configure_cert(context)
    return context


def strict(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that wants a client certificate of its CA."""
    context = serving()
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, version
    CA.configure_trust(context)
    return context


def old() -> ssl.SSLContext:
    context = serving()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def trusting(
    authority: trustme.CA | None = CA,
    certificate: trustme.LeafCert | None = None,
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = least
    if authority is not None:
        authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


class Saying(asyncio.Protocol):
    """Says one thing and closes the connection: at once, or after the first bytes."""

    def __init__(self, what: bytes, *, first: bool = False, reset: bool = False) -> None:
        self.what, self.first, self.reset = what, first, reset

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.first:
            self.end()

    def data_received(self, _: bytes) -> None:
        self.end()

    def end(self) -> None:
        if self.reset:
            made = self.transport.get_extra_info("socket")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.transport.write(self.what)
        self.transport.close()


def saying(what: bytes) -> Callable[[], Saying]:
    """What answers the first bytes of each connection with ``what``, and closes it."""
    return lambda: Saying(what)


@asynccontextmanager
async def port(what: ssl.SSLContext | Callable[[], Saying], *, heard: bool) -> AsyncIterator[str]:
    """``host:port`` of what serves so; ``heard`` are also the alerts of one that speaks TLS."""
    if isinstance(what, ssl.SSLContext) and heard:
        async with blocking_server(what) as url:
            yield url.removeprefix("https://").removesuffix("/mcp")
        return
    loop = asyncio.get_running_loop()
    if isinstance(what, ssl.SSLContext):
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=what)
    else:
        server = await loop.create_server(what, "127.0.0.1", 0)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"


async def by_aiohttp(url: str, tls: ssl.SSLContext) -> BaseException:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError) as caught:
            async with http.get(url, ssl=tls) as response:
                await response.read()
    return caught.value


async def by_httpx(url: str, tls: ssl.SSLContext) -> BaseException:
    async with httpx2.AsyncClient(verify=tls) as http:
        with pytest.raises((httpx2.TransportError, ssl.SSLError)) as caught:
            await http.get(url)
    return caught.value


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
NOT_TLS = "it does not speak TLS there; write {plain}"
NO_TLS_PERHAPS = (
    "it closed the connection in the TLS handshake; if it speaks no TLS there, write {plain}"
)
WANTS_CERTIFICATE = "it asks for a client certificate; {certificate}"
NOTHING_IN_COMMON = "it has no version of TLS or cipher in common with this machine"
CLOSED = "the server closed the connection without an answer{closed}"
HALF = (b"Content-Length: 9\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n5\r\nha")


@pytest.mark.parametrize(
    ("scheme", "served", "tls", "says"),
    [
        ("https", lambda: Saying(HTTP), trusting(), NOT_TLS),
        ("https", lambda: Saying(b"SSH-2.0-OpenSSH_9.2\r\n", first=True), trusting(), NOT_TLS),
        ("https", lambda: Saying(b"-ERR unknown command\r\n"), trusting(), NOT_TLS),
        ("https", lambda: Saying(b""), trusting(), NO_TLS_PERHAPS),
        ("https", lambda: Saying(b"", reset=True), trusting(), NO_TLS_PERHAPS),
        ("http", serving(), trusting(), CLOSED),
        ("http", lambda: Saying(b""), trusting(), CLOSED),
        *(
            ("http", saying(b"HTTP/1.1 200 OK\r\n" + half), trusting(), "the answer broke off")
            for half in HALF
        ),
        (
            "https",
            serving(),
            trusting(None),
            "its certificate is signed by a CA that is not trusted here; give that CA with {ca}",
        ),
        (
            "https",
            serving(),
            trusting(STRANGER),
            "its certificate is signed by a CA that is not trusted here; give that CA with {ca}",
        ),
        (
            "https",
            serving(days=PAST),
            trusting(),
            "its certificate has expired; renew it, or have the server load the renewed one",
        ),
        (
            "https",
            serving(days=FUTURE),
            trusting(),
            "its certificate is not valid yet; compare the clocks of both machines",
        ),
        (
            "https",
            serving("other.example"),
            trusting(),
            "its certificate is for another name: Hostname mismatch, certificate is not valid for "
            "'localhost'.",
        ),
        ("https", strict(ssl.TLSVersion.TLSv1_3), trusting(), WANTS_CERTIFICATE),
        (
            "https",
            strict(ssl.TLSVersion.TLSv1_2),
            trusting(),
            f"{WANTS_CERTIFICATE}; or {NOTHING_IN_COMMON}",
        ),
        *(
            (
                "https",
                strict(version),
                trusting(certificate=certificate),
                sentence,
            )
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
            for certificate, sentence in (
                (
                    issued(authority=STRANGER),
                    "it does not know the CA of the client certificate; give one that it trusts",
                ),
                (
                    issued(days=PAST),
                    "it says that the client certificate has expired",
                ),
            )
        ),
        ("https", old(), trusting(least=ssl.TLSVersion.TLSv1_3), NOTHING_IN_COMMON),
    ],
)
async def test_each_fault_is_one_sentence_whichever_library_connects(
    scheme: str, served: ssl.SSLContext | Callable[[], Saying], tls: ssl.SSLContext, says: str
) -> None:
    async with port(served, heard=scheme == "https") as there:
        url = f"{scheme}://{there}/mcp"
        for ask in (by_aiohttp, by_httpx):
            error = await ask(url, tls)
            for remedies in (OF_PROBE, OF_STORE, OF_CLIENT):
                assert connection_sentence(error, remedies) == says.format_map(remedies.words)


async def test_only_a_refused_handshake_is_sent_to_another_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the server took in before TLS broke is sent to nobody else, as the server may have
    processed it."""
    taken = blocking_server(serving(), answer=HTTP)
    refused = blocking_server(strict(ssl.TLSVersion.TLSv1_3))
    monkeypatch.setattr(httpx2, "create_ssl_context", trusting)
    for server, by_client, by_gateway in (
        (taken, httpx2.ReadError, ProblemError),
        (refused, httpx2.ConnectError, ReplicaUnreachableError),
    ):
        http = SharedHttp(connect_timeout=5, guard=None)
        async with server as url, aiohttp.ClientSession() as session:
            with pytest.raises(httpx2.TransportError) as told:
                await http.facade.post(url, content=b"{}")
            forwarded = ForwardedRequest(make_mocked_request("POST", "/"), 5)
            tls = ServerTls(trusting)
            with pytest.raises(by_gateway):
                to = record("a", endpoint={"url": url})
                await send_request(session, to, forwarded, CIMultiDict(), 5, tls)
        await http.close()
        assert type(told.value) is by_client


@pytest.mark.parametrize("ask", [by_aiohttp, by_httpx])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9", "connection refused; is it running, and is the address right?"),
        ("http://localhost:9", "connection refused; is it running, and is the address right?"),
        ("https://nowhere.invalid", "the host name does not resolve"),
    ],
)
async def test_nobody_there(
    ask: Callable[[str, ssl.SSLContext], AsyncIterator[BaseException]], url: str, says: str
) -> None:
    assert connection_sentence(await ask(url, trusting()), OF_STORE) == says  # type: ignore[misc]


async def test_what_is_not_http_is_said_to_be_none() -> None:
    async with port(lambda: Saying(b"SSH-2.0-{OpenSSH}\r\n", first=True), heard=True) as there:
        error = await by_aiohttp(f"http://{there}", trusting())
    assert connection_sentence(error, OF_STORE) == "answered, but not HTTP"


def test_what_nobody_foresaw_is_one_line_too() -> None:
    words = Remedies(ca="CA", plain="http://", certificate="none")
    for error in (OSError(5, "Input/output error"), RuntimeError("a\nb {c}"), ssl.SSLError()):
        assert connection_sentence(error, words) == "the connection broke"
    assert (
        connection_sentence(OSError("it is {forbidden}\nhere"), words) == "it is {forbidden} here"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<center>The plain HTTP request was sent to HTTPS port</center>",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        b"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
    ],
)
def test_servers_say_that_they_want_tls(body: bytes) -> None:
    assert wants_tls(400, body)
    assert not wants_tls(200, body)
    assert not wants_tls(400, b"bad request")
