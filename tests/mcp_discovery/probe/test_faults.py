"""The probe against servers that are broken in every way that was thought of."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest

from mcp_discovery.probe import (
    BadAnswerError,
    Limits,
    NoAnswerError,
    NotOkError,
    ProbeError,
    UnreachableError,
    probe_health_url,
)
from tests.mcp_discovery.probe.conftest import MakeProbe, acquired
from tests.servers.process import odd
from tests.stores.waiting import until

ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])
SECRET = "open-sesame-4711"

FAULTS: dict[str, tuple[dict[str, Any], type[ProbeError], str]] = {
    "status": ({"fail": 503}, BadAnswerError, "HTTP 503 from the MCP endpoint"),
    "rpc-error": (
        {"error": -32603},
        BadAnswerError,
        "answered {m} with error -32603: odd on demand",
    ),
    "html": ({"garbage": True}, BadAnswerError, "answered, but not MCP: the body is not JSON"),
    "hang": ({"hang": True}, NoAnswerError, "no answer within 0.7 s"),
    "slow": ({"delay": 30}, NoAnswerError, "no answer within 0.7 s"),
    "drip": ({"drip": True}, NoAnswerError, "no answer within 0.7 s"),
    "hang-up": (
        {"close": True},
        UnreachableError,
        "the server closed the connection without an answer",
    ),
}


@ERAS
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_and_recovery(
    era: str, fault: str, probe_of: MakeProbe, http: aiohttp.ClientSession
) -> None:
    wishes, error, sentence = FAULTS[fault]
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        await probe.ping(5)
        await server.control(**wishes)
        method = "server/discover" if era == "modern" else "ping"
        started = time.monotonic()
        with pytest.raises(error) as caught:
            await probe.ping(0.7)
        assert str(caught.value) == sentence.format(m=method)
        with pytest.raises(error):
            await probe.introspect(0.7)
        assert time.monotonic() - started < 3
        assert acquired(http) == 0
        await server.control(**dict.fromkeys(wishes, 0))
        await probe.ping(5)
        assert len((await probe.introspect(5)).tools) == 3


@ERAS
async def test_frozen_server(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        await probe.ping(5)
        await server.pause()
        with pytest.raises(NoAnswerError):
            await probe.ping(0.3)
        with pytest.raises(NoAnswerError):
            await probe_of(server.url).connect(0.3)
        await server.resume()
        await probe.ping(5)


async def test_server_that_dies_while_it_is_asked(probe_of: MakeProbe) -> None:
    async with odd("--hang") as server:
        probe = probe_of(server.url)
        asking = asyncio.create_task(probe.ping(10))
        await server.control(exit=3)
        with pytest.raises(UnreachableError):
            await asking


async def test_nobody_listens_and_no_such_host(probe_of: MakeProbe) -> None:
    async with odd() as server:
        await server.kill()
        with pytest.raises(UnreachableError, match=r"^connection refused$"):
            await probe_of(server.url).ping(2)
    with pytest.raises(UnreachableError, match=r"^the host name does not resolve$"):
        await probe_of("http://no-such-host.invalid/mcp").ping(10)


async def test_not_there(probe_of: MakeProbe) -> None:
    async with odd() as server:
        for url in (f"{server.base_url}/nothing", f"{server.base_url}/health"):
            with pytest.raises(
                BadAnswerError, match=r"^HTTP 40[45] from the MCP endpoint$"
            ) as caught:
                await probe_of(url).connect(5)
            assert caught.value.status in (404, 405)


async def test_credentials(probe_of: MakeProbe) -> None:
    async with odd("--token", SECRET) as server:
        with pytest.raises(BadAnswerError, match="it wants credentials") as caught:
            await probe_of(server.url).connect(5)
        assert caught.value.wants_credentials
        probe = probe_of(server.url, headers={"Authorization": f"Bearer {SECRET}"})
        assert await probe.ping(5) < 5


async def test_a_secret_that_the_server_repeats_is_blanked(probe_of: MakeProbe) -> None:
    async with odd("--token", "another", "--echo_token") as server:
        probe = probe_of(server.url, headers={"Authorization": f"Bearer {SECRET}"})
        with pytest.raises(BadAnswerError) as caught:
            await probe.connect(5)
        assert "no use for ***" in str(caught.value)
        assert SECRET not in repr(caught.value)


@ERAS
@pytest.mark.parametrize(
    ("wishes", "limits", "sentence"),
    [
        ({"cursor_loop": True}, Limits(), "gives the cursor 'again' twice"),
        ({"endless": True}, Limits(pages=20), "more than 20 pages"),
        ({"endless": True, "page": 1}, Limits(items=10), "over the limit of 10"),
        ({"huge": 2**30}, Limits(), "more than 33554432 bytes"),
        ({"tools": 400}, Limits(body_bytes=20_000), "more than 20000 bytes"),
    ],
)
async def test_bounds(
    era: str,
    wishes: dict[str, int],
    limits: Limits,
    sentence: str,
    probe_of: MakeProbe,
    http: aiohttp.ClientSession,
) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url, limits=limits)
        await probe.connect(5)
        await server.control(**wishes)
        with pytest.raises(BadAnswerError, match=sentence) as caught:
            await probe.introspect(20)
        assert caught.value.over_limit
        assert acquired(http) == 0
        assert (await server.control())["counts"].get("padding", 0) < 2**26


@ERAS
async def test_deadline_of_endless_pages(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--endless") as server:
        probe = probe_of(server.url, limits=Limits(pages=10**9, items=10**9))
        started = time.monotonic()
        with pytest.raises(NoAnswerError):
            await probe.introspect(0.5)
        assert time.monotonic() - started < 2


@ERAS
async def test_odd_but_understandable(era: str, probe_of: MakeProbe) -> None:
    deep: object = "bottom"
    for _ in range(400):
        deep = [deep]
    items = [
        7,
        None,
        {"title": "nameless"},
        {"name": "schemaless", "x-extra": {"kept": True}},
        {"name": "tool-1", "inputSchema": {}, "title": "first come"},
        {"name": "deep", "inputSchema": {"type": "object"}, "default": deep},
        {"name": "ünï-名前", "inputSchema": {"type": "object"}},
    ]
    omitted = "protocolVersion,supportedVersions,serverInfo,instructions"
    async with odd(
        "--era", era, "--items", json.dumps(items), "--omit", omitted, "--tools", "2"
    ) as server:
        found = await probe_of(server.url).introspect(5)
    assert [tool["name"] for tool in found.tools] == ["schemaless", "tool-1", "ünï-名前", "tool-0"]
    assert found.tools[0] == {"name": "schemaless", "x-extra": {"kept": True}}
    assert found.tools[1]["title"] == "first come"
    assert (found.versions, found.server_info, found.instructions) == ((), {}, None)
    findings = "\n".join(found.findings)
    assert "dropped an item that is not an object (2 times)" in findings
    assert "dropped an item without 'name'" in findings
    assert "nested too deeply" in findings
    assert "kept a tool without an 'inputSchema' object" in findings
    assert "dropped 1 with the 'name' of an earlier item" in findings
    assert ("supportedVersions" if era == "modern" else "protocolVersion") in findings


@ERAS
async def test_undeclared_lists_are_asked_for_when_nothing_is_declared(
    era: str, probe_of: MakeProbe
) -> None:
    async with odd("--era", era, "--omit", "capabilities") as server:
        found = await probe_of(server.url).introspect(5)
        assert (len(found.tools), len(found.prompts)) == (3, 1)
        assert found.findings == ("the server does not say its capabilities",)


@ERAS
async def test_declared_list_that_is_not_there(era: str, probe_of: MakeProbe) -> None:
    async with odd("--era", era, "--error", "-32601", "--delay_method", "prompts/list") as server:
        found = await probe_of(server.url).introspect(5)
        assert (len(found.tools), found.prompts) == (3, ())


@ERAS
@pytest.mark.parametrize("what", ["connect", "ping", "introspect", "changes"])
async def test_cancelling_leaves_nothing(
    era: str, what: str, probe_of: MakeProbe, http: aiohttp.ClientSession
) -> None:
    async with odd("--era", era) as server:
        probe = probe_of(server.url)
        if what != "connect":
            await probe.connect(5)
        before = asyncio.all_tasks()
        if what == "changes":

            async def ask() -> None:
                async with aclosing(probe.changes()) as changes:
                    async for _ in changes:
                        pass
        else:
            await server.control(hang=True)

            async def ask() -> None:
                await getattr(probe, what)(30)

        asking = asyncio.create_task(ask())

        async def is_asking() -> bool:
            return acquired(http) > 0

        await until(is_asking, timeout=5, what="a request under way")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert acquired(http) == 0
        assert asyncio.all_tasks() - before == set()


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_faults_on_one_connection(
    transport: str, probe_of: MakeProbe, http: aiohttp.ClientSession
) -> None:
    async with odd() as server:
        probe = probe_of(server.base_url, transport=transport)
        await probe.ping(5)
        await server.control(hang=True, delay_method="ping")
        with pytest.raises(NoAnswerError):
            await probe.ping(0.3)
        await server.control(hang=False)
        await probe.ping(5)  # over a new connection: the old one may be stuck at the other end
        assert (await server.control())["counts"]["initialize"] == 2
        await server.kill()
        with pytest.raises(UnreachableError, match=r"^connection refused$"):
            await probe.ping(5)
        await server.start()
        await probe.ping(5)
        await probe.close()
        assert acquired(http) == 0


async def test_many_at_once_after_the_session_is_lost(probe_of: MakeProbe) -> None:
    async with odd("--era", "legacy", "--tools", "60") as server:
        probe = probe_of(server.url)
        await probe.connect(5)
        await server.control(forget=True)
        await asyncio.gather(*(probe.ping(5) for _ in range(5)), probe.introspect(5))
        assert (await server.control())["counts"]["initialize"] == 2


async def test_health_url(http: aiohttp.ClientSession) -> None:
    async with odd() as server:
        url = f"{server.base_url}/health"
        assert await probe_health_url(http, url, 2) < 2
        await server.control(health=429)
        with pytest.raises(NotOkError, match="HTTP 429") as caught:
            await probe_health_url(http, url, 2)
        assert isinstance(caught.value, ProbeError)
        assert caught.value.status == 429
        await server.pause()
        with pytest.raises(NoAnswerError, match=r"^no answer within 0.2 s$"):
            await probe_health_url(http, url, 0.2)
        await server.kill()
        with pytest.raises(UnreachableError, match=r"^connection refused$"):
            await probe_health_url(http, url, 2)
    assert acquired(http) == 0
