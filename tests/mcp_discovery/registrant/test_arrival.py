"""A server that begins to listen is noticed at once, and waiting for it costs little."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Status
from mcp_discovery.registrant.arrival import LocalPort, pause_between_checks
from tests.servers.process import McpServer, odd
from tests.sidecar.harness import Seen, sidecar
from tests.stores.waiting import until


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
    """Whoever listens and does not answer is asked at the usual pace."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        async with sidecar(store, url), odd() as other, sidecar(store, other.url, id="other"):
            await seen.until(lambda one: one.id == "other", within=5.0, what="the other one")
        accepted = 0
        try:
            while True:
                listening.accept()[0].close()
                accepted += 1
        except BlockingIOError:
            pass
        assert accepted <= 20
