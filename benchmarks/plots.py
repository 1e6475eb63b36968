"""Draws what was measured: how far every figure is from its goal, and some rows in more detail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.harness import Line, Outcome, Spread
from benchmarks.report import number
from benchmarks.svg_charts import Axis, Chart, Series, framed, line, text

_WIDTH, _NAMES, _ROW = 980, 400, 26
#: What a figure's name stands for, on the pictures.
_WORDS = {
    "again": "repeated request",
    "anew": "first request",
    "p50": "median",
    "p99": "99th percentile",
}
#: What is farther from its goal than this is drawn here.
_FARTHEST = 32.0


def draw(outcomes: Iterable[Outcome], folder: Path) -> None:
    """Writes ``goals.svg`` into ``folder``, and a file for each row of :data:`_DETAILED`."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = list(outcomes)
    bars = [(outcome, line) for outcome in outcomes for line in outcome.lines if line.goal]
    if bars:
        (folder / "goals.svg").write_text(_goals(bars), encoding="utf-8")
    for outcome in outcomes:
        detailed = _DETAILED.get(outcome.name)
        if detailed is not None and outcome.lines:
            file = folder / f"{outcome.name}.svg"
            file.write_text(detailed(outcome).svg(), encoding="utf-8")


# -- every row ---------------------------------------------------------------------------------


def _goals(bars: list[tuple[Outcome, Line]]) -> str:
    """Each value as the share of its goal that it reaches, on a logarithmic scale: right is better,
    whether the goal is a least or a most. The bar ends at the value that is judged, the whisker is
    from quartile to quartile."""
    reached = [
        [_share(line, each) for each in (line.value.low, line.judged, line.value.high)]
        for _, line in bars
    ]
    extent = max(1.0, *(abs(math.log2(each)) for three in reached for each in three))
    head = 2 * _ROW
    height = head + _ROW * (len(bars) + 1)
    middle = _NAMES + (_WIDTH - _NAMES - 20) / 2
    scale = (_WIDTH - _NAMES - 40) / 2 / extent

    def place(share: float) -> float:
        return middle + math.log2(share) * scale

    parts = [
        text(8, 20, "How far every figure is from its goal", weight="bold"),
        text(
            8, 40, "On a logarithmic scale; a whisker is from quartile to quartile of the rounds."
        ),
        line("goal", middle, head + 8, middle, height - 6),
        text(middle, head + 2, "goal", anchor="middle"),
        text(_NAMES + 8, head + 2, "← worse"),
        text(_WIDTH - 20, head + 2, "better →", anchor="end"),
    ]
    rows = zip(bars, reached, strict=True)
    for row, ((outcome, of), (low, judged, high)) in enumerate(rows, start=1):
        y = head + _ROW * (row - 1) + 12
        left, right = sorted((middle, place(judged)))
        whisker = place(low), place(high)
        name = f"{outcome.number} {outcome.name}: {_with_noun(of.contender)}"
        name += f", {_in_words(of.figure)}" if of.figure else ""
        unit = f" × {_with_noun(outcome.beside)}" if of.beside is not None else f" {of.unit}"
        goal = f"{of.goal} {of.unit}" if of.plus else of.goal
        told = f"{number(of.judged)}{unit}{' at worst' if of.worst else ''} (goal {goal})"
        verdict = "met" if of.met else "missed"
        parts += [
            text(8, y + 13, name),
            f'<rect class="{verdict}" x="{left:.1f}" y="{y}" '
            f'width="{max(right - left, 1):.1f}" height="16"><title>{escape(told)}</title></rect>',
            line("spread", whisker[0], y + 8, whisker[1], y + 8),
            text(
                min(middle, *whisker) - 8 if judged >= 1 else max(middle, *whisker) + 8,
                y + 13,
                told,
                anchor="end" if judged >= 1 else "start",
            ),
        ]
    return framed(_WIDTH, height, parts)


def _in_words(figure: str) -> str:
    return ", ".join(_WORDS.get(part, part) for part in figure.split(", "))


def _with_noun(contender: str) -> str:
    """A contender that is a number, or ends with one, is of so many instances."""
    is_size = contender.rpartition(" ")[2].replace(",", "").isdigit()
    return f"{contender} instances" if is_size else contender


def _title(outcome: Outcome) -> str:
    return outcome.what[:1].upper() + outcome.what[1:]


def _share(line: Line, value: float) -> float:
    value, limit = max(value, 1e-9), max(line.limit, 1e-9)
    share = value / limit if line.at_least else limit / value
    return min(max(share, 1 / _FARTHEST), _FARTHEST)


# -- single rows -------------------------------------------------------------------------------


def _by_size(outcome: Outcome) -> Chart:
    """Latency over the number of instances, which is each contender's name."""
    sizes = sorted((int(name.replace(",", "")), name) for name in outcome.runs)
    series = [
        Series(_in_words(figure), [(size, _spread(outcome, name, figure)) for size, name in sizes])
        for figure in _figures(outcome)
    ]
    x = Axis.by_powers("instances in the list", [size for size, _ in sizes])
    return Chart(_title(outcome), x, Axis.linear("latency in ms", _highest(series)), series)


def _by_share(outcome: Outcome) -> Chart:
    """How many have the change after how many milliseconds."""
    (name,) = outcome.runs
    reached: dict[str, list[tuple[float, Spread]]] = {"readers": [], "polls": []}
    for figure in _figures(outcome):
        kind, comma, share = figure.removesuffix(" %").partition(", ")
        if comma:
            after = _spread(outcome, name, figure).median
            reached[kind].append((after, Spread.of([float(share)])))
    goal = min(line.limit for line in outcome.lines)
    last = max(x for points in reached.values() for x, _ in points)
    return Chart(
        _title(outcome),
        Axis.linear("ms after the change was sent", max(last, goal * 1.1)),
        Axis("how many have it, in %", 0, 100, {each: f"{each:g}" for each in range(0, 101, 25)}),
        [
            Series({"readers": "readers of events", "polls": "long polls"}[kind], points)
            for kind, points in reached.items()
        ],
        limit=(goal, f"goal: {goal:g} ms"),
    )


def _by_contender(outcome: Outcome) -> Chart:
    """Median and 99th percentile of each contender, and what the goal allows beside it."""
    order = [outcome.beside, *(name for name in outcome.runs if name != outcome.beside)]
    allowed = [
        (order.index(line.contender), Spread.of([line.limit * line.beside.median + line.plus]))
        for line in outcome.lines
        if line.beside is not None and line.goal
    ]
    series = [
        Series(
            _in_words(figure),
            [(place, _spread(outcome, name, figure)) for place, name in enumerate(order)],
            joined=False,
        )
        for figure in _figures(outcome)
    ]
    series = [Series("most that the goals allow", allowed, joined=False, dash=True), *series]
    y = Axis.linear("delay in ms", _highest(series))
    return Chart(_title(outcome), Axis.of_names("who has the change", order), y, series)


def _figures(outcome: Outcome) -> list[str]:
    return list(next(iter(outcome.runs.values()))[0])


def _spread(outcome: Outcome, contender: str, figure: str) -> Spread:
    return Spread.of([run[figure] for run in outcome.runs[contender]])


def _highest(series: Iterable[Series]) -> float:
    return max(spread.high for each in series for _, spread in each.points)


#: Row → how it is drawn.
_DETAILED: Mapping[str, Callable[[Outcome], Chart]] = {
    "latency-by-size": _by_size,
    "fan-out": _by_share,
    "change-etcd": _by_contender,
    "change-consul": _by_contender,
}
