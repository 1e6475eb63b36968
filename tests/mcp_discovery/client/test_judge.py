"""A client that calls all the time, while its servers die, hang, change and multiply."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from mcp_discovery import Discovery
from mcp_discovery.client.calls import OUTCOMES
from mcp_discovery.client.source import CallOutcome
from tests.mcp_discovery.client.cluster import INTERVAL, TTL, Cluster, cluster
from tests.stores.waiting import until_holds

RATE = 50
#: How long to wait, beyond what is promised, for the facade to show what was done to a server.
MARGIN = 15.0


class Attempts(list[CallOutcome]):
    """What became of each attempt of one call, and since when it was under way."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[float, str]] = []

    def append(self, outcome: CallOutcome) -> None:
        """Adds the outcome of an attempt that ends now."""
        super().append(outcome)
        self.begun.append((time.monotonic() - outcome.latency, outcome.instance))


class Load:
    """Calls ``read`` at :data:`RATE` a second, each in a task of its own, whatever becomes of the
    others."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._calls: list[asyncio.Task[None]] = []
        self.results: Counter[str] = Counter()
        #: When an instance was asked, whether it answered or not.
        self.attempts: list[tuple[float, str]] = []

    async def run(self) -> None:
        """Begins calls until it is cancelled."""
        began = time.monotonic()
        for number in range(10**6):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            self._calls.append(asyncio.create_task(self._call(f"key-{number}")))

    async def _call(self, key: str) -> None:
        attempts = Attempts()
        OUTCOMES.set(attempts)  # of this task alone
        try:
            result = await self._discovery.call("read", {"key": key})
        except Exception as error:  # noqa: BLE001  # what is lost is counted, whatever it is
            self.results[f"{type(error).__name__}: {error}"[:300]] += 1
            return
        finally:
            self.attempts += attempts.begun
        assert result.structured_content is not None
        self.results["ok"] += 1

    async def ended(self) -> None:
        """Waits for every call."""
        await asyncio.gather(*self._calls)


@pytest.mark.parametrize("era", ["both", "legacy"])
async def test_no_call_is_lost(era: str, tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        for id in ("a", "b", "c"):
            await place.add(id, "--era", era)
        before = asyncio.all_tasks()
        async with Discovery(place.url) as discovery:
            await discovery.connect(tags=["tests"])
            load = Load(discovery)
            running = asyncio.create_task(load.run())
            try:
                hung = await _go_through_it(place, era)
                # What happens may be over before enough calls were made.
                await until_holds(
                    lambda: load.results["ok"] > RATE * 10, timeout=30, what="enough calls"
                )
            finally:
                running.cancel()
                await asyncio.wait([running])
            await load.ended()
        await until_holds(
            lambda: asyncio.all_tasks() <= before, timeout=5, what="the end of every task"
        )
        assert not _connections(place), "a connection was left open"
        assert set(load.results) == {"ok"}, load.results
        down_at, up_at = hung
        if era == "both":  # legacy sessions stay with one of them, whichever it is
            assert any(at < down_at for at, who in load.attempts if who == "b")
        late = [at for at, who in load.attempts if who == "b" and down_at + INTERVAL < at < up_at]
        assert not late, f"{len(late)} calls went to a server that was shown down"


def _connections(place: Cluster) -> list[str]:
    """What this process has open to the servers and the facade; a socket that is only waiting for
    its last packets is closed."""
    ports = {server.port for server in place.servers.values()}
    ports.add(int(place.url.rpartition(":")[2]))
    return [
        f"{each.raddr.port}: {each.status}"
        for each in psutil.Process().net_connections("tcp")
        if each.raddr and each.raddr.port in ports and each.status != psutil.CONN_TIME_WAIT
    ]


async def _go_through_it(place: Cluster, era: str) -> tuple[float, float]:
    """Everything that happens to the servers; since when the one that hung was shown as down, and
    when it went on."""
    a, b = place.servers["a"], place.servers["b"]
    await a.kill()
    await place.facade.until_status("a", "down", INTERVAL + MARGIN)
    await a.start("--era", era)
    await place.facade.until_status("a", "healthy", INTERVAL + MARGIN)
    await b.pause()  # hangs: connections stay open
    await place.facade.until_status("b", "down", INTERVAL + MARGIN)
    down_at = time.monotonic()
    await place.add("d", "--era", era, "--schema", "2")  # another version joins,
    await place.add("e", "--era", era, "--schema", "2")
    up_at = time.monotonic()
    await b.resume()
    place.sidecars["c"].send(signal.SIGTERM)  # and the old one leaves
    await place.facade.until_status("c", None, 5 + MARGIN)
    await place.servers["c"].kill()
    await place.sidecars["a"].stop(signal.SIGKILL)
    await a.kill()  # with nobody left to say so
    await place.facade.until_status("a", "down", TTL + 2 + MARGIN)
    return down_at, up_at


@pytest.mark.slow
async def test_the_facade_goes_and_comes_back_empty(tmp_path: Path) -> None:
    from tests.programs import AskedFacade, running
    from tests.servers.process import McpServer
    from tests.stores import ports

    port = ports.draw()
    url = f"http://127.0.0.1:{port.number}"
    arguments = ("facade", "--port", str(port.number))
    server = McpServer(("-m", "tests.servers.counting"), tmp_path)
    try:
        await server.start()
        async with running(tmp_path, *arguments) as first:
            asked = AskedFacade(url, first)
            given = ("--store", url, "--url", server.url, "--id", "a", "--name", "counting")
            async with running(tmp_path, "sidecar", *given, "--ttl", f"{TTL:g}"):
                await asked.until_status("a", "healthy", 20)
                async with Discovery(url) as discovery:
                    await discovery.connect()
                    load = Load(discovery)
                    loading = asyncio.create_task(load.run())
                    assert await first.stop(signal.SIGKILL) == -signal.SIGKILL
                    await until_holds(
                        lambda: discovery.stale_since is not None, timeout=10, what="a stale list"
                    )
                    async with running(tmp_path, *arguments) as second:
                        await AskedFacade(url, second).until_status("a", "healthy", 15)
                        await until_holds(
                            lambda: discovery.stale_since is None, timeout=10, what="a fresh list"
                        )
                        loading.cancel()
                        await asyncio.wait([loading])
                        await load.ended()
                assert set(load.results) == {"ok"}, load.results
    finally:
        await server.close()
        port.release()
