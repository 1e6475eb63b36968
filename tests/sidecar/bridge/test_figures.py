"""What a bridge counts, and what of it is reported."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import tracemalloc

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcp_discovery.health import MOST_TOOLS
from mcp_discovery.sidecar.bridge.figures import MOST_LABELS, OTHERS, BridgeFigures
from mcp_discovery.sidecar.metrics import exposition


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 12_345.6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def call(figures: BridgeFigures, clock: Clock, took: float, tool: str, *, failed: bool) -> None:
    with figures.request("tools/call", tool) as request:
        clock.now += took
        request.failed = failed


def test_what_is_reported(clock: Clock) -> None:
    figures = BridgeFigures(lambda: [os.getpid()])
    for number in range(20):
        call(figures, clock, 0.1, "find", failed=number < 2)
    for _ in range(20):
        with figures.request("resources/read"):
            clock.now += 0.3
    load = figures.load()
    assert (load.requests, load.rate, load.error_rate) == (40, 40.0, 0.05)
    assert load.latency == pytest.approx(0.2)
    assert load.p95 == pytest.approx(0.3, rel=0.05)
    assert [(each.name, each.requests) for each in load.tools] == [("find", 20)]
    assert load.tools[0].latency == pytest.approx(0.1)
    assert (load.active, load.capacity, load.running) == (1, 20, True)
    assert load.memory is not None and load.memory > 1_000_000
    clock.now += 400
    load = figures.load()
    assert (load.active, load.requests, load.rate, load.latency) == (0, 40, 0.0, None)
    assert (load.p95, load.error_rate) == (None, None)


def test_of_an_idle_bridge_it_is_known_that_nothing_happens() -> None:
    load = BridgeFigures().load()
    assert (load.active, load.requests, load.rate, load.tools) == (0, 0, 0.0, ())
    assert (load.latency, load.p95, load.error_rate, load.memory) == (None, None, None, 0)


def test_an_exception_is_a_failure_and_a_cancellation_is_nothing(clock: Clock) -> None:
    figures = BridgeFigures()
    with pytest.raises(ValueError), figures.request("tools/call", "find"):
        raise ValueError
    with pytest.raises(asyncio.CancelledError), figures.request("tools/call", "find"):
        raise asyncio.CancelledError
    for method in ("subscriptions/listen", "ping", "initialize", "server/discover"):
        with figures.request(method):
            assert figures.active == 0
            clock.now += 3600
    assert figures.active == 0
    load = figures.load()
    assert (load.requests, load.tools[0].requests) == (1, 1)
    told = exposition(({}, figures.families()))
    for outcome, number in (("ok", 0), ("error", 1), ("cancelled", 1)):
        series = f'mcp_discovery_sidecar_tool_calls_total{{tool="find",outcome="{outcome}"}}'
        assert f"{series} {number}\n" in told


def test_requests_in_flight_are_those_of_the_time_between_two_reports(clock: Clock) -> None:
    figures = BridgeFigures()
    slow = [figures.request("tools/call", "slow") for _ in range(3)]
    for each in slow:
        each.__enter__()
    clock.now += 1.6
    assert figures.load().active == 3
    for each in slow:
        each.__exit__(None, None, None)
    # Short ones are a half on average, whatever there are at the moment of the report.
    reported = set()
    for _ in range(100):
        for _ in range(80):
            call(figures, clock, 0.01, "quick", failed=False)
            clock.now += 0.01
        with figures.request("tools/call", "quick"):
            reported.add(figures.load().active)
    assert reported == {0}


def test_tools_are_told_apart_as_far_as_they_are_offered(clock: Clock) -> None:
    figures = BridgeFigures()
    call(figures, clock, 0.1, "invented-early", failed=True)
    figures.offer(f"tool-{number}" for number in range(400))
    for number in range(400):
        call(figures, clock, 0.1, f"tool-{number}", failed=False)
        call(figures, clock, 0.1, f"invented-{number}", failed=True)
    for _ in range(5):
        call(figures, clock, 0.1, "tool-7", failed=False)
    told = exposition(({}, figures.families()))
    families = {each.name: each for each in text_string_to_metric_families(told)}
    samples = families["mcp_discovery_sidecar_tool_calls"].samples
    calls = {
        (each.labels["tool"], each.labels["outcome"]): each.value
        for each in samples
        if each.name.endswith("_total")
    }
    names = {tool for tool, _ in calls}
    assert len(names) == MOST_LABELS and OTHERS in names
    assert not any(name.startswith("invented") for name in names)
    assert calls["tool-7", "ok"] == 6
    assert calls[OTHERS, "error"] == 400
    assert sum(calls.values()) == 805
    load = figures.load()
    assert len(load.tools) == MOST_TOOLS
    assert (load.tools[0].name, load.tools[0].requests) == ("tool-7", 6)
    assert OTHERS not in {each.name for each in load.tools}


def test_memory_does_not_grow_with_requests(clock: Clock) -> None:
    figures = BridgeFigures()

    def many() -> None:
        for number in range(20_000):
            clock.now += 0.02
            call(figures, clock, 0.01, f"tool-{number % 300}", failed=False)

    many()
    tracemalloc.start()
    try:
        many()
        before = tracemalloc.get_traced_memory()[0]
        many()
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


def test_figures_for_prometheus(clock: Clock) -> None:
    figures = BridgeFigures(restarts=lambda: 2)
    figures.sessions = lambda: 7
    call(figures, clock, 0.1, 'a"b\\c\nd', failed=False)
    told = exposition(({"name": "shop"}, figures.families()))
    families = {each.name: each for each in text_string_to_metric_families(told)}
    for name, value in (("sessions", 7), ("child_restarts", 2), ("active_requests", 0)):
        (sample,) = families[f"mcp_discovery_sidecar_{name}"].samples
        assert (sample.value, sample.labels["name"]) == (value, "shop")
    took = families["mcp_discovery_sidecar_tool_call_duration_seconds"].samples
    assert [(each.name[-4:], each.labels["tool"]) for each in took] == [
        ("ount", 'a"b\\c\nd'),
        ("_sum", 'a"b\\c\nd'),
    ]
    buckets = families["mcp_discovery_sidecar_request_duration_seconds"].samples
    counts = {each.labels.get("le"): each.value for each in buckets}
    assert (counts["0.05"], counts["0.25"], counts["+Inf"]) == (0, 1, 1)


def test_a_request_costs_little() -> None:
    figures = BridgeFigures()
    best = sys.float_info.max
    for _ in range(5):
        began = time.thread_time()
        for _ in range(2000):
            with figures.request("tools/call", "find"):
                pass
        best = min(best, (time.thread_time() - began) / 2000)
    assert best < 50e-6
