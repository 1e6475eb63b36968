"""Certificates: whose CA is trusted, for which name, and what is said of one that is refused."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import trustme

from mcp_discovery.probe import McpProbe, ServerTls, UnreachableError, probe_health_url
from tests.servers.recording import RecordingServer, recording

CA = trustme.CA()
NOW = datetime.now(UTC)

#: Asks a server, by a host's name where that is given, and raises what a probe raises.
Ask = Callable[..., Awaitable[None]]


def serving(*names: str, **dates: datetime) -> ssl.SSLContext:
    """A server's side of TLS with a certificate for ``names``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(
        *names, not_before=dates.get("not_before"), not_after=dates.get("not_after")
    ).configure_cert(context)
    return context


def trusting(authority: trustme.CA = CA, name: str | None = None) -> ServerTls:
    """What verifies against ``authority`` alone."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return ServerTls(lambda: context, name)


@asynccontextmanager
async def asking(
    kind: str, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[RecordingServer, Ask]]:
    """A server that speaks ``kind``, and what asks it over that."""
    era = "sse" if kind == "sse" else "both"
    async with recording(tls=tls, era=era) as server, aiohttp.ClientSession() as http:

        async def ask(terms: ServerTls, host: str = "localhost") -> None:
            scheme = "wss" if kind == "websocket" else "https"
            url = f"{scheme}://{host}:{server.port}/mcp"
            if kind == "health":
                await probe_health_url(http, url.replace("/mcp", "/health"), 5, tls=terms)
                return
            probe = McpProbe(url, transport=kind, session=http, tls=terms)
            try:
                await probe.ping(5)
            finally:
                await probe.close()

        yield server, ask


KINDS = pytest.mark.parametrize("kind", ["streamable-http", "websocket", "sse", "health"])


@KINDS
async def test_a_private_ca_and_another_name(kind: str) -> None:
    async with asking(kind, serving("server.internal", "*.example.org")) as (server, ask):
        await ask(trusting(name="server.internal"))
        await ask(trusting(name="a.example.org"), "127.0.0.1")
        server.targets.clear()
        with pytest.raises(UnreachableError) as caught:
            await ask(trusting())
        assert str(caught.value) == (
            "its certificate is for server.internal, *.example.org, not for localhost; write one "
            "of these in its URL, or give it with --server-name"
        )
        with pytest.raises(UnreachableError, match=r"\*\.example\.org, not for else\.where"):
            await ask(trusting(name="else.where"), "127.0.0.1")
        assert server.targets == []  # nothing was sent to a server that is not proven


@KINDS
async def test_an_unknown_ca(kind: str) -> None:
    async with asking(kind, serving("localhost")) as (server, ask):
        for terms in (ServerTls(), trusting(trustme.CA())):
            with pytest.raises(UnreachableError, match="not trusted here; give that CA with"):
                await ask(terms)
        assert server.targets == []


@KINDS
async def test_a_certificate_out_of_its_time(kind: str) -> None:
    past = {"not_before": NOW - timedelta(days=2), "not_after": NOW - timedelta(days=1)}
    future = {"not_before": NOW + timedelta(days=1), "not_after": NOW + timedelta(days=2)}
    for dates, says in ((past, "has expired"), (future, "is not valid yet")):
        async with asking(kind, serving("localhost", **dates)) as (_, ask):
            with pytest.raises(UnreachableError, match=says):
                await ask(trusting())


@KINDS
async def test_a_self_signed_certificate(kind: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with CA.cert_pem.tempfile() as certificate, CA.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    async with asking(kind, context) as (_, ask):
        with pytest.raises(UnreachableError, match="is self-signed; give it with --server-ca"):
            await ask(ServerTls())


@KINDS
async def test_plain_http_where_https_is_asked_for(kind: str) -> None:
    async with asking(kind, None) as (_, ask):
        with pytest.raises(UnreachableError, match="does not speak TLS there; write http://"):
            await ask(ServerTls())


@asynccontextmanager
async def blocking_server(context: ssl.SSLContext, answer: bytes = b"") -> AsyncIterator[str]:
    """A server whose refusals are heard: asyncio's closes the connection without its alert. A
    request that it takes is answered with ``answer``, which is not encrypted."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.settimeout(1)
                secure = context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
                with secure:
                    with suppress(OSError):
                        secure.do_handshake()
                        if answer and secure.recv(65536):
                            socket.socket.sendall(secure, answer)
                            continue
                    with suppress(OSError):
                        while socket.socket.recv(secure, 65536):
                            pass  # a reset would overtake the alert

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://localhost:{listening.getsockname()[1]}/mcp"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


async def test_a_server_that_wants_a_client_certificate() -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = serving("localhost")
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = version
        async with blocking_server(context) as url, aiohttp.ClientSession() as http:
            with pytest.raises(UnreachableError, match="asks for a client certificate"):
                await McpProbe(url, session=http, tls=trusting()).ping(5)


async def test_no_version_in_common() -> None:
    context = serving("localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    terms = trusting()
    strict = terms.context()
    assert strict is not None
    strict.minimum_version = ssl.TLSVersion.TLSv1_3
    async with blocking_server(context) as url, aiohttp.ClientSession() as http:
        with pytest.raises(UnreachableError, match="no version of TLS or cipher in common"):
            await McpProbe(url, session=http, tls=terms).ping(5)
