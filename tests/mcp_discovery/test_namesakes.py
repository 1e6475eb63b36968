"""Which instances of one name are replicas of one server, and which server has the name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mcp_discovery.adapters.store import new_holder
from mcp_discovery.health import Health, Status, rfc3339, utcnow
from mcp_discovery.instance import Instance, Lease
from mcp_discovery.namesakes import by_server, why_different
from tests.records import record

_LEASE = Lease(new_holder("sidecar"), 60.0, 60.0)


def calling_itself(name: str) -> dict[str, Any]:
    return {"protocol": {"serverInfo": {"name": name, "version": "1"}}}


def offering(*tools: str) -> dict[str, Any]:
    return {"capabilities": {"tools": tools}}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (calling_itself("C++ Docs"), calling_itself("C# Docs"), "calls itself 'C++ Docs'"),
        ({"registryName": "a.example/docs"}, {"registryName": "b.example/docs"}, "in registries"),
        (offering("find"), offering("fetch", "read"), "no tool in common"),
        (
            calling_itself("FastMCP") | offering("find"),
            calling_itself("FastMCP") | offering("fetch"),
            "no tool in common",
        ),
    ],
)
def test_different_servers(one: dict[str, Any], other: dict[str, Any], why: str) -> None:
    assert why in str(why_different(record("a", **one), record("b", **other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (offering("find"), offering("find", "fetch") | {"version": "2.0.0"}),
        (offering(), offering("find")),
        (calling_itself("docs"), {}),
        # The publisher was told to one of them first.
        ({"registryName": "a.example/docs"}, {}),
        ({"title": "Docs", "zone": "eu"}, {"title": "Docs of all"}),
    ],
)
def test_replicas(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert why_different(record("a", **one), record("b", **other)) is None


def test_the_name_is_of_the_first_that_stays_and_is_vouched_for_and_number_is_nothing() -> None:
    now = utcnow()

    def made(id: str, server: str, age: int, status: Status = Status.HEALTHY) -> Instance:
        since = rfc3339(now - timedelta(seconds=age))
        given = record(id, registeredAt=since, **calling_itself(server))
        return Instance(given, Health(status, "so"), _LEASE)

    def owner(*instances: Instance) -> list[str]:
        return [each.id for each in by_server(instances, lambda each: each)[0]]

    old, young = made("old", "one", 60), made("young", "two", 5)
    assert owner(young, old) == ["old"]
    assert owner(old, young, made("more", "two", 1)) == ["old"]
    assert owner(made("old", "one", 60, Status.DRAINING), young) == ["young"]
    # A server that is down may come back, and what it was asked for is not the other's.
    assert owner(made("old", "one", 60, Status.DOWN), young) == ["old"]
    assert by_server([], lambda each: each) == []
    claims = replace(_LEASE, holder=replace(_LEASE.holder, claims=True))
    assert owner(replace(old, lease=claims), young) == ["young"]
    found = replace(claims, holder=replace(claims.holder, probed=True))
    assert owner(replace(old, lease=found), young) == ["old"]
    quarantined = replace(old, health=Health(Status.QUARANTINED, "so"))
    assert owner(quarantined, young) == ["young"]
