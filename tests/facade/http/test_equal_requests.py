"""Equal requests: each has a response of its own, and passes every middleware."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.access.list_parts import PARTS
from mcp_discovery.facade.servers.long_poll import POLLS, LongPolls
from tests.facade.harness import QUICK, Client, leased
from tests.seeds import seeded
from tests.stores.waiting import until

#: What is another's with every answer, or moves with the time.
_OWN = re.compile(
    rb'(?i)^(?:date|x-request-id|server-timing): [^\r]*\r\n|(?<="lastSeen":")[^"]*', re.M
)


@dataclass(frozen=True)
class Served:
    """A facade and a client of it."""

    polls: LongPolls
    ask: Client


@web.middleware
async def only_from_127_0_0_1(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Stands for all that decides who may ask."""
    if request.remote != "127.0.0.1":
        raise web.HTTPForbidden(text="not from there")
    return await handler(request)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with EmbeddedStore() as store:
        app = create_app(store, replace(QUICK))
        app.middlewares.insert(0, only_from_127_0_0_1)
        async with serving(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
            ask = Client(url, session)
            for id in ("a", "b"):
                assert (await ask("POST", "/servers", leased(id, tags=[id]))).status == 201
            yield Served(app[PARTS][POLLS], ask)


class Line:
    """One connection, on which bytes are sent as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)

    async def answer(self, *, to_head: bool = False) -> bytes:
        """The next whole answer; one to HEAD has no body."""
        async with asyncio.timeout(10):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            size = 0 if length is None or to_head else int(length[1])
            return head + await self._reader.readexactly(size)

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self._reader.read() == b""


@asynccontextmanager
async def line(served: Served, source: str = "127.0.0.1") -> AsyncIterator[Line]:
    """A connection from the address ``source``."""
    host, port = served.ask.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def get(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def body(answer: bytes) -> Any:
    return orjson.loads(answer.partition(b"\r\n\r\n")[2])


def ids(answer: bytes) -> list[str]:
    return [each["id"] for each in body(answer)["servers"]]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Accept-Encoding: gzip",),
        ("Origin: https://example.com",),
        ('If-None-Match: "other"',),
        ("If-None-Match: *",),
    ],
)
async def test_equal_requests_have_equal_answers_with_ids_of_their_own(
    served: Served, headers: tuple[str, ...]
) -> None:
    request = get("/servers?tags=a,b", *headers)
    async with line(served) as first, line(served) as second:
        first.send(request)
        whole = await first.answer()
        for each in (first, second, first):
            each.send(request)
            again = await each.answer()
            assert _OWN.sub(b"", again) == _OWN.sub(b"", whole)
    seen = {re.search(rb"(?i)x-request-id: (\S+)", each)[1] for each in (whole, again)}  # type: ignore[index]
    assert len(seen) == 2


async def test_a_change_is_in_the_very_next_answer(served: Served) -> None:
    request = get("/servers?status=all")
    async with line(served) as connection:
        for number in range(20):
            connection.send(request)
            await connection.answer()
            assert (await served.ask("POST", "/servers", leased(f"n-{number}"))).status == 201
            connection.send(request)
            assert f"n-{number}" in ids(await connection.answer())


@pytest.mark.slow
async def test_last_seen_moves_on(served: Served) -> None:
    """Whoever is heard of was so within its TTL: with a short one that is always just now."""
    quick = leased("quick", tags=["quick"], lease={"ttl": 2, "holder": "me"})
    assert (await served.ask("POST", "/servers", quick)).status == 201
    request = get("/servers?tags=quick")
    async with line(served) as connection:

        async def seen() -> str:
            await served.ask("POST", "/servers/quick/heartbeat", {"holder": "me"})
            for _ in range(5):
                connection.send(request)
                answer = await connection.answer()
            return str(body(answer)["servers"][0]["lastSeen"])

        first = await seen()

        async def moved() -> bool:
            return await seen() > first

        await until(moved, timeout=20, what="lastSeen moving on")


async def test_each_of_many_equal_requests_is_counted(served: Served) -> None:
    async with line(served) as connection:
        for _ in range(10):
            connection.send(get("/servers?tags=a"))
            await connection.answer()
    counted = (await served.ask("GET", "/metrics")).body.decode()
    found = re.search(
        r'mcp_discovery_requests_total\{method="GET",route="/servers",status="200"\} (\S+)', counted
    )
    assert found is not None and float(found[1]) == 10


async def test_an_id_that_is_given_comes_back(served: Served) -> None:
    async with line(served) as connection:
        for _ in range(3):
            connection.send(get("/servers", "X-Request-Id: mine"))
            assert b"X-Request-Id: mine\r\n" in await connection.answer()


async def test_a_connection_that_shall_close_is_closed(served: Served) -> None:
    for _ in range(3):
        async with line(served) as connection:
            connection.send(get("/servers", "Connection: close"))
            assert ids(await connection.answer()) == ["a", "b"]
            assert await connection.ended()


@pytest.mark.parametrize("question", ["q=products", "min_uptime=1ms", "sort=lastSeen"])
async def test_what_depends_on_more_than_the_list_is_answered_as_often(
    served: Served, question: str
) -> None:
    async with line(served) as connection:
        for _ in range(3):
            connection.send(get(f"/servers?{question}"))
            assert (await connection.answer()).startswith(b"HTTP/1.1 200 ")


async def test_each_request_is_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "mcp_discovery.facade.http.middleware")
    async with line(served) as connection:
        for _ in range(3):
            connection.send(get("/servers"))
            await connection.answer()
    assert sum("GET /servers → 200" in each.getMessage() for each in caplog.records) == 3


async def test_requests_in_pieces_and_in_a_row_are_answered_in_order(served: Served) -> None:
    """Whatever is sent, cut at any places: each request has its own answer."""
    chance = seeded(7)
    posted = orjson.dumps({"status": "healthy"})
    beat = b"POST /servers/a/heartbeat HTTP/1.1\r\nHost: localhost\r\n"
    beat += b"Content-Type: application/json\r\n"
    kinds = {
        "a": get("/servers?tags=a"),
        "b": get("/servers?tags=b"),
        "both": get("/servers"),
        "one": get("/servers/a"),
        "with a body": get("/servers?tags=b", "Content-Length: 5") + b"12345",
        "beat": beat + b"Content-Length: %d\r\n\r\n" % len(posted) + posted,
        # A body that looks like a request is none.
        "disguised": beat
        + b"Content-Length: %d\r\n\r\n" % len(get("/servers?tags=b"))
        + get("/servers?tags=b"),
    }

    def fits(kind: str, answer: bytes) -> bool:
        status = int(answer.split(b" ", 2)[1])
        if kind == "disguised":
            return status == 400
        if kind == "beat":
            return status in (200, 204)
        if kind == "one":
            return bool(body(answer)["id"] == "a")
        return ids(answer) == {"a": ["a"], "both": ["a", "b"]}.get(kind, ["b"])

    for _ in range(60):
        async with line(served) as connection:
            for _ in range(6):
                row = chance.choices(list(kinds), k=chance.choice((1, 1, 1, 2, 3)))
                data = b"".join(kinds[each] for each in row)
                cuts = sorted(chance.sample(range(1, len(data)), chance.choice((0, 0, 1, 2))))
                for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    connection.send(data[start:end])
                    if chance.random() < 0.5:
                        await asyncio.sleep(0)
                for kind in row:
                    answer = await connection.answer()
                    assert fits(kind, answer), (row, kind, answer[:200])


async def test_polls_that_wait_for_the_same_have_one_answer(served: Served) -> None:
    index = (await served.ask("GET", "/servers?tags=a")).headers["X-Discovery-Revision"]
    question = get(f"/servers?tags=a&wait=20&index={index}&status=all")
    first = (await served.ask("GET", "/servers?tags=a&status=all")).headers["X-Discovery-Revision"]
    assert first == index
    async with line(served) as a, line(served) as b, line(served) as c:
        for each in (a, b, c):
            each.send(question)

        async def wait() -> bool:
            return len(served.polls) == 3

        await until(wait, timeout=5, what="three polls waiting")
        await served.ask("POST", "/servers", leased("n", tags=["a"]))
        answers = [await each.answer() for each in (a, b, c)]
        assert [ids(each) for each in answers] == [["a", "n"]] * 3
        assert len({_OWN.sub(b"", each) for each in answers}) == 1
        # Each connection goes on.
        for each in (a, b, c):
            each.send(get("/servers?tags=b"))
            assert ids(await each.answer()) == ["b"]

        async def none() -> bool:
            return len(served.polls) == 0

        await until(none, timeout=5, what="no poll waiting")


async def test_long_requests_are_answered(served: Served) -> None:
    async with line(served) as one:
        for _ in range(3):
            one.send(get("/servers", *(f"X-Padding-{n}: {'x' * 3000}" for n in range(3))))
            assert ids(await one.answer()) == ["a", "b"]


async def test_head_has_the_headers_of_get(served: Served) -> None:
    async with line(served) as connection:
        connection.send(get("/servers"))
        head, _, _ = (await connection.answer()).partition(b"\r\n\r\n")
        for _ in range(3):
            connection.send(get("/servers").replace(b"GET", b"HEAD", 1))
            answer = await connection.answer(to_head=True)
            assert _OWN.sub(b"", answer) == _OWN.sub(b"", head + b"\r\n\r\n")


async def test_a_middleware_before_all_others_refuses_every_request(served: Served) -> None:
    """However often and in whatever way it is asked what others were answered just now."""
    refused = b"HTTP/1.1 403 "
    index = (await served.ask("GET", "/servers")).headers["X-Discovery-Revision"]
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    requests = {
        "a list": get("/servers"),
        "compressed": get("/servers", "Accept-Encoding: gzip"),
        "conditional": get("/servers", "If-None-Match: *"),
        "a long poll": get(f"/servers?wait=20&index={index}"),
        "events": get("/events"),
        "a WebSocket": get("/registry/stream", *upgrade, "Sec-WebSocket-Key: " + "A" * 22 + "=="),
        "MCP": get("/mcp", "Accept: text/event-stream"),
    }
    async with line(served) as allowed, line(served, "127.0.0.2") as other:
        for kind, request in requests.items():
            for _ in range(5):
                if kind in ("a list", "compressed", "conditional"):
                    allowed.send(request)
                    assert not (await allowed.answer()).startswith(refused)
                other.send(request)
                assert (await other.answer()).startswith(refused), kind
        for _ in range(5):
            other.send(get("/servers").replace(b"GET", b"HEAD", 1))
            assert (await other.answer(to_head=True)).startswith(refused)
        other.send(b"".join([get("/servers")] * 5))
        for _ in range(5):
            assert (await other.answer()).startswith(refused)
        allowed.send(get(f"/servers?wait=20&index={index}"))

        async def waits() -> bool:
            return len(served.polls) == 1

        await until(waits, timeout=5, what="a poll waiting")
        other.send(get(f"/servers?wait=20&index={index}"))
        assert (await other.answer()).startswith(refused)
        await served.ask("POST", "/servers", leased("n"))
        assert ids(await allowed.answer()) == ["a", "b", "n"]
