"""Version ranges, uptime, and which filters an instance fails."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from mcp_discovery.health import Health, Status, utcnow
from mcp_discovery.instance import Holder, Instance, Lease
from mcp_discovery.query.filters import uptime
from mcp_discovery.query.query import Query
from mcp_discovery.query.versions import VersionRange, precedence
from tests.records import record

LEASE = Lease(Holder("h", "host", "sidecar"), 10, 60)
NOW = utcnow()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2,<2", ["1.2.0", "1.99.0"], ["1.1.9", "2.0.0"]),
        (" >= 1.2 , < 2 ", ["1.2.0"], ["2.0.0"]),
        (">=1.2 <2", ["1.2.0"], ["2.0.0"]),
        ("^1.2", ["1.9.0"], ["2.0.0", "1.1.0"]),
        ("~1.2", ["1.2.9"], ["1.3.0"]),
        ("~=1.4.2", ["1.4.9"], ["1.5.0"]),
        ("1.x || >=2.5", ["1.0.0", "2.5.0"], ["2.4.9"]),
        ("1.2 - 2.3", ["2.3.9"], ["2.4.0"]),
        ("1.2.3", ["1.2.3"], ["1.2.4"]),
        ("*", ["0.0.0"], []),
        (">=2.0.0-rc.1", ["2.0.0-rc.2", "2.0.0"], ["2.0.0-beta"]),
    ],
)
def test_ranges(text: str, inside: list[str], outside: list[str]) -> None:
    found = VersionRange.parse(text)
    assert all(version in found for version in inside)
    assert not any(version in found for version in outside)


@pytest.mark.parametrize("text", ["", "latest", ">=", "1.2.3.4", ">=1,,<2", "1" * 201, "\0"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError):
        VersionRange.parse(text)


def test_precedence_is_semvers_own() -> None:
    given = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.10.0"]
    mixed = random.Random(1).sample(given, len(given))
    assert sorted(mixed, key=precedence) == given
    assert precedence("1.0.0+a") == precedence("1.0.0+b")


def test_failed_filters_are_named_as_parameters_are() -> None:
    one = Instance(record("a"), Health(Status.DOWN, "refused", NOW, NOW), LEASE)
    query = Query(
        tags="x",
        capability="find",
        tool="find",
        skill="refunds",
        name="x",
        transport="stdio",
        version={VersionRange.parse(">9")},
        zone="x",
        owner="x",
        min_uptime=1,
    )
    names = "status name transport zone owner tags tool skill capability version min_uptime"
    assert query.failed(one, NOW) == names.split()
    assert Query(status=()).failed(one, NOW) == []
    assert Query(status=()).matches(one)
    assert not query.matches(one)


def test_servers_that_have_every_wanted_skill() -> None:
    skills = ["refunds", "git-workflow"]
    capabilities = {"tools": ["find"], "skills": skills}
    one = Instance(
        record("a", capabilities=capabilities), Health(Status.HEALTHY, "", NOW, NOW), LEASE
    )
    assert Query(skill="refunds").matches(one)
    assert Query(skill=skills).matches(one)
    assert Query(capability=["find", "refunds"]).matches(one)
    assert not Query(skill=["refunds", "other"]).matches(one)
    assert not Query(skill="find").matches(one)


def test_uptime_counts_from_since_and_not_while_down() -> None:
    later = NOW + timedelta(seconds=90)
    for status in Status:
        one = Instance(record("a"), Health(status, "", NOW, NOW), LEASE)
        assert uptime(one, later) == (0 if status is Status.DOWN else 90)
        assert uptime(one, NOW - timedelta(seconds=9)) == 0
