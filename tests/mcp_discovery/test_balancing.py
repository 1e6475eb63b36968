"""The strategies of load balancing, as properties."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_discovery.balancing import (
    BUSY,
    CHANCE,
    STRATEGIES,
    Candidate,
    RoundRobin,
    consistent_hash,
    least_loaded,
    power_of_two,
    rotated,
    weighted,
)

_LOADS = st.one_of(st.none(), st.floats(0, 1))
_CANDIDATES = st.lists(
    st.builds(Candidate, st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.integers(0, 9), _LOADS),
    max_size=12,
    unique_by=lambda each: each.id,
)


def fleet(size: int, weight: int = 1) -> list[Candidate]:
    return [Candidate(f"n{number}", weight) for number in range(size)]


@given(_CANDIDATES, st.text(min_size=1), st.integers())
def test_each_strategy_keeps_every_candidate(
    candidates: list[Candidate], key: str, seed: int
) -> None:
    everyone = sorted(each.id for each in candidates)
    orders = [order(candidates, Random(seed)) for order in CHANCE.values()]
    orders += [consistent_hash(candidates, key), rotated(candidates, key)]
    for order in orders:
        assert sorted(each.id for each in order) == everyone
    assert len(CHANCE) + 2 == len(STRATEGIES)


@given(_CANDIDATES, st.integers())
def test_least_loaded_comes_first(candidates: list[Candidate], seed: int) -> None:
    order = least_loaded(candidates, Random(seed))
    known = [each.load for each in order if each.load is not None]
    assert known == sorted(known)
    for position, each in enumerate(order):
        if each.load is None:
            before = [other.load for other in order[:position] if other.load is not None]
            after = [other.load for other in order[position:] if other.load is not None]
            assert all(load <= BUSY for load in before)
            assert all(load >= BUSY for load in after)


def test_equal_loads_take_turns() -> None:
    first = Counter(least_loaded(fleet(4), Random(seed))[0].id for seed in range(400))
    assert len(first) == 4
    assert min(first.values()) > 50


def test_power_of_two_avoids_the_most_loaded() -> None:
    candidates = [Candidate(f"n{number}", load=number / 10) for number in range(10)]
    first = Counter(power_of_two(candidates, Random(seed))[0].id for seed in range(2000))
    assert first["n9"] == 0  # whichever it is compared with has less to do
    assert first["n0"] > first["n4"] > first["n8"] > 0


def test_power_of_two_without_loads_is_chance() -> None:
    first = Counter(power_of_two(fleet(4), Random(seed))[0].id for seed in range(2000))
    assert all(400 < count < 600 for count in first.values())


def test_weights_are_shares() -> None:
    candidates = [Candidate("one", 1), Candidate("three", 3), Candidate("none", 0)]
    orders = [[each.id for each in weighted(candidates, Random(n))] for n in range(4000)]
    first = Counter(order[0] for order in orders)
    assert first["three"] / first["one"] == pytest.approx(3, rel=0.15)
    assert all(order[-1] == "none" for order in orders)


@given(st.integers(2, 12), st.integers(1, 40))
def test_round_robin_gives_everyone_the_same_number_of_turns(size: int, rounds: int) -> None:
    rotation = RoundRobin()
    first = Counter(rotation.next("q", fleet(size))[0].id for _ in range(size * rounds))
    assert set(first.values()) == {rounds}


def test_round_robin_goes_on_when_the_last_one_leaves() -> None:
    rotation = RoundRobin()
    candidates = sorted(fleet(4), key=lambda each: each.id)
    assert rotation.next("q", candidates)[0].id == "n0"
    assert rotation.next("q", candidates)[0].id == "n1"
    assert rotation.next("q", [candidates[0], *candidates[2:]])[0].id == "n2"
    assert rotation.next("other", candidates)[0].id == "n0"
    assert rotation.next("q", candidates)[0].id == "n3"
    assert rotation.next("q", candidates)[0].id == "n0"
    assert rotation.next("q", []) == []


def test_round_robin_remembers_so_many_queries() -> None:
    rotation = RoundRobin(most=2)
    for query in ("a", "b", "c"):
        rotation.next(query, fleet(2))
    assert rotation.next("a", fleet(2))[0].id == "n0"  # forgotten
    assert rotation.next("c", fleet(2))[0].id == "n1"


@given(_CANDIDATES, st.text(min_size=1), st.integers())
def test_the_same_key_finds_the_same_order(
    candidates: list[Candidate], key: str, seed: int
) -> None:
    shuffled = Random(seed).sample(candidates, len(candidates))
    assert consistent_hash(shuffled, key) == consistent_hash(candidates, key)


@given(_CANDIDATES, st.text(min_size=1))
def test_one_that_leaves_moves_nobody_else(candidates: list[Candidate], key: str) -> None:
    order = consistent_hash(candidates, key)
    for gone in candidates:
        left = [each for each in candidates if each is not gone]
        assert consistent_hash(left, key) == [each for each in order if each is not gone]


def test_one_that_joins_takes_its_share_and_no_more() -> None:
    keys = [f"user-{number}" for number in range(5000)]
    before, more = fleet(9), [*fleet(9), Candidate("new")]
    moved = 0
    for key in keys:
        was, is_now = consistent_hash(before, key)[0], consistent_hash(more, key)[0]
        if was != is_now:
            assert is_now.id == "new"
            moved += 1
    assert moved / len(keys) == pytest.approx(1 / 10, rel=0.2)


def test_consistent_hash_follows_weights() -> None:
    candidates = [Candidate("one", 1), Candidate("three", 3), Candidate("none", 0)]
    first = Counter(consistent_hash(candidates, str(key))[0].id for key in range(8000))
    assert first["three"] / first["one"] == pytest.approx(3, rel=0.15)
    assert "none" not in first
