"""A stream through the gateway ends with its caller's credential; a call on its way goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from tests.facade.access.tokens import bearer, guarded, write_auth_file
from tests.facade.gateway.plain import faulty
from tests.facade.harness import leased
from tests.stores.waiting import bounded, until

PATH = "/gateway/gate/mcp"


async def test_what_listens_ends_and_a_call_goes_on(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b": here\n\n")
        await finish.wait()
        await response.write(b"data: {}\n\n")
        return response

    async with guarded(tmp_path, gateway=True) as ask, faulty() as server:
        body = leased("a", name="gate", url=server.url)
        assert (await ask("POST", "/servers", body, headers=bearer("operator"))).status == 201
        server.handler = stream
        headers = bearer("operator") | {"Accept": "text/event-stream"}
        async with (
            ask.session.get(ask.url + PATH, headers=headers) as listening,
            ask.session.post(ask.url + PATH, json={"id": 1}, headers=headers) as calling,
        ):
            assert (listening.status, calling.status) == (200, 200)
            for each in (listening, calling):
                assert await bounded(each.content.readline(), 10) == b": here\n"
            write_auth_file(tmp_path / "auth.yaml", tokens={})
            assert await bounded(listening.content.read(), 10) == b"\n"
            await bounded(server.left.wait(), 10)
            finish.set()
            assert await bounded(calling.content.read(), 10) == b"\ndata: {}\n\n"

        async def refused() -> bool:
            return (await ask("GET", "/servers", headers=headers)).status == 401

        await until(refused, timeout=10, what="the token being refused")
