"""What a bridged server is measured to do, as a facade shows it over its real sockets."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client

from mcp_discovery.adapters import open_store
from tests.facade.harness import Client as FacadeClient
from tests.programs import facade
from tests.sidecar.harness import sidecar
from tests.stores import ports
from tests.stores.waiting import until

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "tests.sidecar.bridge.busy_server")


class Measured:
    """A bridged server, its facade and its sidecar's figures."""

    def __init__(
        self, ask: FacadeClient, url: str, health: str, http: aiohttp.ClientSession
    ) -> None:
        self.ask = ask
        self.url = url
        self._health = health
        self._http = http

    async def shown(self, path: str, holds: Callable[[Any], object]) -> Any:
        """The answer of the facade, once ``holds`` is true of it."""

        async def looked() -> Any:
            answer = (await self.ask("GET", path)).json
            return answer if holds(answer) else None

        return await until(looked, timeout=20, what=f"{path} showing it")

    async def connection(self, holds: Callable[[Any], object]) -> Any:
        """The connection, once ``holds`` is true of its metrics."""
        return await self.shown("/connections/busy-1", lambda it: holds(it["metrics"]))

    async def diagnostics(self) -> dict[str, Any]:
        checked = await self.ask("POST", "/connections/busy-1/health-check")
        found: dict[str, Any] = checked.json["diagnostics"]
        return found

    async def figure(self, series: str) -> float:
        async with self._http.get(f"{self._health}/metrics") as response:
            found = re.search(rf"^{re.escape(series)} (\S+)$", await response.text(), flags=re.M)
        assert found is not None, series
        return float(found[1])


@pytest.fixture(params=[{}])
async def measured(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Measured]:
    port = ports.draw()
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(facade(tmp_path, "embedded:"))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        store = await stack.enter_async_context(open_store(asked.url))
        settings: dict[str, Any] = {
            "command": COMMAND,
            "id": "busy-1",
            "name": "busy",
            "ttl": 10.0,
            "reap_after": 60.0,
        }
        await stack.enter_async_context(
            sidecar(store, "", health_port=port.number, **(settings | request.param))
        )
        await asked.until_status("busy-1", "healthy", 30)
        ask = FacadeClient(asked.url, http)
        url = (await ask("GET", "/servers/busy-1")).json["url"]
        yield Measured(ask, url, f"http://127.0.0.1:{port.number}", http)
    port.release()


@asynccontextmanager
async def calling(
    url: str, tool: str, arguments: dict[str, Any], times: int
) -> AsyncIterator[None]:
    """Calls a tool from so many clients at once; waits for the answers when the block ends."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url)) for _ in range(times)]
        calls = [asyncio.create_task(each.call_tool(tool, arguments)) for each in clients]
        try:
            yield
            await asyncio.gather(*calls)
        finally:
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


async def test_requests_latency_and_errors_of_each_tool(measured: Measured) -> None:
    idle = (await measured.connection(lambda it: "requestsPerMinute" in it))["metrics"]
    # Neither probes nor the reading of what it offers are requests of clients.
    assert idle == {"requestsPerMinute": 0, "activeConnections": 0}
    for mode in ("auto", "legacy"):
        async with Client(measured.url, mode=mode) as client:
            for _ in range(8):
                await client.call_tool("wait", {"seconds": 0.05})
            assert (await client.call_tool("fail", {})).is_error
    metrics = (await measured.connection(lambda it: it.get("totalRequests", 0) >= 18))["metrics"]
    assert metrics["totalRequests"] >= 18
    assert metrics["errorRate"] == pytest.approx(2 / metrics["totalRequests"], rel=0.01)
    assert metrics["requestsPerMinute"] == metrics["totalRequests"]
    assert 40 < metrics["averageLatency"] < 200
    assert metrics["averageLatency"] <= metrics["p95Latency"]
    listed = await measured.shown(
        "/capabilities", lambda it: sum(each["totalRequests"] for each in it["capabilities"]) >= 18
    )
    found = {each["name"]: each for each in listed["capabilities"]}
    assert (found["wait"]["totalRequests"], found["fail"]["totalRequests"]) == (16, 2)
    assert 50 <= found["wait"]["averageLatency"] < 200
    stats = (await measured.ask("GET", "/registry/stats")).json
    assert stats["capabilities"]["mostUsed"][0] == {"name": "wait", "requests": 16}
    assert stats["performance"]["requestsPerSecond"] > 0
    prefix = "mcp_discovery_sidecar_tool_calls_total"
    assert await measured.figure(f'{prefix}{{tool="wait",outcome="ok"}}') == 16
    assert await measured.figure(f'{prefix}{{tool="fail",outcome="error"}}') == 2


async def test_requests_under_way_and_what_is_recommended(measured: Measured) -> None:
    async with calling(measured.url, "wait", {"seconds": 12}, 18):
        shown = await measured.shown(
            "/load-balancing/distribution", lambda it: it["connections"][0].get("load", 0) > 0.8
        )
        assert shown["connections"] == [
            {"id": "busy-1", "name": "busy", "load": 0.9, "activeRequests": 18, "capacity": 20}
        ]
        assert shown["recommendations"][0]["action"] == "scale-up"
        assert (await measured.diagnostics())["activeRequests"] == 18
        assert await measured.figure("mcp_discovery_sidecar_active_requests") == 18
    await measured.connection(lambda it: it["activeConnections"] == 0)


async def test_memory_and_processor_use_of_the_process(measured: Measured) -> None:
    before = await measured.diagnostics()
    async with Client(measured.url) as client:
        await client.call_tool("hold", {"size": 150_000_000})
        async with asyncio.timeout(40):
            while (now := await measured.diagnostics()).get("cpuUsage", 0) < 20:
                await client.call_tool("work", {"seconds": 0.5})
    assert now["processRunning"] is True
    held = float(now["memoryUsage"].removesuffix("MB"))
    assert held - float(before.get("memoryUsage", "0MB").removesuffix("MB")) > 100
    assert held < 400
    assert await measured.figure("mcp_discovery_sidecar_child_cpu_seconds_total") > 1
    assert await measured.figure("mcp_discovery_sidecar_child_resident_memory_bytes") > 150e6
    assert await measured.figure("mcp_discovery_sidecar_child_restarts_total") == 0


async def test_a_process_that_is_gone_does_not_run(measured: Measured) -> None:
    await measured.connection(lambda it: "requestsPerMinute" in it)
    async with Client(measured.url) as client:
        with pytest.raises(Exception, match="exit code 7"):
            await client.call_tool("end", {"code": 7})
    await measured.shown("/servers/busy-1", lambda it: it["status"] == "down")
    await measured.shown("/servers/busy-1", lambda it: it["status"] == "healthy")
    assert await measured.figure("mcp_discovery_sidecar_child_restarts_total") >= 1
    metrics = (await measured.connection(lambda it: it.get("errorRate", 0) > 0))["metrics"]
    assert metrics["totalRequests"] >= 1


LEGACY = (sys.executable, "-m", "tests.sidecar.bridge.asking_server")


@pytest.mark.parametrize(
    "measured", [{"sessions": "each", "command": LEGACY, "max_sessions": 7}], indirect=True
)
async def test_every_sessions_own_process_counts(measured: Measured) -> None:
    prefix = "mcp_discovery_sidecar"

    async def processes(number: int) -> None:
        async def counted() -> bool:
            return await measured.figure(f"{prefix}_child_processes") == number

        await until(counted, timeout=15, what=f"{number} processes")

    await processes(1)
    alone = await measured.figure(f"{prefix}_child_resident_memory_bytes")
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(Client(measured.url, mode="legacy"))
        await processes(4)
        assert await measured.figure(f"{prefix}_sessions") == 3
        assert await measured.figure(f"{prefix}_child_resident_memory_bytes") > 2 * alone
    await processes(1)
    assert await measured.figure(f"{prefix}_sessions") == 0
    shown = await measured.shown(
        "/load-balancing/distribution", lambda it: "capacity" in it["connections"][0]
    )
    assert shown["connections"][0]["capacity"] == 7
