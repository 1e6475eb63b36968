"""What passes the gateway, how it streams, and what becomes of connections that break."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import jwt
import pytest
from aiohttp import web

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.tokens import new_token
from mcp_discovery.facade.gateway.upstream import require_passable
from mcp_discovery.instance import HOLDER_HEADER
from tests.facade.access.issuer import private_key, public_jwk
from tests.facade.access.tokens import bearer, guarded
from tests.facade.gateway.conftest import list_it
from tests.facade.gateway.plain import FaultyServer, faulty
from tests.facade.harness import Client, leased, served
from tests.stores.waiting import bounded, until

STILL = 0.3
"""Seconds without a written byte after which nothing moves: a chunk takes some milliseconds."""
PATH = "/gateway/gate/mcp"
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "x"}}


async def test_headers_on_their_way(gate: Client, server: FaultyServer) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {
            "Set-Cookie": "a=b",
            "Connection": "X-Hop",
            "X-Hop": "1",
            "X-Own": "2",
            "Access-Control-Allow-Origin": "*",
            "Clear-Site-Data": '"*"',
            "Strict-Transport-Security": "max-age=99999999",
            "Alt-Svc": 'h3="evil.example:443"',
            "Content-Security-Policy": "default-src *",
            "X-Powered-By": "1.2.3",
        }
        return web.Response(text="{}", headers=headers, content_type="application/json")

    server.handler = answer
    sent = {
        "Authorization": "Bearer abc",
        "Cookie": "c=d",
        "Connection": "keep-alive, X-Mine",
        "X-Mine": "1",
        "X-Forwarded-For": "10.1.1.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-User": "root",
        "X_Forwarded_For": "10.1.1.2",
        "Forwarded": "for=10.1.1.3",
        "X-Real-IP": "10.1.1.4",
        "True-Client-IP": "10.1.1.5",
        "Proxy-Authorization": "Basic abcd",
        "Proxy-Other": "1",
        "Mcp-Method": "tools/call",
    }
    reply = await gate("POST", PATH, CALL, headers=sent)
    got = server.requests[0].headers
    assert got["Host"] == server.url.split("/")[2]
    assert got["Mcp-Method"] == "tools/call"
    assert got["Via"] == "1.1 mcp-discovery"
    assert got["X-Forwarded-For"] == "127.0.0.1"
    assert got["X-Forwarded-Proto"] == "http"
    assert "10.1.1" not in str(got)
    assert got["X-Forwarded-Host"] == gate.url.removeprefix("http://")
    assert got["X-Request-Id"] == reply.headers["X-Request-Id"]
    for name in (
        "Authorization",
        "Cookie",
        "Proxy-Other",
        "X-Mine",
        "Proxy-Authorization",
        "X-Discovery-Probe",
        "X-Forwarded-User",
    ):
        assert name not in got, name
    assert reply.headers["X-Own"] == "2"
    # No page of a server's making runs with the facade's origin, nor changes that.
    assert reply.headers.getall("Content-Security-Policy") == ["default-src 'none'; sandbox"]
    of_origin = ("Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "X-Powered-By")
    for name in ("Set-Cookie", "X-Hop", "Access-Control-Allow-Origin", *of_origin):
        assert name not in reply.headers, name


async def test_a_trusted_proxys_client_is_told_to_the_server() -> None:
    async with served(gateway=True, trusted_proxies=("127.0.0.0/8",)) as gate, faulty() as server:
        await list_it(gate, "a", server.url)
        sent = {
            "X-Forwarded-For": "192.0.2.9, 192.0.2.1",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "mcp.example.com",
        }
        await gate("POST", PATH, CALL, headers=sent)
        got = server.requests[0].headers
    # The first address is the client's own word.
    assert got["X-Forwarded-For"] == "192.0.2.1, 127.0.0.1"
    assert got["X-Forwarded-Proto"] == "https"
    assert got["X-Forwarded-Host"] == "mcp.example.com"


async def test_authorization_is_passed_on_if_the_operator_says_so() -> None:
    async def wants(request: web.Request) -> web.Response:
        challenge = {"WWW-Authenticate": 'Bearer realm="x"'}
        return web.Response(status=401, body=b"{}", headers=challenge)

    async with faulty() as server:
        server.handler = wants
        credential = {"Authorization": "Bearer for-the-server"}
        for passed in (True, False):
            async with served(gateway=True, gateway_pass_authorization=passed) as gate:
                await list_it(gate, "a", server.url)
                reply = await gate("POST", PATH, CALL, headers=credential)
            got = server.requests.pop().headers.get("Authorization")
            if passed:
                assert got == credential["Authorization"]
                assert (reply.status, reply.body) == (401, b"{}")
                assert "WWW-Authenticate" in reply.headers
            else:
                assert got is None
                assert reply.status == 502
                assert "--gateway-pass-authorization" in reply.json["error"]["message"]
                assert "WWW-Authenticate" not in reply.headers


async def test_headers_that_mean_something_to_one_server_alone_stay_here(
    gate: Client, server: FaultyServer
) -> None:
    """Whoever is registered under a name would get the credentials of all who call it, and could be
    told that somebody is somebody else."""
    unknown = (
        *("X-API-Key", "X_Auth_Token", "Ocp-Apim-Subscription-Key", "X-Functions-Key", "DPoP"),
        *("Private-Token", "X-JWT-Assertion", "Cf-Access-Jwt-Assertion", "X-Session-Id", "Cookie2"),
        *("Remote-User", "X-Auth-Request-User", "X-SSL-Client-Cert", "Client-Cert"),
        *(
            "X-Original-URL",
            "X-HTTP-Method-Override",
            "X-Envoy-External-Address",
            "Mcp-Token",
            "Content_Type",
        ),
    )
    known = {
        "Idempotency-Key": "mine",
        "Mcp-Param-Api-Key": "an argument",
        "Last-Event-ID": "7",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "MCP-Protocol-Version": "2025-11-25",
        "Accept-Language": "ja",
    }
    await gate("POST", PATH, CALL, headers=dict.fromkeys(unknown, "for-another") | known)
    got = server.requests[0].headers
    assert {name: got.get(name) for name in known} == known
    assert [name for name in unknown if name in got] == []


async def test_an_operator_names_further_headers() -> None:
    own = new_token("somebody")
    async with faulty() as server:
        async with served(gateway=True, gateway_pass_headers=("X-Tenant", "x-api-key")) as gate:
            await list_it(gate, "a", server.url)
            sent = {"X-TENANT": "a", "X-Api-Key": f"Token {own}", "X-Other": "b"}
            await gate("POST", PATH, CALL, headers=sent)
        got = server.requests[0].headers
        assert got["X-Tenant"] == "a"
        # A token of the facade's own goes nowhere, whatever the header.
        assert {"X-Api-Key", "X-Other"}.isdisjoint(got)


def test_some_headers_are_no_operators_to_name() -> None:
    for name in (
        *("Cookie", "host", "Forwarded", "X-Forwarded-User", "X_Forwarded_For", "Authorization"),
        *("MCP-Discovery-Holder", "Mcp-Session-Id", "Transfer-Encoding", "Proxy-Authorization"),
        *("a b", "", "x:y", "ü"),
    ):
        with pytest.raises(InvalidInputError, match="--gateway-pass-header"):
            require_passable(["X-Tenant", name])
    assert require_passable(["X-Tenant"]) == {"x-tenant"}


async def test_what_is_good_for_more_than_the_server_is_for_no_server(tmp_path: Path) -> None:
    """Whoever may register something new could act for all who call it."""
    public = "https://mcp.example.com"
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [public_jwk("RSA", "theirs")]}))
    issuer = {"issuer": "https://issuer.example.com", "jwks_file": str(keys)}
    now = int(time.time())
    claims = {"iss": issuer["issuer"], "sub": "ada", "roles": ["operator"], "exp": now + 300}

    def of(audience: str) -> str:
        key = private_key("RSA", "theirs")
        return jwt.encode(claims | {"aud": audience}, key, "RS256", headers={"kid": "theirs"})

    async with (
        faulty() as server,
        guarded(
            tmp_path,
            {"issuers": [issuer]},
            gateway=True,
            gateway_pass_authorization=True,
            public_url=public,
        ) as gate,
    ):
        body = leased("a", name="gate", url=server.url)
        await gate("POST", "/servers", body, headers=bearer("operator"))
        for credential, passed in (
            (bearer("operator"), False),
            ({"Authorization": f"Bearer {of(public)}"}, False),
            ({"Authorization": f"Bearer {of(public + PATH)}"}, True),
        ):
            sent = credential | {HOLDER_HEADER: "a-secret"}
            assert (await gate("POST", PATH, CALL, headers=sent)).status == 200
            got = server.requests.pop().headers
            assert ("Authorization" in got) is passed
            assert HOLDER_HEADER not in got


@pytest.mark.parametrize("status", [200, 202, 204, 400, 403, 404, 405, 500])
async def test_statuses_and_bodies_pass_as_they_are(
    gate: Client, server: FaultyServer, status: int
) -> None:
    body = b"" if status in (202, 204) else b'{"its": "own"}'

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    server.handler = answer
    for method in ("POST", "GET", "DELETE"):
        reply = await gate(method, PATH)
        assert (reply.status, reply.body) == (status, body)


async def test_the_head_of_a_stream_comes_before_its_first_event(
    gate: Client, server: FaultyServer
) -> None:
    go_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in (b"data: 1\n\n", b"data: 2\n\n"):
            await go_on.wait()
            go_on.clear()
            await response.write(part)
        return response

    server.handler = answer
    async with asyncio.timeout(5), gate.session.get(gate.url + PATH) as reply:
        assert reply.content_type == "text/event-stream"
        for part in (b"data: 1\n\n", b"data: 2\n\n"):
            go_on.set()
            assert await reply.content.readany() == part
        assert await reply.content.readany() == b""


async def test_a_large_body_goes_on_before_it_is_whole(gate: Client, server: FaultyServer) -> None:
    arrived = asyncio.Event()
    part = bytes(range(256)) * 1024

    async def answer(request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
            if size >= len(part):
                arrived.set()
        return web.Response(text=f"{size} {digest.hexdigest()}")

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield part
        await bounded(arrived.wait(), 5)
        for _ in range(60):
            yield part

    server.handler = answer
    async with gate.session.post(
        gate.url + PATH, data=body(), headers={"Content-Type": "application/json"}
    ) as reply:
        told = await reply.text()
    assert told == f"{64 * len(part)} {hashlib.sha256(64 * part).hexdigest()}"


async def test_a_slow_reader_holds_the_server_back(gate: Client, server: FaultyServer) -> None:
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1024):
            await response.write(bytes(2**18))
            written += 2**18
        return response

    server.handler = answer
    async with gate.session.get(gate.url + PATH, read_bufsize=2**14) as reply:
        await reply.content.readany()
        before = -1
        while before != written:  # until nothing moves any more
            before = written
            await asyncio.sleep(STILL)
        # What the kernel's buffers of three connections hold, and no body in any process.
        assert written < 48 * 2**20


async def test_an_answer_that_breaks_off_is_no_whole_one(
    gate: Client, server: FaultyServer
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    server.handler = answer
    async with gate.session.post(gate.url + PATH, json=CALL) as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
    # HTTP/1.0 has no chunks: there it must be a reset.
    host, _, port = gate.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
    with pytest.raises(ConnectionResetError):
        await bounded(reader.read(), 5)
    writer.close()


async def test_a_client_that_leaves_aborts_the_call_at_once(
    gate: Client, server: FaultyServer
) -> None:
    asked = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        asked.set()
        await asyncio.Event().wait()
        return response

    for handler in (silent, stream):
        server.handler = handler
        asked.clear()
        server.left.clear()
        async with aiohttp.ClientSession() as session:
            call = asyncio.create_task(session.post(gate.url + PATH, json=CALL))
            await bounded(asked.wait(), 5)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        left = time.monotonic()
        await bounded(server.left.wait(), 5)
        assert time.monotonic() - left < 1.0


async def test_a_client_that_leaves_while_it_sends(
    gate: Client, server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = gate.url.removeprefix("http://").partition(":")

    async def swallow(request: web.Request) -> web.Response:
        asked.set()
        await request.read()
        return web.Response()

    server.handler = swallow
    kind = "Content-Type: application/json\r\n"
    for size, begins in ((10, False), (2**18, True)):
        asked = asyncio.Event()
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: 10000000\r\n\r\n"
        writer.write(head.encode() + b"x" * size)
        await writer.drain()
        if begins:
            await bounded(asked.wait(), 5)
        writer.close()
        await writer.wait_closed()

        async def idle() -> bool:
            return b"mcp_discovery_gateway_requests 0.0" in (await gate("GET", "/metrics")).body

        await until(idle, timeout=5, what="the gateway being idle")
    assert "in a way it must not" not in caplog.text


async def test_bytes_that_are_no_text_in_headers(gate: Client, server: FaultyServer) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(
            b"HTTP/1.1 200 F\xff\r\nX-Odd: \xff\r\nX-Fine: \xc3\xbc\r\nContent-Length: 2\r\n\r\n{}"
        )
        request.transport.close()
        return web.Response()

    server.handler = answer
    host, _, port = gate.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nX-Odd: ".encode() + b"\xff\r\n\r\n")
    told = await bounded(reader.readuntil(b"{}"), 5)
    writer.close()
    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Fine: \xc3\xbc\r\n" in told
    assert b"X-Odd" not in told
    assert "X-Odd" not in server.requests[0].headers


async def test_connections_to_servers_are_kept(gate: Client, server: FaultyServer) -> None:
    for size in (10, 200_000):
        for _ in range(5):
            assert (await gate("POST", PATH, b"x" * size)).status == 200
    assert len(server.requests) == 10
    assert len(server.peers) == 1


async def test_a_redirect_within_the_origin_is_followed(gate: Client, server: FaultyServer) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/mcp":
            raise web.HTTPTemporaryRedirect("/mcp/")
        return web.Response(body=await request.read())

    server.handler = answer
    reply = await gate("POST", PATH, CALL)
    assert (reply.status, reply.json) == (200, CALL)

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/mcp")

    server.handler = elsewhere
    reply = await gate("POST", PATH, CALL)
    assert reply.status == 502
    assert "redirects its MCP endpoint to another address" in reply.json["error"]["message"]


async def test_what_came_of_calls_counts_towards_the_figures(
    gate: Client, server: FaultyServer
) -> None:
    await gate("POST", PATH, CALL)

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500)

    server.handler = fail
    await gate("POST", PATH, CALL)
    await gate("GET", PATH)

    figures = (await gate("GET", "/connections/a")).json["metrics"]
    assert figures["totalRequests"] == 2
    assert figures["errorRate"] == 0.5


async def test_leaving_ends_streams_at_once() -> None:
    async with faulty() as server:
        asked = asyncio.Event()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            asked.set()
            await asyncio.Event().wait()
            return response

        server.handler = stream
        async with aiohttp.ClientSession() as session:
            async with served(gateway=True, shutdown_timeout=30.0) as gate:
                await list_it(gate, "a", server.url)
                reply = await session.get(gate.url + PATH)
                await bounded(asked.wait(), 5)
                began = time.monotonic()
            assert time.monotonic() - began < 5
            with pytest.raises(aiohttp.ClientPayloadError):
                await reply.read()
