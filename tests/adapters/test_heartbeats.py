"""When a heartbeat renews the lease, and when it verifies what was written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcp_discovery.adapters.heartbeats import VERIFY_WITHIN, HeartbeatSchedule
from mcp_discovery.errors import RegistrationLostError
from mcp_discovery.health import Health, Load, Status, healthy
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.seeds import seeded


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


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def written(
    schedule: HeartbeatSchedule, clock: Clock, load: Callable[[float], Load], seconds: float
) -> list[float]:
    """When loads were written, of heartbeats every 1.6 s; ``load`` is told the time."""
    began, times = clock.now, []
    while clock.now - began < seconds:
        clock.now += 1.6
        if (change := schedule.to_write(healthy(), load(clock.now - began))) is not None:
            schedule.written(*change)
            times.append(clock.now - began)
    return times


BUSY = Load(10, 20, 60.0, 0.1, 0.2, 0.01, 1000, 45_000_000, 0.5, True)


def test_a_load_that_trembles_is_written_once(clock: Clock) -> None:
    schedule, chance = HeartbeatSchedule("one", 10.0, healthy()), seeded(1)

    def trembling(_: float) -> Load:
        by = chance.uniform(0.96, 1.04)
        return replace(BUSY, rate=60 * by, latency=0.1 * by, cpu=0.5 * by, memory=int(45e6 * by))

    assert len(written(schedule, clock, trembling, 3600.0)) == 1
    # So little that a tenth of it is nothing.
    idle = Load(0, 20, 0.0, requests=1000, memory=4_000_000, cpu=0.0, running=True)
    assert len(written(schedule, clock, lambda _: idle, 60.0)) == 1
    noise = written(
        schedule,
        clock,
        lambda _: replace(idle, cpu=chance.uniform(0, 0.02), memory=chance.randrange(8_000_000)),
        3600.0,
    )
    assert noise == []


def test_a_load_that_never_rests_is_written_every_30_seconds(clock: Clock) -> None:
    schedule, chance = HeartbeatSchedule("one", 10.0, healthy()), seeded(2)
    times = written(schedule, clock, lambda _: replace(BUSY, active=chance.randrange(20)), 3600.0)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert times[0] < 5 + 1.6 and min(gaps) >= 5
    assert len(times) <= 6 + 3600 / 30
    assert min(gaps[10:]) >= 25


def test_a_leap_is_written_within_5_seconds_a_step_within_30(clock: Clock) -> None:
    schedule = HeartbeatSchedule("one", 10.0, healthy())
    assert len(written(schedule, clock, lambda _: BUSY, 300.0)) == 1
    (leap,) = written(schedule, clock, lambda _: replace(BUSY, active=0), 300.0)
    assert leap < 2
    (back,) = written(schedule, clock, lambda _: BUSY, 4.9 + 1.6)
    assert back < 2  # long after the last
    (leap,) = written(schedule, clock, lambda _: replace(BUSY, active=0), 60.0)
    assert leap < 5
    (step,) = written(schedule, clock, lambda _: replace(BUSY, active=0, rate=70.0), 60.0)
    assert step < 2
    assert written(schedule, clock, lambda _: replace(BUSY, active=0, rate=74.0), 60.0) == []
    (step,) = written(schedule, clock, lambda _: replace(BUSY, active=0, rate=85.0), 60.0)
    (next_step,) = written(schedule, clock, lambda _: replace(BUSY, active=0, rate=99.0), 1.6)
    assert (step, next_step) < (2, 2)
    assert written(schedule, clock, lambda _: BUSY, 3.1) == []
    (gone,) = written(schedule, clock, lambda _: replace(BUSY, latency=None), 10.0)
    assert gone < 5


def test_a_load_goes_with_a_new_health(clock: Clock) -> None:
    schedule = HeartbeatSchedule("one", 10.0, healthy())
    ill = Health(Status.DEGRADED, "slow")
    assert schedule.to_write(ill, BUSY) == (ill, BUSY)
    schedule.written(ill, BUSY)
    assert schedule.to_write(ill, replace(BUSY, active=0)) is None
    clock.now += 5
    assert schedule.to_write(ill, replace(BUSY, active=0)) is not None
