"""Requests bear whole numbers as ids, and an answer with another id is told as that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from mcp_discovery.probe import BadAnswerError
from mcp_discovery.probe.messages import IDS_AS_STRINGS, answer_in
from tests.mcp_discovery.probe.conftest import MakeProbe
from tests.servers.odd import OddServer, Options
from tests.servers.process import odd

WAYS = {
    "modern": ("streamable-http", ("--era", "modern")),
    "json": ("streamable-http", ("--era", "legacy")),
    "stateless": ("streamable-http", ("--era", "legacy", "--no-stateful")),
    "event-stream": ("streamable-http", ("--era", "legacy", "--body", "sse")),
    "sse": ("sse", ()),
    "websocket": ("websocket", ()),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


class _Listening(OddServer):
    """Keeps the id of every request."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.ids: list[object] = []

    def plain_answer(self, message: dict[str, object], modern: bool) -> dict[str, object] | None:
        if "id" in message:
            self.ids.append(message["id"])
        return super().plain_answer(message, modern)


@asynccontextmanager
async def listening(options: Options) -> AsyncIterator[tuple[str, list[object]]]:
    server = _Listening(options)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", server.ids
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("transport", ["streamable-http", "sse", "websocket"])
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_ids_are_numbers_and_none_recurs(
    transport: str, era: str, probe_of: MakeProbe
) -> None:
    async with listening(Options(era=era, tools=20, page=5)) as (url, ids):
        probe = probe_of(url, transport=transport)
        for _ in range(3):
            await probe.connect(5)
            await probe.introspect(5)
            for _ in range(5):
                await probe.ping(5, along=True)
        await probe.close()
    assert len(ids) > 20
    assert all(type(id) is int and 0 < id < 2**31 for id in ids)
    assert len(set(ids)) == len(ids)


@EACH_WAY
@pytest.mark.parametrize("ids", ["parse", "batch"])
async def test_bridges_that_parse_ids_or_send_batches(
    way: str, ids: str, probe_of: MakeProbe
) -> None:
    transport, options = WAYS[way]
    async with odd(*options, "--ids", ids) as server:
        probe = probe_of(server.base_url, transport=transport)
        await probe.ping(5)
        found = await probe.introspect(5)
        assert (len(found.tools), found.findings) == (3, ())


@EACH_WAY
async def test_ids_as_strings_are_understood_and_found(way: str, probe_of: MakeProbe) -> None:
    transport, options = WAYS[way]
    async with odd(*options, "--ids", "string") as server:
        probe = probe_of(server.base_url, transport=transport)
        await probe.ping(5)
        found = await probe.introspect(5)
        assert (len(found.tools), found.findings) == (3, (IDS_AS_STRINGS,))


@EACH_WAY
@pytest.mark.parametrize(("ids", "which"), [("null", "id null"), ("other", "another id")])
async def test_another_id_is_told_at_once(
    way: str, ids: str, which: str, probe_of: MakeProbe
) -> None:
    transport, options = WAYS[way]
    async with odd(*options) as server:
        probe = probe_of(server.base_url, transport=transport)
        await probe.ping(5)
        await server.control(ids=ids)
        for _ in range(2):
            with pytest.raises(BadAnswerError, match=f"with {which} instead of the request's$"):
                await probe.ping(5)
        await server.control(ids="")
        await probe.ping(5)


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_late_answer_is_nobodys_and_harms_nobody(
    transport: str, probe_of: MakeProbe
) -> None:
    async with odd() as server:
        probe = probe_of(server.base_url, transport=transport)
        await probe.ping(5)
        await server.control(delay=0.5, delay_method="prompts/list")
        reading = asyncio.create_task(probe.introspect(5))
        await asyncio.wait({reading}, timeout=0.2)
        reading.cancel()
        await asyncio.wait({reading})
        await server.control(delay=0.8, delay_method="ping")
        assert await probe.ping(5) > 0.6  # the answer to prompts/list came meanwhile


@pytest.mark.parametrize(
    ("given", "mine"),
    [("7", True), ("7.0", True), ('"7"', True), ("true", False), ('"07"', False), ("8", False)],
)
def test_which_ids_are_the_requests(given: str, mine: bool) -> None:
    decoded = json.loads(f'{{"jsonrpc": "2.0", "id": {given}, "result": {{}}}}')
    picked = answer_in(decoded, 7)
    assert (picked.message is not None) == mine
    assert picked.misaddressed != mine


def test_an_error_that_could_not_be_tied_is_the_answer() -> None:
    untied = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "?"}}
    assert answer_in(untied, 7).message is untied
