"""Clients that leave in the middle, or send slowly, cost the facade nothing that lasts."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from tests.facade.harness import Client, leased, served
from tests.facade.servers.test_events import readers
from tests.stores.waiting import until

DRIP = 0.1
"""Seconds between two bytes of a client's body: the pace is the fault that is tested."""


@contextmanager
def connected(ask: Client) -> Iterator[socket.socket]:
    """A bare connection to the facade, with a small buffer."""
    host, port = ask.url.removeprefix("http://").split(":")
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        it.connect((host, int(port)))
        yield it


def handlers() -> int:
    """How many tasks of this process serve a connection."""
    return sum("RequestHandler.start" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def until_handlers(most: int) -> None:
    async def so_few() -> bool:
        gc.collect()
        return handlers() <= most

    await until(so_few, timeout=5, what=f"at most {most} connections being served")


@pytest.mark.slow
async def test_a_client_that_leaves_mid_answer(ask: Client) -> None:
    large = {f"k{n}": "v" * 4000 for n in range(50)}
    for number in range(20):  # 4 MB in all: more than the connection takes at once
        body = leased(f"n-{number}", metadata=large)
        assert (await ask("POST", "/servers", body)).status == 201
    before = handlers()
    for path in (b"/servers", b"/servers?explain=true", b"/events", b"/registry/export"):
        for _ in range(5):
            with connected(ask) as it:
                it.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await asyncio.to_thread(it.recv, 1000)
                # A reset, as of a client that was killed, rather than a polite end.
                it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await until_handlers(before)
    assert await readers(ask) == 0
    assert len((await ask("GET", "/servers")).json["servers"]) == 20


async def test_a_client_that_leaves_mid_body_changes_nothing(ask: Client) -> None:
    before = handlers()
    body = orjson.dumps(leased("a"))
    for _ in range(10):
        with connected(ask) as it:
            head = b"POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            it.sendall(head % len(body) + body[:20])
    await until_handlers(before)
    assert (await ask("GET", "/servers/a")).status == 404
    # Nothing is locked: the same id can be posted.
    assert (await ask("POST", "/servers", leased("a"))).status == 201


@pytest.mark.slow
async def test_a_slow_body_is_not_waited_for_for_ever_and_holds_nobody_up() -> None:
    async with served(body_timeout=0.5) as ask:
        before = handlers()
        body = orjson.dumps(leased("a"))
        with connected(ask) as it:
            it.setblocking(False)
            head = b"POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            it.sendall(head % len(body))
            loop = asyncio.get_running_loop()
            dripping = asyncio.create_task(_drip(it, body))
            # The same id is posted by another in the meantime.
            assert (await ask("POST", "/servers", leased("a"))).status == 201
            async with asyncio.timeout(5):
                answer = await loop.sock_recv(it, 65536)
            assert answer.startswith(b"HTTP/1.1 408 ")
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
        await until_handlers(before)


async def _drip(it: socket.socket, body: bytes) -> None:
    """Sends a byte now and then: the pace is the fault that is tested."""
    for position in range(len(body)):
        await asyncio.get_running_loop().sock_sendall(it, body[position : position + 1])
        await asyncio.sleep(DRIP)
