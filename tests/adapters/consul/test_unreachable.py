"""What Consul says for a moment, and what it goes on saying: of a node that it calls failed, of
heartbeats that lapse together."""

from __future__ import annotations

import base64
import time

import pytest

from mcp_discovery.adapters.consul import checks, listing
from mcp_discovery.adapters.consul.checks import ServicePlace
from mcp_discovery.adapters.consul.kv import KVPair
from mcp_discovery.adapters.consul.listing import ConsulListing, WatchMemory
from mcp_discovery.adapters.skipped_keys import SkippedKeys
from mcp_discovery.health import Status
from mcp_discovery.instance import Holder, Lease, encode_registration
from tests.adapters.consul.test_checks import HEALTHY, HOLDER, SERF, beat, check, told
from tests.records import record

PLACE = ServicePlace("n", "a-1")
FAILED = check("serfHealth", "critical", ServiceID="")


def listing_of_one(serf: dict[str, object]) -> ConsulListing:
    one = ConsulListing("mcp/servers/", SkippedKeys("consul://here"), WatchMemory())
    lease = Lease(Holder(HOLDER, "host", "sidecar"), 10.0, 60.0)
    raw = base64.b64encode(encode_registration(record("a-1", name="a"), lease)).decode()
    one.feed_records([KVPair("mcp/servers/a/a-1", raw, 7)])
    one.feed_services({PLACE: [beat(), told(HEALTHY), serf]})
    return one


def status(one: ConsulListing) -> Status:
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


IDS = ("a-1", "a-2", "a-3")


def listing_of_three(memory: WatchMemory | None = None) -> ConsulListing:
    one = ConsulListing("mcp/servers/", SkippedKeys("consul://here"), memory or WatchMemory())
    hold(one)
    if memory is None:
        lapse(one)
        assert down(one) == set()
    return one


def hold(one: ConsulListing, *ended: str) -> None:
    """Feeds it records, of which the sessions of ``ended`` have ended."""
    lease = Lease(Holder(HOLDER, "host", "sidecar"), 10.0, 60.0)
    entries = []
    for modified, id in enumerate(IDS, 7 + 10 * len(ended)):
        raw = base64.b64encode(encode_registration(record(id, name="a"), lease)).decode()
        session = "" if id in ended else "one"
        entries.append(KVPair(f"mcp/servers/a/{id}", raw, modified, session, guarded=True))
    one.feed_records(entries)


def lapse(one: ConsulListing, *silent: str) -> None:
    """Feeds it an answer in which the heartbeats of ``silent`` have lapsed."""
    last = beat("critical", f"TTL expired ({checks._QUOTED}): {checks.heartbeat_output(HOLDER)}")
    one.feed_services(
        {
            ServicePlace("n", id): [
                own(last if id in silent else beat(), id),
                own(told(HEALTHY), id),
            ]
            for id in IDS
        }
    )


def own(of_a_1: dict[str, object], id: str) -> dict[str, object]:
    """The check of ``a-1`` as that of ``id``."""
    return {**of_a_1, "CheckID": str(of_a_1["CheckID"]).replace("a-1", id), "ServiceID": id}


def down(one: ConsulListing) -> set[str]:
    return {id for id, each in one.instances().items() if each.health.status is Status.DOWN}


def test_heartbeats_that_lapse_together_for_a_moment_take_nobody_down() -> None:
    one = listing_of_three()
    lapse(one, *IDS)
    assert down(one) == set()
    assert one.due <= time.monotonic() + listing.LAPSED_FOR
    lapse(one, "a-2")  # one has not come through yet
    assert down(one) == set()
    lapse(one)
    assert down(one) == set()


def test_nor_when_the_next_watch_sees_it_first() -> None:
    memory = WatchMemory()
    before = listing_of_three(memory)
    lapse(before)
    assert down(before) == set()
    after = listing_of_three(memory)
    lapse(after, *IDS)
    assert down(after) == set()
    lapse(after)
    assert down(after) == set()


def test_heartbeats_of_many_that_stay_away_make_them_degraded_and_then_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = listing_of_three()
    lapse(one, *IDS)
    assert down(one) == set()
    monkeypatch.setattr(listing, "LAPSED_FOR", 0.0)
    assert {each.health.status for each in one.instances().values()} == {Status.DEGRADED}
    assert one.due <= time.monotonic() + listing.IN_DOUBT
    monkeypatch.setattr(listing, "IN_DOUBT", 0.0)
    assert down(one) == set(IDS)


def test_those_that_lapse_one_after_another_are_not_taken_down_one_after_another() -> None:
    one = listing_of_three()
    lapse(one, "a-1")
    assert down(one) == {"a-1"}
    lapse(one, "a-1", "a-2")
    assert down(one) == {"a-1"}
    lapse(one, *IDS)
    assert down(one) == set()
    assert one.instances()["a-1"].health.status is Status.DEGRADED


def test_heartbeats_of_two_that_stay_away_take_them_down(monkeypatch: pytest.MonkeyPatch) -> None:
    one = listing_of_three()
    lapse(one, "a-2", "a-3")
    assert down(one) == set()
    monkeypatch.setattr(listing, "LAPSED_FOR", 0.0)
    assert down(one) == {"a-2", "a-3"}


def test_what_lapses_later_than_one_stall_would_make_it_is_not_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = listing_of_three()
    lapse(one, "a-1")
    assert down(one) == {"a-1"}
    monkeypatch.setattr(listing, "REPORTED_WITHIN", -10.0 / listing.HEARTBEATS_PER_TTL)
    lapse(one, *IDS)
    assert down(one) == {"a-1"}
    monkeypatch.setattr(listing, "LAPSED_FOR", 0.0)
    assert down(one) == set(IDS)


def test_one_of_three_that_falls_silent_is_not_waited_for() -> None:
    one = listing_of_three()
    lapse(one, "a-2")
    assert down(one) == {"a-2"}


def test_sessions_of_most_that_end_while_their_heartbeats_arrive_make_them_degraded_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when their agents follow servers that hang: nobody makes their checks critical for it."""
    monkeypatch.setattr(listing, "ENDED_FOR", 0.0)
    monkeypatch.setattr(listing, "LAPSED_FOR", 0.0)
    one = listing_of_three()
    hold(one, "a-1")
    assert down(one) == {"a-1"}
    assert [place.id for place, _ in one.ghosts()] == ["a-1"]
    hold(one, *IDS)
    assert down(one) == set()
    assert {each.health.status for each in one.instances().values()} == {Status.DEGRADED}
    assert one.ghosts() == []
    monkeypatch.setattr(listing, "IN_DOUBT", 0.0)
    assert down(one) == set(IDS)
    assert len(one.ghosts()) == len(IDS)
