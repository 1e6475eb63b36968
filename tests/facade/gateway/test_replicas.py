"""Which replica is asked first."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mcp_discovery.adapters.store import new_holder
from mcp_discovery.adapters.view import Entry
from mcp_discovery.facade.gateway.replicas import Replicas
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.instance import Instance, Lease
from tests.records import record


def entry(id: str, status: Status = Status.HEALTHY, **more: Any) -> Entry:
    """An entry with a record of these fields."""
    health = healthy() if status is Status.HEALTHY else Health(status, "so")
    return Entry(Instance(record(id, **more), health, Lease(new_holder("sidecar"), 60.0, 60.0)))


def first(replicas: Replicas, entries: list[Entry], protocol: str | None = None) -> str:
    return replicas.ordered(entries, protocol)[0].id


def test_weight_decides_between_idle_ones() -> None:
    replicas = Replicas()
    entries = [entry("a", weight=1), entry("b", weight=3), entry("c", weight=0)]
    drawn = Counter(first(replicas, entries) for _ in range(4000))
    assert 2.4 < drawn["b"] / drawn["a"] < 3.7
    assert drawn["c"] == 0
    assert [each.id for each in replicas.ordered(entries, None)][-1] == "c"


def test_the_least_busy_for_its_weight_comes_first() -> None:
    replicas = Replicas()
    entries = [entry("a", weight=1), entry("b", weight=2)]
    with replicas.using("a"), replicas.using("b"):
        assert {first(replicas, entries) for _ in range(20)} == {"b"}
        with replicas.using("b"), replicas.using("b"):
            assert {first(replicas, entries) for _ in range(20)} == {"a"}
            assert len(replicas) == 4
    assert len(replicas) == 0


def test_degraded_ones_and_those_just_not_reached_come_last() -> None:
    now = 100.0
    replicas = Replicas(clock=lambda: now)
    entries = [entry("a"), entry("b", Status.DEGRADED)]
    with replicas.using("a"):
        assert first(replicas, entries) == "a"
    replicas.record_connection("a", ok=False)
    assert first(replicas, entries) == "b"
    now += 5.1
    assert first(replicas, entries) == "a"
    replicas.record_connection("a", ok=False)
    replicas.record_connection("a", ok=True)
    assert first(replicas, entries) == "a"


def test_one_that_speaks_the_protocol_comes_before_one_that_may_not() -> None:
    replicas = Replicas()
    modern = entry("a", protocol={"versions": ["2026-07-28"], "era": "modern"})
    entries = [modern, entry("b", protocol={"versions": ["2025-11-25"], "era": "legacy"})]
    assert {first(replicas, entries, "2026-07-28") for _ in range(20)} == {"a"}
    assert {first(replicas, entries, None) for _ in range(40)} == {"a", "b"}
