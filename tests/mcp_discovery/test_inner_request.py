"""Requests that a handler makes of its own application."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from mcp_discovery.inner_request import InnerRequests, ResponseSink, is_inner


class Kept(ResponseSink):
    """Keeps what it takes, up to ``most`` bytes."""

    def __init__(self, most: int = 2**20) -> None:
        super().__init__()
        self.body = b""
        self.most = most

    async def take(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > self.most:
            raise ConnectionResetError


async def test_it_passes_what_every_request_passes() -> None:
    passed: list[tuple[str, str, bool, object]] = []
    kept: list[Kept] = []

    @web.middleware
    async def noting(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = request.get_extra_info("peername")
        passed.append((request.method, request.path_qs, is_inner(request), peer))
        assert (request.remote, request.secure) == ("127.0.0.1", False)
        return await handler(request)

    async def outer(request: web.Request) -> web.StreamResponse:
        inner = InnerRequests(request)
        for method, headers, body, most in (
            ("POST", {"X-Which": "body"}, b"\xff" * 300_000, 2**20),
            ("POST", {"X-Which": "stream"}, b"", 2**20),
            ("POST", {"X-Which": "stream"}, b"", 10),
            ("POST", {"X-Which": "broken"}, b"", 2**20),
            ("DELETE", {}, b"", 2**20),
        ):
            kept.append(Kept(most))
            await inner.ask(method, CIMultiDict(headers), body, kept[-1])
        return web.Response(text="done")

    async def answer(request: web.Request) -> web.StreamResponse:
        assert "Cookie" not in request.headers
        which = request.headers["X-Which"]
        if which == "body":
            return web.Response(body=await request.read(), headers={"X-Said": which})
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        for _ in range(20):
            await response.write(b"part")
        if which == "broken":
            assert request.transport is not None and not request.transport.is_closing()
            request.transport.abort()
            assert request.transport.is_closing()
        return response

    app = web.Application(middlewares=[noting], client_max_size=2**20)
    app.router.add_get("/a", outer)
    app.router.add_post("/a", answer)
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/a?b=%2F", headers={"Cookie": "a=b"})).text() == "done"
    body, stream, cut, broken, missing = kept
    assert (body.status, body.headers["X-Said"], body.body) == (200, "body", b"\xff" * 300_000)
    assert (stream.status, stream.body, stream.broken) == (202, b"part" * 20, False)
    assert (cut.body, cut.broken) == (b"part" * 3, True)
    assert (broken.status, broken.broken) == (202, True)
    assert missing.status == 405
    methods = [(method, path, inner) for method, path, inner, _ in passed]
    assert methods == [
        ("GET", "/a?b=/", False),
        *[("POST", "/a?b=/", True)] * 4,
        ("DELETE", "/a?b=/", True),
    ]
    assert len({peer for *_, peer in passed}) == 1
