"""The instance's spelling in JSON, and strangers' attempts at it."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.errors import DiscoveryError, InvalidRecordError
from mcp_discovery.health import MOST_TOOLS, Health, Load, Status, ToolUse, utcnow
from mcp_discovery.instance import (
    Holder,
    Instance,
    Lease,
    decode_registration,
    encode_registration,
    instance_from_dict,
    instance_to_dict,
    load_from_dict,
    load_to_dict,
    public_holder,
)
from mcp_discovery.record import parse_moment
from tests.records import record

LEASE = Lease(Holder(public_holder("abc"), "web-3", "sidecar"), 10.5, 300)


FULL = Load(
    active=3,
    capacity=20,
    rate=90.5,
    latency=0.12,
    p95=0.3,
    error_rate=0.02,
    requests=1234,
    memory=45_000_000,
    cpu=0.125,
    running=False,
    tools=(ToolUse("find", 1000, 0.1), ToolUse("sell", 234)),
)


def test_a_registration_round_trips() -> None:
    data = encode_registration(record(), LEASE)
    assert decode_registration(data) == (record().model_copy(update=_times(data)), LEASE)
    assert str(LEASE.holder) == "a sidecar on web-3"


def _times(data: bytes) -> dict[str, Any]:
    return {"registered_at": decode_registration(data)[0].registered_at}


def test_an_instance_round_trips() -> None:
    made = Instance(record(), Health(Status.DEGRADED, "slow"), LEASE, FULL)
    entry = instance_to_dict(made)
    assert instance_from_dict(orjson.loads(orjson.dumps(entry))) == made
    # The seed's names, flat.
    assert {"id", "name", "description", "url", "version", "tags", "auth", "lastSeen", "status"} < (
        entry.keys()
    )


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan, 10**400, "7", True, None, [7], {}])
def test_a_figure_that_cannot_be_true_is_none(value: object) -> None:
    told = load_to_dict(FULL)
    numbers = {name: value for name in told if name not in ("running", "tools")}
    assert load_from_dict(numbers) is None
    assert load_from_dict({"errorRate": 1.1, "running": 1, "tools": [7]}) is None
    uses = {"find": {"requests": value}, "sell": {"requests": 1, "latency": value}, "x": value}
    assert load_from_dict({"tools": uses}) == Load(tools=(ToolUse("sell", 1),))


def test_a_load_has_room_for_so_many_tools() -> None:
    many = {f"tool-{number}": {"requests": number} for number in range(1000)}
    load = load_from_dict({"tools": many})
    assert load is not None and len(load.tools) == MOST_TOOLS
    assert (load.tools[0], load.tools[-1].requests) == (ToolUse("tool-999", 999), 984)
    load = load_from_dict({"tools": {f"{n}{'ä' * 200}": {"requests": 1} for n in range(99)}})
    assert load is not None and len(load.tools) == 1
    assert load_from_dict({"tools": {"a\x00": {"requests": 1}}}) is None
    assert load_from_dict(load_to_dict(FULL)) == FULL


@pytest.mark.parametrize(
    "change",
    [
        {"lease": None},
        {"lease": []},
        {"lease": LEASE.to_dict() | {"ttl": "10"}},
        {"lease": LEASE.to_dict() | {"ttl": True}},
        {"lease": LEASE.to_dict() | {"ttl": 0}},
        {"lease": LEASE.to_dict() | {"ttl": 1e300}},
        {"lease": LEASE.to_dict() | {"by": "stranger"}},
        {"lease": LEASE.to_dict() | {"holder": ""}},
        {"lease": LEASE.to_dict() | {"host": 7}},
    ],
    ids=str,
)
def test_a_malformed_lease(change: dict[str, Any]) -> None:
    data = orjson.loads(encode_registration(record(), LEASE)) | change
    with pytest.raises(InvalidRecordError, match="lease"):
        decode_registration(orjson.dumps(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_registration_or_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(DiscoveryError):
        decode_registration(data)


def test_health_keeps_since_while_the_status_stays() -> None:
    first = Health(Status.HEALTHY, "answers MCP")
    same = first.then(Status.HEALTHY, "answers MCP")
    other = same.then(Status.DOWN, "refused", heard=False)
    assert same.since == first.since
    assert same == first
    assert other.since >= first.since
    assert other.last_seen == same.last_seen
    assert utcnow().microsecond % 1000 == 0


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_moments_that_utc_cannot_hold(moment: str) -> None:
    """They parse, and would break whoever spells them anew: the catalog, for every reader."""
    with pytest.raises(ValueError, match="out of range"):
        parse_moment(moment)
    with pytest.raises(InvalidRecordError, match="registeredAt"):
        record(registeredAt=moment)
