"""A node that Consul calls failed for a moment, and one that it goes on calling so."""

from __future__ import annotations

import base64
import time

import pytest

from adapters.consul import listing
from adapters.consul.checks import Place
from adapters.consul.kv import Entry
from adapters.consul.listing import Listing
from adapters.skipped import Skipped
from mcp_discovery.health import Status
from mcp_discovery.instance import Holder, Lease, encode_registration
from tests.adapters.consul.test_checks import HEALTHY, HOLDER, SERF, beat, check, told
from tests.records import record

PLACE = Place("n", "a-1")
FAILED = check("serfHealth", "critical", ServiceID="")


def listing_of_one(serf: dict[str, object]) -> Listing:
    one = Listing("mcp/servers/", Skipped("consul://here"), {})
    lease = Lease(Holder(HOLDER, "host", "sidecar"), 10.0, 60.0)
    raw = base64.b64encode(encode_registration(record("a-1", name="a"), lease)).decode()
    one.feed_records([Entry("mcp/servers/a/a-1", raw, 7)])
    one.feed_services({PLACE: [beat(), told(HEALTHY), serf]})
    return one


def status(one: Listing) -> Status:
    return one.instances()["a-1"].health.status


def test_a_node_that_failed_for_a_moment_takes_nobody_down() -> None:
    one = listing_of_one(SERF)
    assert status(one) is Status.HEALTHY
    one.feed_services({PLACE: [beat(), told(HEALTHY), FAILED]})
    assert status(one) is Status.HEALTHY
    assert one.due <= time.monotonic() + listing.UNREACHABLE_FOR
    one.feed_services({PLACE: [beat(), told(HEALTHY), SERF]})
    assert status(one) is Status.HEALTHY


def test_a_node_that_stays_failed_does(monkeypatch: pytest.MonkeyPatch) -> None:
    one = listing_of_one(SERF)
    assert status(one) is Status.HEALTHY
    one.feed_services({PLACE: [beat(), told(HEALTHY), FAILED]})
    assert status(one) is Status.HEALTHY
    monkeypatch.setattr(listing, "UNREACHABLE_FOR", 0.0)
    assert status(one) is Status.DOWN
    monkeypatch.undo()
    assert status(one) is Status.DOWN  # and it does not flicker


def test_a_node_that_had_failed_before_is_not_waited_for() -> None:
    assert status(listing_of_one(FAILED)) is Status.DOWN
