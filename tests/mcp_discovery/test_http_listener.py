"""A listener that strangers cannot fill: over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from mcp_discovery import http_listener as module
from mcp_discovery.connection_room import Room
from mcp_discovery.http_listener import Connection, http_listener, sign
from mcp_discovery.listener_tls import ListenerTLS
from mcp_discovery.listening import listeners
from tests.mcp_discovery.raw_http import answer, wire
from tests.stores.tls import Tls
from tests.stores.waiting import until_holds

GET = "GET / HTTP/1.1\nHost: localhost\nConnection: close"


@asynccontextmanager
async def listening(
    room: Room | None = None, *, tls: ListenerTLS | None = None, head_timeout: float = 0.4
) -> AsyncIterator[str]:
    """Answers everything with ``hello``, after a while where the path is ``/slow``."""

    async def hello(request: web.Request) -> web.Response:
        connection = request.protocol
        assert isinstance(connection, Connection)
        if request.path == "/slow":
            await asyncio.sleep(2 * head_timeout)
        body = await request.read()
        response = web.Response(body=b"hello " + body + (connection.place.over or "").encode())
        sign(request, response)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hello)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    sockets = listeners("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    try:
        async with http_listener(
            runner, sockets, room=room or Room(100, 100), tls=tls, head_timeout=head_timeout
        ):
            yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100, b"\r\n\r\n"],
    ids=["nothing", "method", "fields", "empty-lines"],
)
async def test_a_head_that_is_not_whole_in_time_ends_the_connection(begin: bytes) -> None:
    async with listening() as url, wire(url) as connection:
        began = asyncio.get_running_loop().time()
        connection.send(begin)
        assert await connection.rest() == b""
        assert 0.3 < asyncio.get_running_loop().time() - began < 10


async def test_bytes_now_and_then_do_not_keep_a_head_open() -> None:
    async with listening() as url, wire(url) as connection:
        ended = asyncio.create_task(connection.rest())
        connection.send(b"GET / HTTP/1.1\r\n")
        while not ended.done():
            connection.send(b"X: y\r\n")
            await asyncio.wait([ended], timeout=0.05)
        assert await ended == b""


async def test_a_second_head_has_to_be_whole_as_well() -> None:
    async with listening() as url, wire(url) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await connection.head()
        connection.send(b"GET / HT")
        assert await connection.rest() == b"hello "


@pytest.mark.slow
async def test_what_takes_longer_than_a_head_is_not_cut() -> None:
    """A slow response, a slow body, and a connection that waits for its next request."""
    async with listening() as url, wire(url) as connection:
        connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await connection.head()
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            connection.send(b"x")
            await asyncio.sleep(0.06)
        assert (await connection.head()).count(b"200 OK") == 1
        await asyncio.sleep(0.6)
        assert b"hello" in await connection.ask(GET)


@pytest.mark.parametrize(
    "request_",
    [
        "GET / HTTP/1.1\nAuthorization: Bearer s3cr\x01et\nHost: x",
        "s3cret-not-http",
        "GET /s3cret HTTP/7.9\nHost: x",
        "POST / HTTP/1.1\nHost: x\nContent-Length: s3cret",
        "GET / HTTP/1.1\nHost: x\nX-A: " + "s3cret" * 20_000,
        "POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\ns3cret",
    ],
)
async def test_what_is_no_http_is_one_line_without_its_bytes(
    request_: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with listening() as url:
        status, found = await answer(url, request_)
    assert status == 400
    assert b"s3cr" not in found
    assert b"\r\nServer: mcp-discovery\r\n" in found
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in found
    said = [each for each in caplog.records if each.name != "asyncio"]
    assert "s3cr" not in caplog.text
    assert len(said) <= 1 and not any(each.exc_info for each in said)


async def test_no_versions_are_told() -> None:
    async with listening() as url:
        _, found = await answer(url, GET)
        assert b"Server: mcp-discovery\r\n" in found and b"aiohttp" not in found


@pytest.mark.slow
async def test_many_half_heads_keep_nobody_out() -> None:
    room = Room(20, 20)
    async with listening(room, head_timeout=2) as url, AsyncExitStack() as stack:
        for _ in range(200):
            held = await stack.enter_async_context(wire(url))
            held.send(b"GET / HT")
        assert room.taken == 20
        _, found = await answer(url, GET)
        assert b"20 connections are open here" in found, "the one that came last is answered"
        await until_holds(lambda: room.taken == 0, timeout=20, what="half heads ending")
        _, found = await answer(url, GET)
        assert found.endswith(b"hello ")


async def test_tls_handshakes_have_a_place_and_an_end(tmp_path: Path) -> None:
    mine = Tls(tmp_path)
    tls = ListenerTLS(str(mine.server.cert_file), str(mine.server.key_file))
    room = Room(20, 20)
    async with listening(room, tls=tls, head_timeout=1) as url, AsyncExitStack() as stack:
        for number in range(100):
            held = await stack.enter_async_context(wire(url))
            held.send(b"\x16\x03\x01\x02\x00\x01" if number % 2 else b"")
        await until_holds(lambda: room.taken == 20, timeout=10, what="all places being taken")
        async with wire(url, mine.client_context()) as connection:
            assert b"20 connections are open here" in await connection.ask(GET)
        await until_holds(lambda: room.taken == 0, timeout=20, what="handshakes ending")
        async with wire(url, mine.client_context()) as connection:
            assert (await connection.ask(GET)).endswith(b"hello ")


async def test_without_open_files_it_waits_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system says once that there are none."""
    monkeypatch.setattr(module, "_PAUSE", 0.2)
    before: Any = socket.socket.accept
    refused: list[int] = []

    def accept(listener: Any) -> Any:
        if not refused:
            refused.append(1)
            raise OSError(24, "Too many open files")
        return before(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    async with listening() as url:
        _, found = await answer(url, GET)
    assert found.endswith(b"hello ")
    assert "no connection can be accepted for now: Too many open files" in caplog.text


def test_uvloop_ends_connections_as_well() -> None:
    """Its transports are no subclasses of asyncio's, and it is what a facade runs in."""

    async def held() -> None:
        room = Room(5, 5)
        async with listening(room) as url, AsyncExitStack() as stack:
            for _ in range(100):
                connection = await stack.enter_async_context(wire(url))
                connection.send(b"GET / HT")
            assert await connection.rest() == b""
            await until_holds(lambda: room.taken == 0, timeout=10, what="half heads ending")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(held())
