"""What the benchmarks make of figures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import harness, plots
from benchmarks.harness import Contender, Contest, Goal, Row, Scale, Unavailable, run_row


def giving(name: str, values: Iterator[float], order: list[str]) -> Contender:
    async def run() -> float:
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
            yield Contest([giving("a", ours, order)], giving("b", theirs, order))
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


async def test_goals_may_be_of_one_figure_absolute_and_allow_for_something() -> None:
    async def ours() -> dict[str, float]:
        return {"p50": 5.0, "p99": 9.0}

    async def theirs() -> dict[str, float]:
        return {"p50": 2.5, "p99": 3.0}

    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        yield Contest([Contender("a", ours)], Contender("b", theirs))

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
