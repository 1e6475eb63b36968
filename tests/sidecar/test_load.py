"""The load that a sidecar reports of the server that it has started."""

from __future__ import annotations

import sys

import psutil
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.health import Load, Status
from tests.servers.process import odd
from tests.sidecar.harness import sidecar, watching
from tests.stores import ports


async def test_of_a_child_memory_and_processor_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.heartbeats.LOAD_EVERY", 0.5)
    port = ports.draw()
    server = (sys.executable, "-m", "tests.servers.odd", "--port", str(port.number))
    url = f"http://127.0.0.1:{port.number}/mcp"
    command = ("sh", "-c", f"{' '.join(server)}; true")
    async with (
        EmbeddedStore() as store,
        watching(store) as seen,
        sidecar(store, url, command=command),
    ):
        await seen.until_status(Status.HEALTHY, within=20)
        shown = await seen.until(
            lambda it: it.load is not None and it.load.cpu is not None, within=15, what="a load"
        )
        load = shown.load
        assert load is not None
        shells = psutil.Process().children()
        (shell,) = (each for each in shells if each.name() == "sh")
        family = [shell, *shell.children()]
        assert len(family) == 2
        resident = sum(each.memory_info().rss for each in family)
        assert load.memory == pytest.approx(resident, rel=0.1)
        assert load.cpu is not None and 0 <= load.cpu < 4
        assert load == Load(memory=load.memory, cpu=load.cpu, running=True)
    port.release()


async def test_of_a_server_that_it_has_not_started_it_knows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_discovery.adapters.heartbeats.LOAD_EVERY", 0.0)
    async with (
        odd() as server,
        EmbeddedStore() as store,
        watching(store) as seen,
        sidecar(store, server.url),
    ):
        await seen.until_status(Status.HEALTHY, within=20)
        await server.control(fail=503)
        shown = await seen.until_status(Status.DOWN, within=20)
        assert shown.load is None
