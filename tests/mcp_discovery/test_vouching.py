"""How much an instance counts among others of its name."""

from __future__ import annotations

from datetime import timedelta

from mcp_discovery.health import healthy, rfc3339, utcnow
from mcp_discovery.instance import Holder, Instance, Lease
from mcp_discovery.vouching import NOBODY, is_vouched_for, together, voice, weights
from tests.records import record


def _made(
    id: str, age: int, *, weight: int = 1, claims: bool = False, probed: bool = False
) -> Instance:
    since = rfc3339(utcnow() - timedelta(seconds=age))
    holder = Holder("h1-0", "host", "sidecar", claims=claims, probed=probed)
    given = record(id, registeredAt=since, weight=weight)
    return Instance(given, healthy(), Lease(holder, 60.0, 60.0))


def test_a_newcomers_weight_is_at_most_that_of_those_before_it() -> None:
    assert weights([_made("a", 9, weight=9), _made("b", 1, weight=1, claims=True)]) == {
        "a": 9,
        "b": 1,
    }
    heavy = _made("b", 1, weight=65535, claims=True)
    assert weights([heavy, _made("a", 9)])["b"] == 1
    assert weights([_made("a", 9), _made("c", 5, weight=3), heavy])["b"] == 4
    # A known registrant's weight is its own to give, and one that is alone counts as it says.
    assert weights([_made("a", 9), _made("b", 1, weight=99)])["b"] == 99
    assert weights([heavy]) == {"b": 65535}
    assert weights([_made("a", 9, weight=0), heavy])["b"] == 65535


def test_number_is_no_vote_of_those_that_nobody_knows() -> None:
    old = voice(_made("old", 60, claims=True))
    crowd = together(voice(_made(f"new-{n}", 1, claims=True)) for n in range(100))
    assert old < crowd < NOBODY
    assert together([voice(_made("found", 1, claims=True, probed=True))]) < old
    assert voice(_made("known", 1)) < old
    assert together(voice(_made(f"known-{n}", 1)) for n in range(2)) < voice(_made("known", 60))


def test_who_is_vouched_for() -> None:
    assert is_vouched_for(_made("a", 1))
    assert not is_vouched_for(_made("a", 1, claims=True))
    assert is_vouched_for(_made("a", 1, claims=True, probed=True))
