"""Shares of a time, and times in which nobody watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mcp_discovery.facade.history.availability import Watched, availability, unwatched
from mcp_discovery.facade.history.visible import ShownChange

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(hours: float) -> datetime:
    """So many hours after noon."""
    return NOON + timedelta(hours=hours)


def was(id: str, status: str, began: float, ended: float | None = None) -> ShownChange:
    until = None if ended is None else at(ended)
    return ShownChange(
        *(id, "shop", at(began), until, status, "", at(began), None, "1.0.0", None, {}, (), None)
    )


ALWAYS = [Watched(at(-100), None)]


def test_shares_of_one_instance() -> None:
    changes = [was("a", "healthy", -30, 6), was("a", "down", 6, 9), was("a", "healthy", 9)]
    found = availability(changes, ALWAYS, at(0), at(12))
    assert found.shares == {"healthy": 0.75, "down": 0.25}
    assert (found.began, found.ended, found.watched, found.unwatched) == (at(0), at(12), 43200, 0)


def test_a_server_is_as_its_best_instance() -> None:
    changes = [was("a", "healthy", 0, 4), was("a", "gone", 4), was("b", "degraded", 2, 8)]
    changes.append(was("b", "gone", 8))
    found = availability(changes, ALWAYS, at(0), at(10))
    assert found.shares == pytest.approx({"healthy": 0.4, "degraded": 0.4, "gone": 0.2})


def test_before_it_was_seen_nothing_counts() -> None:
    found = availability([was("a", "healthy", 6)], ALWAYS, at(0), at(12))
    assert (found.began, found.watched, found.shares) == (at(6), 21600, {"healthy": 1.0})


def test_what_nobody_watched_is_neither_up_nor_down() -> None:
    watched = [Watched(at(-5), at(2)), Watched(at(5), at(6)), Watched(at(9), None)]
    changes = [was("a", "healthy", -5, 5), was("a", "down", 5)]
    found = availability(changes, watched, at(0), at(10))
    assert (found.watched, found.unwatched) == (4 * 3600, 6 * 3600)
    assert found.shares == {"healthy": 0.5, "down": 0.5}
    gaps = [Watched(at(6), at(9)), Watched(at(2), at(5))]
    assert unwatched(watched, None, at(10)) == gaps
    assert unwatched(watched, at(5.5), at(10)) == gaps[:1]
    assert unwatched(watched, None, at(6)) == gaps[1:]
    assert unwatched([Watched(at(0), at(1))], None, at(2)) == [Watched(at(1), None)]


def test_where_nobody_watched_at_all() -> None:
    found = availability([was("a", "healthy", 0)], [Watched(at(-9), at(-8))], at(0), at(1))
    assert (found.watched, found.unwatched, found.shares) == (0, 3600, {})
    assert unwatched([], None, at(1)) == []
    found = availability([], ALWAYS, at(0), at(1))
    assert (found.watched, found.unwatched, found.shares) == (0, 0, {})
