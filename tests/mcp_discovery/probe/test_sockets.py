"""What goes wrong below HTTP, and the idle connection that dies at the moment of its reuse."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme
from aiohttp import web

from mcp_discovery.probe import BadAnswerError, McpProbe, ProbeError, UnreachableError
from tests.mcp_discovery.probe.conftest import MakeProbe
from tests.servers.odd import OddServer, Options
from tests.servers.process import odd


@asynccontextmanager
async def raw_server(*replies: bytes) -> AsyncIterator[str]:
    """Give each connection the next of ``replies`` (the last one again) and close it.

    ``"ID"`` stands for the request's id, which has few digits.
    """
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = re.search(rb'"id":(\d+)', await reader.read(65_536))
        reply = left.pop(0) if len(left) > 1 else left[0]
        writer.write(reply.replace(b'"ID"', asked[1].rjust(4) if asked else b'"ID"'))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


async def test_not_http(probe_of: MakeProbe) -> None:
    async with raw_server(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        with pytest.raises(BadAnswerError, match=r"^answered, but not HTTP$"):
            await probe_of(url).connect(5)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"Content-Type: nonsense;;=\r\nContent-Length: 4\r\n\r\nabcd",
        b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"Content-Length: -4\r\n\r\nabcd",
        b'Content-Type: text/event-stream\r\n\r\ndata: {"jsonrpc":\n\n',
    ],
)
async def test_broken_http(head: bytes, probe_of: MakeProbe) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\n" + head) as url:
        with pytest.raises(ProbeError):
            await probe_of(url).connect(5)


@pytest.mark.parametrize("location", ["", "http://[", "//elsewhere/", "https://127.0.0.1/", "\\"])
async def test_broken_redirect(location: str, probe_of: MakeProbe) -> None:
    reply = f"HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(reply.encode()) as url:
        with pytest.raises(BadAnswerError, match="redirects"):
            await probe_of(url).connect(5)


async def test_answer_breaks_off(probe_of: MakeProbe) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{") as url:
        with pytest.raises(UnreachableError, match=r"^the answer broke off$"):
            await probe_of(url).connect(5)


async def test_connection_that_closes_at_its_reuse_is_replaced(probe_of: MakeProbe) -> None:
    body = (
        b'{"jsonrpc":"2.0","id":"ID","result":'
        b'{"supportedVersions":["2026-07-28"],"capabilities":{}}}'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with raw_server(b"", (head % len(body)) + body) as url:
        probe = probe_of(url)
        await probe.connect(5)
        assert probe.era == "modern"


async def test_server_that_closes_every_connection_without_saying_so(probe_of: MakeProbe) -> None:
    body = (
        b'{"jsonrpc":"2.0","id":"ID","result":'
        b'{"supportedVersions":["2026-07-28"],"capabilities":{"logging":{}}}}'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with raw_server((head % len(body)) + body) as url:
        probe = probe_of(url)
        for _ in range(20):
            await probe.ping(5)


async def test_localhost_by_name(probe_of: MakeProbe) -> None:
    async with odd() as server:
        probe = probe_of(f"http://localhost:{server.port}/mcp")
        await probe.ping(5)
        await server.kill()
        with pytest.raises(UnreachableError, match=r"^connection refused$"):
            await probe.ping(5)


async def test_tls(http: aiohttp.ClientSession) -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    runner = web.AppRunner(OddServer(Options()).app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving)
        await site.start()
        port = runner.addresses[0][1]
        with pytest.raises(UnreachableError, match="a CA that is not trusted here"):
            await McpProbe(f"https://127.0.0.1:{port}", session=http).connect(5)
        with pytest.raises(UnreachableError, match="it speaks TLS there; write https://"):
            await McpProbe(f"http://127.0.0.1:{port}", session=http).connect(5)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with aiohttp.ClientSession(connector=connector) as session:
            assert await McpProbe(f"https://127.0.0.1:{port}", session=session).ping(5) < 5
    finally:
        await runner.cleanup()
