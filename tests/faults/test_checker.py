"""The checker itself, with made-up histories: each promise kept, and each one broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import judge
from tests.faults.history import History, Kind, ObservedEvent, Terms

TERMS = Terms(ttl=6.0, probe_interval=2.0, notice=12.0)
READER = "facade/list"


class Made:
    """A made-up history: two instances that live and are shown from second 1 on."""

    def __init__(self) -> None:
        self.lines: list[ObservedEvent] = []
        self.revision = 0
        self.epoch = "e"
        self.shown: dict[str, str] = {}
        for id in ("a", "b"):
            self.at(0.0, "serves", id)
            self.at(0.0, "watched", id)
        self.at(0.5, "read", READER)
        self.at(0.5, "fresh", READER)
        self.lists(1.0, a="healthy", b="healthy")

    def at(self, second: float, kind: Kind, target: str, **data: Any) -> None:
        self.lines.append(ObservedEvent(second, kind, target, data))

    def lists(self, second: float, **servers: str) -> None:
        """The reader is shown a whole list at the next revision."""
        self.revision += 1
        self.shown = servers
        place = {"epoch": self.epoch, "revision": self.revision}
        self.at(second, "list", READER, **place, servers=servers)

    def changes(self, second: float, id: str, status: str | None) -> None:
        """The reader is told one change at the next revision."""
        self.revision += 1
        place = {"epoch": self.epoch, "revision": self.revision}
        self.at(second, "change", READER, **place, id=id, status=status)

    def until(self, second: float) -> list[str]:
        """The promises that are broken by then, in order of time."""
        self.at(second, "note", "driver", text="end")
        history = History(TERMS)
        history.put(self.lines)
        return [each.promise for each in judge(history)]


@pytest.fixture
def made() -> Made:
    return Made()


def test_nothing_happens_and_nothing_is_broken(made: Made) -> None:
    assert made.until(60) == []


# -- no ghost ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stops", "seen", "broken"),
    [(30, 2.5, []), (30, 4.5, ["ghost"]), (10, 4.5, []), (10, 6.5, ["ghost"])],
)
def test_a_silent_server_is_seen_within_an_interval(
    made: Made, stops: float, seen: float, broken: list[str]
) -> None:
    """Within two, where requests for connecting to it may be made up for."""
    made.at(stops, "silent", "a")
    made.changes(stops + seen, "a", "down")
    assert made.until(60) == broken


@pytest.mark.parametrize(("seen", "broken"), [(9.0, []), (10.0, ["ghost"])])
def test_a_silent_sidecar_is_seen_within_ttl(made: Made, seen: float, broken: list[str]) -> None:
    made.at(10, "unwatched", "a")
    made.changes(10 + seen, "a", "down")
    assert made.until(60) == broken


@pytest.mark.parametrize(("seen", "broken"), [(9.0, []), (10.0, ["ghost"])])
def test_both_silent_is_seen_within_ttl(made: Made, seen: float, broken: list[str]) -> None:
    made.at(10, "unwatched", "a")
    made.at(10, "silent", "a")
    made.changes(10 + seen, "a", "down")
    assert made.until(60) == broken


def test_a_sidecar_that_cannot_reach_the_store_is_as_good_as_dead(made: Made) -> None:
    made.at(10, "parted", "a")
    made.changes(17, "a", "down")
    made.at(25, "joined", "a")
    made.changes(28, "a", "healthy")
    assert made.until(60) == []


def test_a_ghost_at_the_end_is_a_wrong_last_state_as_well(made: Made) -> None:
    made.at(10, "silent", "a")
    assert made.until(60) == ["ghost", "going back"]


def test_one_that_is_revived_is_a_ghost(made: Made) -> None:
    made.at(10, "silent", "a")
    made.changes(11, "a", "down")
    made.changes(30, "a", "healthy")
    made.changes(50, "a", "down")
    assert made.until(60) == ["ghost"]


def test_one_that_left_is_not_waited_for(made: Made) -> None:
    made.at(10, "left", "a")
    made.at(10, "unwatched", "a")
    made.changes(11, "a", "draining")
    made.changes(12, "a", None)
    assert made.until(60) == []


def test_one_that_left_and_stays_is_a_ghost(made: Made) -> None:
    made.at(10, "left", "a")
    made.at(10, "unwatched", "a")
    made.changes(30, "a", None)
    assert made.until(60) == ["ghost"]


def test_no_ghost_while_the_store_is_away_and_one_interval_after(made: Made) -> None:
    made.at(10, "store-away", "store")
    made.at(11, "stale", READER)
    made.at(12, "silent", "a")
    made.at(30, "store-back", "store")
    made.at(31, "fresh", READER)
    made.changes(34, "a", "down")
    assert made.until(60) == []


def test_a_ghost_after_the_store_is_back(made: Made) -> None:
    made.at(10, "store-away", "store")
    made.at(11, "stale", READER)
    made.at(12, "silent", "a")
    made.at(30, "store-back", "store")
    made.at(31, "fresh", READER)
    made.changes(40, "a", "down")
    assert made.until(60) == ["ghost"]


def test_a_takeover_may_wait_for_the_end_of_the_one_before(made: Made) -> None:
    """Its server died with its first sidecar: the second has nothing to say of it."""
    made.at(10, "unwatched", "a")
    made.at(10.2, "silent", "a")
    made.at(10.5, "watched", "a")
    made.changes(18.5, "a", "down")
    assert made.until(60) == []


# -- no loss -----------------------------------------------------------------------------------


def test_down_without_a_cause_is_a_loss(made: Made) -> None:
    made.changes(20, "a", "down")
    made.changes(30, "a", "healthy")
    assert made.until(60) == ["loss"]


def test_down_for_a_moment_is_none(made: Made) -> None:
    made.changes(20, "a", "down")
    made.changes(23, "a", "healthy")
    assert made.until(60) == []


@pytest.mark.parametrize(("back", "broken"), [(4.0, []), (8.0, ["loss"])])
def test_back_within_five_seconds_of_the_store(made: Made, back: float, broken: list[str]) -> None:
    made.at(10, "store-away", "store")
    made.at(11, "stale", READER)
    made.at(40, "store-back", "store")
    made.at(40.5, "fresh", READER)
    made.lists(40.5, a="down", b="healthy")
    made.changes(40 + back, "a", "healthy")
    assert made.until(60) == broken


@pytest.mark.parametrize(("back", "broken"), [(4.0, []), (8.0, ["loss"])])
def test_no_longer_stale_five_seconds_after_the_store_is_back(
    made: Made, back: float, broken: list[str]
) -> None:
    made.at(10, "store-away", "store")
    made.at(11, "stale", READER)
    made.at(40, "store-back", "store")
    made.at(40 + back, "fresh", READER)
    assert made.until(60) == broken


def test_a_new_sidecar_may_wait_for_its_predecessor(made: Made) -> None:
    made.at(20, "unwatched", "a")
    made.at(20.1, "watched", "a")
    made.changes(26, "a", "down")
    made.changes(30, "a", "healthy")
    assert made.until(60) == []


def test_one_that_is_kept_away_by_somebody_is_no_loss(made: Made) -> None:
    made.at(10, "withheld", "a")
    made.changes(11, "a", "draining")
    made.at(40, "granted", "a")
    made.changes(41, "a", "healthy")
    assert made.until(60) == []


def test_a_facade_that_gives_no_list_is_a_loss(made: Made) -> None:
    made.at(10, "unread", READER)
    made.at(30, "read", READER)
    assert made.until(60) == ["loss"]


def test_a_reader_that_comes_late_had_nothing_to_miss() -> None:
    lines = [
        ObservedEvent(0.0, "serves", "a"),
        ObservedEvent(0.0, "watched", "a"),
        ObservedEvent(30.0, "read", READER),
        ObservedEvent(
            30.1, "list", READER, {"epoch": "e", "revision": 1, "servers": {"a": "healthy"}}
        ),
    ]
    history = History(TERMS)
    history.put(lines)
    assert judge(history) == []


def test_a_facade_that_is_dead_gives_no_list(made: Made) -> None:
    made.at(10, "facade-down", "facade")
    made.at(10.1, "unread", READER)
    made.at(30, "facade-up", "facade")
    made.at(33, "read", READER)
    made.epoch, made.revision = "f", 0
    made.lists(33, a="healthy", b="healthy")
    assert made.until(60) == []


# -- no panic ----------------------------------------------------------------------------------


def test_one_that_vanishes_while_the_store_is_away(made: Made) -> None:
    made.at(10, "store-away", "store")
    made.at(11, "stale", READER)
    made.changes(12, "a", None)
    made.changes(13, "a", "healthy")
    made.at(14, "store-back", "store")
    made.at(14, "fresh", READER)
    assert made.until(60) == ["panic"]


def test_a_goodbye_that_arrives_when_the_next_sidecar_has_begun(made: Made) -> None:
    made.at(10, "store-away", "store")
    made.at(11, "stale", READER)
    made.at(12, "unwatched", "a")
    made.at(12.5, "watched", "a")
    made.changes(12.6, "a", None)
    made.changes(13, "a", "healthy")
    made.at(14, "store-back", "store")
    made.at(14, "fresh", READER)
    assert made.until(60) == []


def test_one_that_vanishes_while_its_facade_is_parted(made: Made) -> None:
    made.at(10, "facade-parted", "facade")
    made.at(11, "stale", READER)
    made.changes(12, "a", None)
    made.changes(13, "a", "healthy")
    made.at(14, "facade-joined", "facade")
    made.at(14, "fresh", READER)
    assert made.until(60) == ["panic"]


@pytest.mark.parametrize(("said", "broken"), [(10.0, []), (14.0, ["panic"])])
def test_a_facade_says_that_its_store_is_away(made: Made, said: float, broken: list[str]) -> None:
    made.at(10, "facade-parted", "facade")
    made.at(10 + said, "stale", READER)
    made.at(40, "facade-joined", "facade")
    made.at(41, "fresh", READER)
    assert made.until(60) == broken


@pytest.mark.parametrize(("parted", "broken"), [(False, []), (True, ["panic"])])
def test_a_store_that_is_away_for_some(made: Made, parted: bool, broken: list[str]) -> None:
    made.at(10, "store-shaky", "store")
    if parted:
        made.at(10, "facade-parted", "facade")
    made.at(40, "store-back", "store")
    if parted:
        made.at(40, "facade-joined", "facade")
    assert made.until(60) == broken


def test_a_facade_that_had_no_list_has_its_time_to_notice(made: Made) -> None:
    made.at(10, "facade-parted", "facade")
    made.at(10, "unread", READER)
    made.at(40, "read", READER)
    made.at(41, "facade-joined", "facade")
    assert made.until(60) == []


@pytest.mark.parametrize("left", [{}, {"a": "down", "b": "down"}])
def test_a_list_that_is_emptied_at_once(made: Made, left: dict[str, str]) -> None:
    made.lists(20, **left)
    made.lists(23, a="healthy", b="healthy")
    assert made.until(60) == ["panic"]


def test_a_list_that_is_emptied_piece_by_piece_in_a_moment(made: Made) -> None:
    made.changes(20, "a", "down")
    made.changes(20.1, "b", "down")
    made.lists(23, a="healthy", b="healthy")
    assert made.until(60) == ["panic"]


def test_a_list_whose_last_instances_died_may_be_empty(made: Made) -> None:
    made.at(20, "silent", "a")
    made.at(20, "silent", "b")
    made.lists(21, a="down", b="down")
    assert made.until(60) == []


# -- no going back -----------------------------------------------------------------------------


def test_a_revision_that_falls(made: Made) -> None:
    made.changes(10, "a", "degraded")
    made.revision = 0
    made.changes(11, "a", "healthy")
    assert made.until(60) == ["going back"]


def test_a_revision_that_is_told_twice(made: Made) -> None:
    made.changes(10, "a", "degraded")
    made.revision -= 1
    made.changes(11, "a", "healthy")
    assert made.until(60) == ["going back"]


def test_two_lists_at_one_revision(made: Made) -> None:
    made.revision -= 1
    made.lists(11, a="degraded", b="healthy")
    assert made.until(60) == ["going back"]


def test_another_epoch_may_begin_anywhere(made: Made) -> None:
    made.revision, made.epoch = -1, "f"
    made.lists(10, a="healthy", b="healthy")
    assert made.until(60) == []


@pytest.mark.parametrize("status", [None, "down", "draining"])
def test_one_that_is_missing_at_the_end(made: Made, status: str | None) -> None:
    made.changes(59, "a", status)
    assert made.until(60) == ["going back"]


def test_a_stranger_at_the_end(made: Made) -> None:
    made.changes(59, "c", "healthy")
    assert made.until(60) == ["going back"]


@pytest.mark.parametrize("kind", ["stale", "unread"])
def test_a_facade_that_has_not_recovered_at_the_end(made: Made, kind: Kind) -> None:
    made.at(59, kind, READER)
    assert made.until(60) == ["going back"]


# -- the history -------------------------------------------------------------------------------


def test_a_history_is_written_and_judged_again(made: Made, tmp_path: Path) -> None:
    made.at(10, "silent", "a")
    made.until(60)
    history = History(TERMS, seed=7)
    history.put(made.lines)
    history.write(tmp_path / "history")
    again = History.read(tmp_path / "history")
    assert (again.terms, again.seed) == (TERMS, 7)
    assert judge(again) == judge(history) != []
