"""A facade that is sent, or sends, what means harm: whoever is at the other end is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.faults.hostile import corpus
from tests.faults.hostile.processes import facade, measured, program
from tests.servers.process import odd
from tests.stores import ports
from tests.stores.waiting import until

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN = 0.2
"""Seconds that a hostile stream stays open when all of it is written: it ends by itself as well."""
_DEEP = b"[" * 1015 + b"]" * 1015


@pytest.mark.asyncio
async def test_what_is_posted_is_refused_in_a_sentence_and_holds_nobody_up(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as at, odd() as fine, aiohttp.ClientSession() as http:
        posted = {"id": "fine", "name": "fine", "url": fine.url}
        async with http.post(f"{at.url}/servers", json=posted) as answer:
            assert answer.status == 201
        itself = {
            "id": "mirror",
            "name": "evil",
            "url": f"{at.url}/mcp",
            "healthUrl": f"{at.url}/health",
        }
        bodies = [
            *corpus.unreadable().values(),
            *corpus.readable(at.url).values(),
            *corpus.bad_health().values(),
            b"x" * 5_000_000,
            b'{"name":"a","url":"http://127.0.0.1:9/","health":%b}' % _DEEP,
            b'{"name":"a","url":%b}' % _DEEP,
            json.dumps(itself).encode(),
        ]
        paths = (
            "/servers",
            "/servers/fine/heartbeat",
            "/registry/connections",
            "/registry/discover",
        )
        before = len(at.program.lines())
        async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
            for path in paths:
                for body in bodies:
                    kind = {"Content-Type": "application/json"}
                    async with http.post(f"{at.url}{path}", data=body, headers=kind) as answer:
                        told = await answer.text()
                        assert answer.status < 500, (path, body[:200], told[:500])
                        assert len(told) < 400_000, (path, body[:200])
            await at.until_listed("mirror", "down", timeout=15)
        meanwhile.check(pause=2.0)
        assert (await at.servers())["fine"]["status"] == "healthy"
        assert not at.program.lines("Traceback")
        assert len(at.program.lines()) - before < 100
        await at.program.quiet(3, most=2)


# -- a facade that answers what it likes ---------------------------------------------------------


async def _gigabytes(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for _ in range(4096):
        await response.write(b" " * 2**20)
    return response


async def _deep(_: web.Request) -> web.StreamResponse:
    body = b'{"type":%b,"detail":%b,"id":%b}' % (_DEEP, _DEEP, _DEEP)
    return web.Response(status=503, body=body, content_type="application/problem+json")


async def _garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body=b"\xff" * 1_000_000)


async def _elsewhere(request: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": str(request.url)})


async def _mute(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def _stream(*parts: bytes, again: int = 0) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        for _ in range(again):
            await response.write(parts[-1])
        await asyncio.sleep(OPEN)
        return response

    return answer


_EVENTS: dict[str, Answer] = {
    "an endless event": _stream(b"event: change\ndata: ", b"x" * 2**20, again=1500),
    "garbage": _stream(b"\xff\xfe\0\n" * 1000, b"event: snapshot\ndata: {]\n\n"),
    "wrong types": _stream(b'event: snapshot\ndata: {"servers":{"a":1}}\n\n'),
    "deep": _stream(b'event: snapshot\ndata: {"staleSince":%b,"servers":[]}\n\n' % _DEEP),
    "a list of nothing": _stream(b'event: snapshot\ndata: {"servers":[null,1,{"id":[]}]}\n\n'),
}


class FakeFacade:
    """Answers every request as :attr:`answer` does."""

    def __init__(self) -> None:
        self.answer: Answer = _mute
        self.url = ""
        self.asked = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        return await self.answer(request)


@asynccontextmanager
async def _fake_facade() -> AsyncIterator[FakeFacade]:
    fake = FakeFacade()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, ports.LOOPBACK, 0)
    await site.start()
    fake.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield fake
    finally:
        await runner.cleanup()


async def _asked(fake: FakeFacade, times: int) -> None:
    until_ = fake.asked + times

    async def enough() -> bool:
        return fake.asked >= until_

    await until(enough, timeout=45, what=f"being asked {times} times more")


@pytest.mark.asyncio
async def test_a_sidecar_survives_whatever_its_facade_answers(tmp_path: Path) -> None:
    async with _fake_facade() as fake, odd() as server:
        given = ("--store", fake.url, "--url", server.url, "--ttl", "6", "--id", "a", "--name", "a")
        async with program(tmp_path, "sidecar", "sidecar", *given) as sidecar:
            await _asked(fake, 1)
            async with measured(sidecar.pid) as meanwhile:
                for answer in (_gigabytes, _deep, _garbage, _elsewhere):
                    fake.answer = answer
                    await _asked(fake, 2)
            meanwhile.check(megabytes=300)
            assert sidecar.process.running
            assert not sidecar.lines("Traceback")
            assert len(sidecar.lines("WARNING")) + len(sidecar.lines("ERROR")) <= 12
            assert max(map(len, sidecar.lines())) < 3000


@pytest.mark.asyncio
@pytest.mark.soak
async def test_a_facade_survives_whatever_stream_another_sends(tmp_path: Path) -> None:
    async with _fake_facade() as fake, facade(tmp_path, fake.url) as at:
        async with measured(at.program.pid, f"{at.url}/health") as meanwhile:
            for answer in _EVENTS.values():
                fake.answer = answer
                await _asked(fake, 2)
        # The largest event that is taken is a snapshot of some 100,000 instances.
        assert meanwhile.pause < 3, meanwhile
        assert meanwhile.grown < 1500 * 2**20, meanwhile
        assert at.program.process.running
        assert not at.program.lines("Traceback")
        assert len(at.program.lines("WARNING")) <= 12, at.program.lines("WARNING")
