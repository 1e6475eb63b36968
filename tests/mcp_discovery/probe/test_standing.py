"""What wavers is one state: verdicts in a row, and how often what is published changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle, islice, pairwise

import pytest

from mcp_discovery.health import ANSWERS, Status
from mcp_discovery.probe.standing import Standing
from mcp_discovery.probe.verdict import Verdict

TTL, INTERVAL = 12.0, 2.0
#: How long who wavers for the first time has to be well: three intervals.
WELL_FOR = 6.0

WELL = Verdict(Status.HEALTHY, ANSWERS)
SLOW = Verdict(Status.DEGRADED, "slower than 1 s")


def down(reason: str) -> Verdict:
    return Verdict(Status.DOWN, reason)


def published(
    verdicts: Iterable[Verdict], standing: Standing | None = None, *, every: float = INTERVAL
) -> list[tuple[float, Verdict]]:
    """Each change of what is published, with its time, and the first."""
    standing = standing or Standing(ttl=TTL, interval=INTERVAL)
    changes: list[tuple[float, Verdict]] = []
    for number, verdict in enumerate(verdicts):
        now = number * every
        after = standing.take(verdict, now)
        if not changes or changes[-1][1] != after:
            changes.append((now, after))
    return changes


def turns(*verdicts: Verdict, times: int = 300) -> Iterator[Verdict]:
    return islice(cycle(verdicts), times)


@pytest.mark.parametrize(
    ("reasons", "changes"),
    [
        (("connection refused", "connection reset by the server", "no answer within 1 s"), 2),
        (("no answer within 0.7 s", "no answer within 1.42 s", "no answer within 15 s"), 1),
        (("HTTP 502 from the MCP endpoint", "HTTP 503 from the MCP endpoint"), 2),
        (("answered initialize with error -32603: no", "answered initialize with error -1: no"), 2),
    ],
)
def test_reasons_that_take_turns_are_one(reasons: tuple[str, ...], changes: int) -> None:
    found = published(turns(*map(down, reasons)))
    assert found == [(0.0, down(reasons[0])), (INTERVAL, down(reasons[1]))][:changes]


@pytest.mark.parametrize(
    "reason",
    [
        "no answer within {0} s",
        "answered tools/list with error -32603: request {0} of 12:{1}:07 failed on port 4{0}",
        "answered server/discover with an error: pid={0}, trace 5f{0}e-77a{1}",
        "{0} of 9 shards are away",
        "answers MCP, but its tools cannot be read: id req-{0}",
    ],
)
def test_figures_in_a_reason_are_no_other_reason(reason: str) -> None:
    verdicts = [down(reason.format(n, n % 60)) for n in range(100, 400)]
    assert len(published(verdicts)) == 1


def test_a_new_reason_is_published_at_once_and_the_next_after_a_ttl() -> None:
    first, second, third = map(down, ("connection refused", "HTTP 503: starting", "HTTP 401"))
    changes = published([first, second, *[third] * 20])
    assert changes == [(0.0, first), (2.0, second), (2.0 + TTL, third)]
    # One of those that took turns is published once the other did not come for a TTL.
    changes = published([first, second, first, second, *[first] * 20])
    assert changes == [(0.0, first), (2.0, second), (6.0 + TTL, first)]
    for end in (SLOW, WELL):  # a change of status is none of the reason
        assert published([first, second, third, end])[-1] == (6.0, end)


def test_another_reason_each_time_is_published_once_a_ttl() -> None:
    words = [down("broken: " + "ab"[n % 2] * (n + 1)) for n in range(300)]
    changes = published(words)[1:]
    apart = [b[0] - a[0] for a, b in pairwise(changes)]
    assert apart and min(apart) >= TTL


@pytest.mark.parametrize("bad", [SLOW, down("connection refused")])
@pytest.mark.parametrize("pattern", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_who_is_well_by_turns_is_not_well(bad: Verdict, pattern: tuple[int, int]) -> None:
    changes = published(turns(*[WELL] * pattern[0], *[bad] * pattern[1]))
    assert [each for _, each in changes] == [
        *[WELL, bad] * 3,
        WELL,
        Verdict(bad.status, f"{bad.reason}; it wavers: its return counts after 6 s"),
    ]


def test_who_relapses_again_and_again_has_to_be_well_for_longer() -> None:
    verdicts = turns(*[WELL] * 4, SLOW, times=500)
    changes = published(verdicts)
    # Four good answers are enough for the first returns, and then no more.
    assert [each.status for _, each in changes] == [WELL.status, SLOW.status] * 5
    assert changes[-1][1].reason.endswith("counts after 12 s")
    for well in (7, 8, 15):
        changes = published(turns(*[WELL] * well, SLOW, times=2000))
        assert len([at for at, _ in changes if at > 2 * TTL]) <= 2 * 2000 * INTERVAL / TTL


def test_the_first_faults_and_returns_are_published_at_once() -> None:
    bad = down("connection refused")
    verdicts = [WELL, bad, *[WELL] * 8, bad, WELL]  # the second fault comes after a TTL
    assert [each for _, each in published(verdicts)] == [WELL, bad, WELL, bad, WELL]
    repaired = [WELL, bad, WELL, SLOW, WELL, bad, WELL]  # twice more within it
    assert [each for _, each in published(repaired)] == repaired


def test_who_wavered_is_well_when_it_was_so_for_a_while() -> None:
    changes = published([*[WELL, SLOW] * 4, *[WELL] * 10])
    assert changes[-1] == (16.0 + WELL_FOR, WELL)
    again = Standing(ttl=TTL, interval=INTERVAL)
    published([*[WELL, SLOW] * 4, WELL, WELL, SLOW], again)
    # Down for good, so the wavering is over, and its return counts at once.
    later = published([*[down("connection refused")] * 20, WELL], again)
    assert later[-1] == (40.0, WELL)
    assert "wavers" not in later[-2][1].reason


@pytest.mark.parametrize("worse", [down("connection refused"), down("HTTP 500")])
def test_the_worst_of_three_states_in_turn_stays(worse: Verdict) -> None:
    changes = published(turns(WELL, SLOW, worse, SLOW))
    assert len(changes) <= 13
    assert changes[-1][1].status is Status.DOWN
    assert changes[-1][0] < 2 * TTL


def test_what_was_known_before_is_replaced_at_once() -> None:
    known = Verdict(Status.DEGRADED, "not probed yet")
    standing = Standing(ttl=TTL, interval=INTERVAL, known=known)
    assert standing.take(SLOW, 0.0) == SLOW
    standing = Standing(ttl=TTL, interval=INTERVAL, known=known)
    # Who was not known to be well has not returned, so its first fault is no relapse.
    assert [each for _, each in published([WELL, SLOW, WELL], standing)] == [WELL, SLOW, WELL]
