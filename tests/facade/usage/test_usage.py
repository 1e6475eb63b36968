"""Figures of use: sliding windows, what registrants report, and how both travel."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.state import FACADE
from mcp_discovery.facade.usage.usage import (
    CAPABILITY_REQUEST,
    HEALTH_CHECK,
    MOST_CAPABILITIES,
    Usage,
)
from mcp_discovery.health import Health, Load, Status, ToolUse
from mcp_discovery.usage_window import WINDOW, Window
from tests.facade.harness import QUICK, Client, leased, served
from tests.facade.plain import HealthServer
from tests.records import document, record
from tests.seeds import seeded
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer
from tests.stores.waiting import until


class FakeClock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 12_345.6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def usage(clock: FakeClock) -> Usage:
    return Usage(clock=clock)


# -- windows ----------------------------------------------------------------------------------


def nearest_rank(values: list[float], part: float) -> float:
    return sorted(values)[math.ceil(part * len(values)) - 1]


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100, 5000])
def test_p95_is_within_five_percent(count: int) -> None:
    chance = seeded(count)
    latencies = [chance.lognormvariate(-2, 1.5) for _ in range(count)]
    window = Window(0.0)
    for number, latency in enumerate(latencies):
        window.add(number * 250 / count, latency, True)
    p95 = window.figures(250.0).p95
    assert p95 == pytest.approx(nearest_rank(latencies, 0.95), rel=0.05)
    assert window.figures(250.0).latency == pytest.approx(sum(latencies) / count)


@pytest.mark.parametrize("latency", [0.0, 1e-9, 1e-4, 0.0011, 1.0, 599.0, 3600.0])
def test_any_latency_has_a_bucket(latency: float) -> None:
    window = Window(0.0)
    window.add(1.0, latency, True)
    assert window.figures(1.0).p95 == pytest.approx(min(max(latency, 1e-4), 600.0), rel=0.12)


def test_what_is_older_than_the_window_does_not_count(usage: Usage, clock: FakeClock) -> None:
    usage.outcome("a", latency=9.0, success=False)
    clock.now += WINDOW - 20
    usage.outcome("a", latency=1.0, success=True)
    assert usage.instance("a", None).error_rate == 0.5
    clock.now += 40
    figures = usage.instance("a", None)
    assert (figures.requests, figures.error_rate, figures.latency) == (2, 0.0, 1.0)
    clock.now += WINDOW
    # What was, is still counted; of the present nothing is known but that nothing happened.
    assert usage.instance("a", None) == Load(requests=2, rate=0.0)
    assert usage.whole() == Load(requests=2, rate=0.0)


def test_the_rate_is_per_minute_since_it_was_first_used(usage: Usage, clock: FakeClock) -> None:
    for _ in range(30):
        usage.outcome("a", latency=None, success=True)
    assert usage.instance("a", None).rate == 30.0  # in its first minute
    clock.now += 120
    assert usage.instance("a", None).rate == 15.0
    clock.now += 120
    assert usage.instance("a", None).rate == 7.5


def test_a_window_holds_no_more_however_much_it_counts() -> None:
    window = Window(0.0)
    for second in range(2000):
        for latency in (0.0002, 0.01, 0.5, 700.0):
            window.add(float(second), latency, True)
    assert len(window._slots) <= 31
    assert window.total == 8000


# -- what is known ----------------------------------------------------------------------------


def test_what_is_not_known_is_none(usage: Usage) -> None:
    nothing = Load(requests=0)
    assert (nothing.rate, nothing.latency, nothing.p95, nothing.ratio) == (None,) * 4
    assert usage.instance("a", None) == usage.capability("find") == usage.whole() == nothing
    assert usage.checks("a") == (0, 0, None, None)
    assert usage.load("a") is None
    usage.outcome("a", latency=None, success=True)
    figures = usage.instance("a", None)
    assert (figures.latency, figures.p95, figures.error_rate) == (None, None, 0.0)
    assert (figures.active, figures.capacity, figures.ratio) == (None, None, None)


def test_capabilities_and_the_whole_are_counted_too(usage: Usage) -> None:
    usage.outcome("a", latency=0.1, success=True, capability="find")
    usage.outcome("b", latency=0.3, success=False, capability="find")
    usage.outcome("b", latency=0.3, success=True, capability="sell")
    usage.outcome("b", latency=None, success=True)
    assert usage.capability("find").requests == 2
    assert usage.capability("find").latency == pytest.approx(0.2)
    assert usage.capability("find").error_rate == 0.5
    assert usage.whole().requests == 4
    assert usage.instance("b", None).requests == 3
    assert usage.capabilities() == ["find", "sell"]


def test_capabilities_are_bounded(usage: Usage) -> None:
    for number in range(MOST_CAPABILITIES):
        usage.outcome("a", latency=None, success=True, capability=str(number))
    usage.outcome("a", latency=None, success=True, capability="0")
    usage.outcome("a", latency=None, success=True, capability="new")
    assert len(usage.capabilities()) == MOST_CAPABILITIES
    assert usage.capability("1").requests == 0  # used longest ago
    assert usage.capability("0").requests == 2


def test_what_the_registrant_reports_counts_first(usage: Usage) -> None:
    usage.outcome("a", latency=0.2, success=False)
    figures = usage.instance("a", Load(active=3, capacity=12, rate=90.0, error_rate=0.0))
    assert (figures.active, figures.capacity, figures.ratio) == (3, 12, 0.25)
    assert (figures.rate, figures.error_rate) == (90.0, 0.0)
    assert figures.latency == pytest.approx(0.2)  # which it did not say
    assert usage.instance("a", Load(active=30, capacity=12)).ratio == 1.0
    assert usage.instance("a", Load(active=3)).ratio is None
    assert usage.instance("a", Load(active=0, capacity=0)).ratio is None


async def test_what_an_instance_counts_itself_does_not_count_twice() -> None:
    async with EmbeddedStore() as store:
        app = create_app(store, QUICK)
        usage, catalog = app[FACADE].usage, app[FACADE].catalog
        async with serving(app, "127.0.0.1", 0):
            await catalog.ready()
            tools = ToolUse("find", 80, 0.1), ToolUse("sell", 20), ToolUse("not offered", 99)
            loads = {
                "a": Load(requests=100, rate=60.0, latency=0.1, error_rate=0.1, tools=tools),
                "b": Load(requests=50, rate=30.0, latency=0.4, tools=(ToolUse("find", 20, 0.2),)),
                "c": Load(memory=1000),
            }
            for id, load in loads.items():
                offered = record(id, capabilities={"tools": ["find", "sell"]})
                kept = await store.register(offered, document("find"), ttl=60, reap_after=90)
                await kept.heartbeat(Health(Status.DEGRADED, "slow"), load)

            async def listed() -> bool:
                entries = catalog.view.entries
                return all(id in entries and entries[id].instance.load for id in loads)

            await until(listed, timeout=5, what="the loads")
            for id in loads:
                usage.outcome(id, latency=0.7, success=True, capability="find")
            await usage.count()
            found = usage.capability("find")
            assert (found.requests, usage.capability("sell").requests) == (101, 20)
            assert found.latency == pytest.approx((80 * 0.1 + 20 * 0.2 + 0.7) / 101)
            assert set(usage.capabilities()) == {"find", "sell"}
            assert usage.capability_requests() == {"find": 3}  # what clients chose
            whole = usage.whole()
            assert (whole.requests, whole.rate) == (151, 91.0)
            assert whole.latency == pytest.approx((60 * 0.1 + 30 * 0.4 + 0.7) / 91)
            assert usage.instance("a", loads["a"]) == replace(
                loads["a"], p95=usage.instance("a", None).p95
            )
            assert usage.instance("c", loads["c"]).requests == 1


def test_the_own_publication_is_not_taken_for_a_report(usage: Usage) -> None:
    usage.report_load("a", Load(active=1, capacity=4))
    usage.outcome("a", latency=0.2, success=True)
    published = usage.load("a")
    assert published is not None
    assert (published.active, published.capacity, published.latency) == (1, 4, 0.2)
    usage.outcome("a", latency=0.4, success=True)
    assert usage.instance("a", published).latency == pytest.approx(0.3)
    usage.forget_load("a")
    assert usage.instance("a", published).latency == 0.2


def test_probes_are_counted(usage: Usage) -> None:
    usage.probed("a", latency=0.05, success=True, status="healthy", reason="answers MCP")
    usage.probed("a", latency=None, success=False, status="down", reason="no answer within 5 s")
    performed, failed, last, response_time = usage.checks("a")
    assert (performed, failed, response_time) == (2, 1, 0.05)
    assert last is not None
    assert last.tzinfo is not None
    assert usage.instance("a", None) == Load(requests=0)  # a probe is no request


def test_listeners_are_told_of_both(usage: Usage) -> None:
    told: list[tuple[str, str, Any]] = []
    for each in (CAPABILITY_REQUEST, HEALTH_CHECK):
        usage.listen(each, lambda kind, id, data: told.append((kind, id, dict(data))))
    usage.outcome("a", latency=0.2, success=False, capability="find", error="timed out")
    usage.probed("b", latency=0.1, success=True, status="healthy", reason="answers MCP")
    assert told == [
        (
            "capability-request",
            "a",
            {"capability": "find", "latency": 0.2, "success": False, "error": "timed out"},
        ),
        (
            "health-check",
            "b",
            {"status": "healthy", "reason": "answers MCP", "latency": 0.1, "success": True},
        ),
    ]


def test_what_has_left_is_forgotten_at_the_second_look(usage: Usage) -> None:
    for id in ("a", "b"):
        usage.outcome(id, latency=None, success=True)
        usage.probed(id, latency=None, success=False, status="down", reason="gone")
    usage.forget_missing({"a"})
    assert usage.instance("b", None).requests == 1
    usage.forget_missing({"a", "b"})
    usage.forget_missing({"a"})
    usage.forget_missing({"a"})
    assert usage.instance("b", None) == Load(requests=0)
    assert usage.checks("b") == (0, 0, None, None)
    assert usage.instance("a", None).requests == 1
    assert usage.whole().requests == 2


# -- in a facade ------------------------------------------------------------------------------


@asynccontextmanager
async def plain_server() -> AsyncIterator[HealthServer]:
    server = HealthServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def posted(id: str, plain: HealthServer) -> dict[str, Any]:
    return {"id": id, "name": "products", "url": plain.base_url, "healthUrl": plain.health_url}


async def test_the_facades_probes_are_counted() -> None:
    async with EmbeddedStore() as store, plain_server() as plain:
        app = create_app(store, QUICK)
        usage = app[FACADE].usage
        told: list[tuple[str, str]] = []
        for each in (CAPABILITY_REQUEST, HEALTH_CHECK):
            usage.listen(each, lambda kind, id, data: told.append((kind, id)))
        async with serving(app, "127.0.0.1", 0) as url, aiohttp.ClientSession() as session:
            await app[FACADE].catalog.ready()
            ask = Client(url, session)
            assert (await ask("POST", "/servers", posted("b", plain))).status == 201
            performed, failed, _, response_time = usage.checks("b")
            assert (performed, failed) == (1, 0)
            assert response_time is not None
            assert 0 < response_time < 0.5
            assert told == [("health-check", "b")]
            plain.status = 500

            async def failed_some() -> bool:
                return usage.checks("b")[1] >= 2

            await until(failed_some, timeout=5, what="two failed checks")
            stdio = {"id": "s", "name": "files", "transport": "stdio", "command": "x"}
            assert (await ask("POST", "/servers", stdio)).status == 201
            assert usage.checks("s") == (0, 0, None, None)  # nothing was asked


@pytest.fixture(params=["consul", "etcd"])
def store_url(request: pytest.FixtureRequest, namespace: str) -> str:
    """The URL of an empty place in a real store."""
    server: ConsulServer | EtcdServer = request.getfixturevalue(f"{request.param}_server")
    return f"{server.store_url}/{namespace}"


async def loaded(ask: Client, id: str, figure: str) -> dict[str, Any]:
    """The load that the list shows of ``id``, once it has that figure."""

    async def it() -> dict[str, Any] | None:
        load: dict[str, Any] = (await ask("GET", f"/servers/{id}")).json.get("load", {})
        return load if figure in load else None

    found = await until(it, timeout=15, what=f"{id} having a {figure}")
    assert found is not None
    return found


async def test_load_reported_at_one_is_seen_at_the_other(store_url: str) -> None:
    async with (
        plain_server() as plain,
        open_store(store_url) as first,
        open_store(store_url) as second,
        served(first, settle=5.0, posted_ttl=10.0) as one,
        served(second, settle=5.0) as two,
    ):
        assert (await one("POST", "/servers", posted("kept", plain))).status == 201
        assert (await one("POST", "/servers", leased("held", capabilities=["find"]))).status == 201
        for latency, success in ((100, True), (300, False)):
            told = {"latency": latency, "success": success}
            assert (await one("POST", "/connections/kept/outcome", told)).status == 204
        of_one = {"latency": 50, "success": True, "capability": "find"}
        assert (await one("POST", "/servers/held/outcome", of_one)).status == 204

        load = await loaded(two, "kept", "latency")
        assert load["latency"] == pytest.approx(0.2)
        assert load["errorRate"] == 0.5
        assert load["p95"] == pytest.approx(0.3, rel=0.05)
        assert load["rate"] > 0
        assert "active" not in load  # nobody said

        async def beaten() -> bool:
            body = {"load": {"active": 3, "capacity": 12}}
            assert (await one("POST", "/servers/held/heartbeat", body)).status == 200
            return "load" in (await two("GET", "/servers/held")).json

        await until(beaten, timeout=15, what="the load of the leased one")
        load = await loaded(two, "held", "active")
        assert (load["active"], load["capacity"]) == (3, 12)
        assert load["latency"] == pytest.approx(0.05)


async def test_what_a_sidecar_measures_is_seen_at_a_facade_of_its_store(store_url: str) -> None:
    tools = (ToolUse("find", 12, 0.1),)
    load = Load(3, 20, 45.0, 0.12, 0.3, 0.002, 523, 45_300_000, 0.125, True, tools)
    offered = record("a", capabilities={"tools": ["find"]})
    async with (
        open_store(store_url) as first,
        open_store(store_url) as second,
        served(second, settle=5.0) as ask,
    ):
        kept = await first.register(offered, document("find"), ttl=60, reap_after=90)
        for health in (Health(Status.DEGRADED, "slow"), Health(Status.HEALTHY, "answers MCP")):
            await kept.heartbeat(health, load)  # a load goes at once with another health

        async def listed() -> bool:
            shown = (await ask("GET", "/servers/a")).json
            return shown.get("status") == "healthy" and "load" in shown

        await until(listed, timeout=15, what="the load")
        checked = (await ask("POST", "/connections/a/health-check")).json
        told = {"memoryUsage": "45MB", "cpuUsage": 12.5, "activeRequests": 3}
        # Nothing answers at its URL, and its sidecar still says that its process runs.
        assert checked["diagnostics"] == {"processRunning": True} | told
        metrics = (await ask("GET", "/connections/a")).json["metrics"]
        assert metrics == {
            "requestsPerMinute": 45,
            "averageLatency": 120,
            "activeConnections": 3,
            "totalRequests": 523,
            "errorRate": 0.002,
            "successRate": 0.998,
            "p95Latency": 300,
        }
        (share,) = (await ask("GET", "/load-balancing/distribution")).json["connections"]
        assert (share["load"], share["activeRequests"], share["capacity"]) == (0.15, 3, 20)
        found = (await ask("POST", "/connections/discover", {"loadBalancing": {}})).json
        assert [each["load"] for each in found["connections"]] == [0.15]
        (tool,) = (await ask("GET", "/capabilities")).json["capabilities"]
        assert (tool["totalRequests"], tool["averageLatency"]) == (12, 100)
