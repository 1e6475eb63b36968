"""What the benchmarks make of figures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from benchmarks import figures, harness, plots, report
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
)
from benchmarks.svg_charts import Axis


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
    figures.write(tmp_path / "figures.json", [outcome], {}, quick=True)
    (written,) = figures.read(tmp_path / "figures.json", quick=True)
    assert written == outcome
    assert written.runs == {
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
        (OSError("no"), "it failed: OSError: no"),
    ],
)
async def test_a_row_that_cannot_be_run_says_why(error: Exception, said: str) -> None:
    async def run() -> float:
        raise error

    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        yield Contest([Contender("a", run)])

    assert (await run_row(a_row(scene, Goal(1)), Scale())).problem == said


async def test_a_goal_of_every_round_is_judged_by_the_worst() -> None:
    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        yield Contest([giving("a", iter([200.0, 310.0, 220.0]))], rounds=3)

    goals = Goal(300, absolute=True, worst=True), Goal(250, absolute=True), Goal(210, True, "")
    outcome = await run_row(a_row(scene, *(replace(each, worst=True) for each in goals)), Scale())
    assert [line.judged for line in outcome.lines] == [310, 310, 200]
    assert [(line.met, line.close) for line in outcome.lines] == [(False, True)] * 3
    assert report.told(outcome.lines[0]) == "220 [210–265], worst 310"


async def test_a_contender_may_have_no_goal(tmp_path: Path) -> None:
    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        told = replace(giving("b", iter([9.0] * 3)), has_goal=False)
        yield Contest([giving("a", iter([1.0] * 3)), told], giving("c", iter([3.0] * 3)))

    outcome = await run_row(a_row(scene, Goal(1.0)), Scale(quick=True))
    assert [(line.contender, line.goal, line.met) for line in outcome.lines] == [
        ("a", "≤ 1", True),
        ("b", "", None),
    ]
    assert report.cells(outcome.lines[1], outcome)[1:6] == ["9 ms", "3 ms", "3 [3–3]", "–", ""]
    plots.draw([outcome], tmp_path)
    assert (tmp_path / "goals.svg").read_text().count("<title>") == 1


async def test_a_row_whose_clean_up_fails_has_met_nothing() -> None:
    async def scene(scale: Scale) -> AsyncGenerator[Contest, None]:
        yield Contest([giving("a", iter([1.0] * 3))])
        raise OSError("no")

    async def failing(scale: Scale) -> AsyncGenerator[Contest, None]:
        try:
            async for each in scene(scale):
                yield each
        finally:
            raise OSError("no")

    outcome = await run_row(a_row(failing, Goal(1)), Scale(quick=True))
    assert (outcome.problem, outcome.lines) == ("it failed: OSError: no", [])


def test_rows_are_known_by_name_once() -> None:
    rows = harness.load_rows()
    assert len({each.name for each in rows}) == len(rows) >= 5


# -- figures and pages -------------------------------------------------------------------------


def test_only_what_was_measured_replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    old = [Outcome(number, name, "", "", at="then") for number, name in ((1, "a"), (2, "b"))]
    figures.write(file, old, {}, quick=False)
    now = [
        Outcome(2, "b", "", "", at="now", problem=figures.ENDED),
        Outcome(1, "a", "", "", at="now", problem="wrk is missing"),
        Outcome(3, "c", "", "", at="now", problem=figures.ENDED),
    ]
    rows = figures.merged(figures.read(file, quick=False), now)
    assert [(each.name, each.at) for each in rows] == [("a", "now"), ("b", "then"), ("c", "now")]
    with pytest.raises(ValueError, match="has the figures of a full run"):
        figures.read(file, quick=True)
    file.write_text("{}")
    with pytest.raises(ValueError, match="something else than figures"):
        figures.read(file, quick=True)


def test_problems_are_one_sentence_and_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    problem = "a [/b] | c ended with 1: no. And more of it\nand more"
    outcome = Outcome(1, "row", "what", "–", at="2026-01-02T", problem=problem)
    report.put_into_page([outcome], {"python": "3.11", "processors": 2}, page)
    text = page.read_text()
    assert "| 1 row | not run: a [/b] \\| c ended with 1: no. | " in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "Measured 2026-01-02 with" in text
    report.show([outcome], Console(width=200))
    assert "a [/b] | c ended with 1: no. " in capsys.readouterr().out


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
