"""When a heartbeat renews the lease, and when it verifies what was written."""

from __future__ import annotations

import itertools
import time

import pytest

from mcp_discovery.adapters.heartbeats import VERIFY_WITHIN, HeartbeatSchedule
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.sidecar.settings import SidecarSettings


def beaten(
    schedule: HeartbeatSchedule, every: float, times: int, late: float = 0.0
) -> list[tuple[bool, bool]]:
    """What heartbeats ``every`` so many seconds are for, and each other one ``late`` in addition;
    all that they ask for is done."""
    now, found = time.monotonic(), []
    for number in range(times):
        now += every + (late if number % 2 else 0.0)
        renew, verify = schedule.due(now)
        if renew:
            schedule.renewed(now)
        if verify:
            schedule.verified(now)
        found.append((renew, verify))
    return found


@pytest.mark.parametrize("ttl", [1.0, 3.0, 4.0, 10.0, 12.0, 20.0, 60.0, 600.0])
def test_an_idle_sidecar_sends_one_request_for_a_heartbeat(ttl: float) -> None:
    every = SidecarSettings(
        url="http://127.0.0.1:1/mcp", ttl=ttl, reap_after=600.0
    ).heartbeat_interval
    for late in (0.0, 0.02 * every):
        found = beaten(HeartbeatSchedule("one", ttl, healthy()), every, 100, late)
        assert all(renew is not verify for renew, verify in found)
        # Every other one renews: within a third of TTL, or a tenth more where beats come late.
        renewals = [number for number, (renew, _) in enumerate(found) if renew]
        assert {after - one for one, after in itertools.pairwise(renewals)} == {2}
        assert 2 * every <= ttl / 3
        assert 2 * every <= VERIFY_WITHIN


@pytest.mark.parametrize(("ttl", "every"), [(10.0, 3.3), (10.0, 5.0), (4.0, 2.0), (60.0, 30.0)])
def test_rare_heartbeats_do_both(ttl: float, every: float) -> None:
    found = beaten(HeartbeatSchedule("one", ttl, healthy()), every, 20)
    gaps = {"renew": 0.0, "verify": 0.0}
    for renew, verify in found:
        for name, done in (("renew", renew), ("verify", verify)):
            gaps[name] = every if done else gaps[name] + every
            assert gaps[name] <= max(every, 0.4 * ttl)


def test_frequent_heartbeats_do_each_in_turn() -> None:
    found = beaten(HeartbeatSchedule("one", 10.0, healthy()), 0.1, 40)
    assert found == [(True, False), (False, True)] * 20


def test_who_may_pause_for_a_whole_ttl_renews_each_time() -> None:
    schedule, now = HeartbeatSchedule("one", 30.0, healthy()), time.monotonic()
    for pause in (5.0, 5.0, 5.0, 29.5, 0.1, 29.5):
        now += pause
        assert schedule.due(now, renew=True)[0]
        schedule.renewed(now)
        schedule.verified(now)


def test_only_a_renewal_keeps_it_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = HeartbeatSchedule("one", 10.0, healthy())
    began = time.monotonic()
    schedule.renewed(began + 1)
    schedule.verified(began + 9)
    monkeypatch.setattr(time, "monotonic", lambda: began + 10.5)
    schedule.require_alive()
    monkeypatch.setattr(time, "monotonic", lambda: began + 11.5)
    with pytest.raises(RegistrationLostError, match=r"it was not renewed for 10\.5 s"):
        schedule.require_alive()


def test_a_write_that_was_not_confirmed_is_made_again() -> None:
    """Its answer was lost: what was there before may be in the store no longer."""
    well, ill = Health(Status.HEALTHY, "answers MCP"), Health(Status.DOWN, "connection refused")
    schedule = HeartbeatSchedule("a", 10.0, well)
    assert schedule.to_write(well, None) is None
    assert schedule.to_write(ill, None) == (ill, None)
    assert schedule.to_write(well, None) == (well, None)
    schedule.written(well, None)
    assert schedule.to_write(well, None) is None


def test_a_write_that_was_not_confirmed_is_repeated() -> None:
    first = healthy()
    schedule = HeartbeatSchedule("one", 10.0, first)
    assert schedule.to_write(healthy(), None) is None
    degraded = Health(Status.DEGRADED, "slow")
    assert schedule.to_write(degraded, None) == (degraded, None)
    assert schedule.to_write(healthy(), None) == (first, None)  # the store may have the other
    schedule.written(first, None)
    assert schedule.to_write(healthy(), None) is None
