"""What the benchmarks make of figures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import harness, plots
from benchmarks.drawing import Axis
from benchmarks.harness import (
    Contender,
    Contest,
    Goal,
    Measured,
    Outcome,
    Row,
    Scale,
    Unavailable,
    run_row,
    to_json,
)


def giving(name: str, values: Iterator[Measured], order: list[str] | None = None) -> Contender:
    async def run() -> Measured:
        if order is not None:
            order.append(name)
        return next(values)

    return Contender(name, run)


def a_row(scene: Callable[[Scale], AsyncGenerator[Contest, None]], *goals: Goal) -> Row:
    return Row(1, "row", "what", "ms", goals, scene)


async def test_contenders_run_in_turns_and_each_round_gives_a_ratio(tmp_path: Path) -> None:
    order: list[str] = []

    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        # The machine is ten times as slow in the second round, for both of them.
        ours, theirs = iter([2.0, 20.0, 2.2]), iter([1.0, 10.0, 1.0])
        try:
            yield Contest([giving("a", ours, order)], giving("b", theirs, order), rounds=3)
        finally:
            order.append("over")

    outcome = await run_row(a_row(scene, Goal(2.1), Goal(2.1, at_least=True)), Scale(quick=True))
    assert order == ["a", "b", "b", "a", "a", "b", "over"]
    most, least = outcome.lines
    assert most.value.median == pytest.approx(2.0) and most.value.high == pytest.approx(2.1)
    assert (most.met, most.close) == (True, True) and not least.met
    assert outcome.noise is not None and outcome.noise.low > 0
    plots.draw([outcome], tmp_path)
    assert (tmp_path / "goals.svg").read_text().count("<rect") == 3
    (written,) = to_json([outcome], {})["rows"]
    assert written["runs"] == {
        "a": [{"": 2.0}, {"": 20.0}, {"": 2.2}],
        "b": [{"": 1.0}, {"": 10.0}, {"": 1.0}],
    }


async def test_goals_may_be_of_one_figure_absolute_and_allow_for_something() -> None:
    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        yield Contest(
            [giving("a", iter([{"p50": 5.0, "p99": 9.0}] * 3))],
            giving("b", iter([{"p50": 2.5, "p99": 3.0}] * 3)),
        )

    goals = Goal(1.2, figure="p50", plus=2), Goal(10, figure="p99", absolute=True, unit="s")
    outcome = await run_row(a_row(scene, *goals), Scale(quick=True))
    p50, p99 = outcome.lines
    assert p50.value.median == pytest.approx(1.2) and p50.met
    assert (p99.value.median, p99.unit, p99.beside, p99.met) == (9.0, "s", None, True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("wrk is missing"), "wrk is missing"),
        (OSError("no"), "it failed: OSError('no')"),
    ],
)
async def test_a_row_that_cannot_be_run_says_why(error: Exception, said: str) -> None:
    async def run() -> float:
        raise error

    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        yield Contest([Contender("a", run)])

    assert (await run_row(a_row(scene, Goal(1)), Scale())).problem == said


def test_rows_are_known_by_name_once() -> None:
    rows = harness.load_rows()
    assert len({each.name for each in rows}) == len(rows) >= 5


# -- plots -------------------------------------------------------------------------------------


async def measured(
    name: str, figures: Mapping[str, Mapping[str, float]], beside: str, *goals: Goal
) -> Outcome:
    """What comes out of a row of that name whose contenders always measure these figures."""

    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        every = {who: giving(who, iter([each] * 3)) for who, each in figures.items()}
        theirs = every.pop(beside, None)
        yield Contest(list(every.values()), theirs)

    outcome = await run_row(replace(a_row(scene, *goals), name=name), Scale(quick=True))
    assert not outcome.problem, outcome.problem
    return outcome


async def test_single_rows_are_drawn_with_all_that_they_measured(tmp_path: Path) -> None:
    sizes = {name: {"p50": 1.0, "p99": 2.0} for name in ("100", "10,000")}
    shares = {"readers, 50 %": 5.0, "readers, 100 %": 9.0, "polls, 50 %": 8.0, "polls, 100 %": 9.5}
    who = {name: {"p50": 1.0, "p99": 2.0} for name in ("catalog", "bare watch")}
    outcomes = [
        await measured("latency-by-size", sizes, "100", Goal(1.2, figure="p50")),
        await measured(
            *("fan-out", {"facade": {"last reader": 9.0, **shares}}, ""),
            Goal(300, figure="last reader", absolute=True),
        ),
        await measured("change-etcd", who, "bare watch", Goal(1.2, figure="p50", plus=2.0)),
    ]
    plots.draw(outcomes, tmp_path)
    points = {
        file.stem: sum(each.tag.endswith("circle") for each in ElementTree.parse(file).iter())
        for file in tmp_path.iterdir()
    }
    assert points == {"goals": 0, "latency-by-size": 4, "fan-out": 4, "change-etcd": 4}


@pytest.mark.parametrize("high", [0.0007, 0.9, 1.0, 3.3, 59.9, 60.1, 299, 12_345])
def test_an_axis_has_a_few_round_ticks_and_reaches_far_enough(high: float) -> None:
    axis = Axis.linear("ms", high)
    assert high <= axis.high < 2 * high and axis.share(axis.high) == 1
    assert 3 <= len(axis.ticks) <= 8
