"""A server that begins to listen is noticed at once, and waiting for it costs little."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from mcp_discovery.probe import McpProbe, NoAnswerError
from mcp_discovery.registrant.arrival import LocalPort, pause_between_checks
from tests.servers.process import McpServer, odd
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_is_closed_until_somebody_listens(host: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = LocalPort.of(f"http://{host}:{listening.getsockname()[1]}/mcp")
        assert port is not None
        assert port.is_closed()
        listening.listen()
        assert not port.is_closed()
    assert port.is_closed()


@pytest.mark.parametrize("url", ["http://10.0.0.1:8000/mcp", "http://server:8000/mcp"])
def test_ports_of_other_machines_are_not_checked(url: str) -> None:
    assert LocalPort.of(url) is None


def test_checks_grow_rarer() -> None:
    assert pause_between_checks(0.1, 0.25) == 0.005
    assert pause_between_checks(1.0, 0.25) == pytest.approx(0.01)
    assert pause_between_checks(3600.0, 0.25) == 0.25


async def test_a_server_that_comes_up_is_found_before_the_next_attempt(
    store: EmbeddedStore,
    seen: Seen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("mcp_discovery.registrant.arrival.RETRY", 60.0)
    server = McpServer(("-m", "tests.servers.odd"), tmp_path)
    async with sidecar(store, server.url):
        try:

            async def waiting() -> bool:
                return "waiting for the MCP server" in caplog.text

            await until(waiting, timeout=3.0, what="the first attempt")
            await server.start()
            await seen.until_status(Status.HEALTHY, within=1.0)
        finally:
            await server.close()


async def test_a_port_where_nobody_answers_is_not_tried_all_the_time(
    store: EmbeddedStore, seen: Seen
) -> None:
    """Whoever listens and does not answer is asked two questions, which are waited for."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        async with sidecar(store, url), odd() as other, sidecar(store, other.url, id="other"):
            await seen.until(lambda one: one.id == "other", within=5.0, what="the other one")
            await asyncio.sleep(2.0)  # nothing is to come of it
        accepted = 0
        try:
            while True:
                listening.accept()[0].close()
                accepted += 1
        except BlockingIOError:
            pass
        assert accepted <= 3  # the port was looked at, too


SLOW = 2.5
"""Seconds that a slow server takes: longer than what a probe waits for."""


@pytest.mark.parametrize(
    ("options", "transport"),
    [
        (("--era", "legacy"), "streamable-http"),
        (("--era", "legacy", "--unknown", "mute"), "streamable-http"),
        (("--era", "modern"), "streamable-http"),
        ((), "sse"),
        ((), "websocket"),
    ],
)
@pytest.mark.parametrize("slow", ["initialize", ""])
async def test_a_server_that_shakes_hands_slowly_is_waited_for_and_left_clean(
    store: EmbeddedStore, seen: Seen, options: tuple[str, ...], transport: str, slow: str
) -> None:
    asked = slow if "modern" not in options else "server/discover"
    faults = ("--delay", str(SLOW), "--delay_method", asked)
    async with odd(*options, *faults) as server:
        url = server.base_url.replace("http", "ws" if transport == "websocket" else "http")
        async with sidecar(
            store, url, transport=transport, ttl=12.0, probe_interval=2.0, drain=0.0
        ) as running:
            await seen.until(lambda one: one.record.name == "odd", within=30.0, what="the server")
            await until(partial(_asked, server, 3.0), timeout=20.0, what="some probes")
            running.stop()
            await running.code(within=20.0)
        told = await server.control(delay=0)
        assert told["counts"].get("initialize", 0) <= 2
        await until(partial(_left_clean, server), timeout=5.0, what="all sessions being closed")
        assert told["most_sessions"] <= 2


async def _asked(server: McpServer, times: float) -> bool:
    counts = (await server.control())["counts"]
    probes = ("ping", "tools/list", "server/discover")
    return bool(sum(counts.get(each, 0) for each in probes) > times)


async def _left_clean(server: McpServer) -> bool:
    told = await server.control()
    return not told["sessions"] and not told["open_streams"]


async def test_a_session_that_is_opened_late_is_closed(http: aiohttp.ClientSession) -> None:
    """Whoever gave up, or was cancelled, still closes what the server opens for it."""
    async with odd("--era", "legacy", "--delay", "1.0", "--delay_method", "initialize") as server:
        probe = McpProbe(server.url, session=http)
        for _ in range(3):
            with pytest.raises(NoAnswerError):
                await probe.connect(0.3)
        connecting = asyncio.create_task(probe.connect(5))
        await asyncio.wait({connecting}, timeout=0.3)
        connecting.cancel()
        await asyncio.wait({connecting})
        await probe.close()
        told = await server.control()
        assert told["counts"]["initialize"] >= 2
        assert told["counts"]["DELETE"] == told["counts"]["initialize"]
        assert told["sessions"] == 0
        assert told["most_under_way"] <= 2


async def test_a_hung_server_is_asked_two_questions_at_once_and_ever_more_rarely(
    store: EmbeddedStore, seen: Seen
) -> None:
    async with odd("--era", "legacy") as server, sidecar(store, server.url, probe_interval=1.0):
        await seen.until_status(Status.HEALTHY, within=5.0)
        await server.control(hang=True)
        await seen.until_status(Status.DOWN, within=5.0)
        hung = (await server.control())["counts"]["POST"]
        with pytest.raises(TimeoutError):
            await seen.until_status(Status.HEALTHY, within=8.0)
        told = await server.control(hang=False)
        assert told["counts"]["POST"] - hung <= 12
        assert told["most_under_way"] <= 3  # with the probe that was given up
        await seen.until_status(Status.HEALTHY, within=3.0)
        assert (await server.control())["sessions"] == 1
