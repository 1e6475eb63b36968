"""The table of what was measured, for a terminal and for a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Line, Outcome, Spread


def show(outcomes: Iterable[Outcome], console: Console) -> None:
    """Prints the table, and below it what must be known of each row."""
    outcomes = list(outcomes)
    table = Table(title=None)
    for name in ("row", "contender", "ours", "beside", "ratio or value", "goal", "", "noise"):
        table.add_column(name, justify="left" if name in ("row", "contender", "") else "right")
    for outcome in outcomes:
        if outcome.problem:
            table.add_row(f"{outcome.number} {outcome.name}", f"not run: {outcome.problem}")
        for line in outcome.lines:
            table.add_row(f"{outcome.number} {outcome.name}", *cells(line, outcome))
    console.print(table)
    for outcome in outcomes:
        for fact, text in outcome.facts.items():
            console.print(f"{outcome.name}: {fact}: {text}", highlight=False)


def cells(line: Line, outcome: Outcome) -> list[str]:
    """One line of the table, from the contender's name on."""
    name = f"{line.contender}, {line.figure}" if line.figure else line.contender
    verdict = ("met" if line.met else "missed") + (" (close)" if line.close else "")
    return [
        name,
        f"{number(line.ours.median)} {line.unit}",
        f"{number(line.beside.median)} {line.unit}" if line.beside else "–",
        spelled(line.value),
        line.goal,
        verdict,
        noise(outcome),
    ]


def spelled(spread: Spread) -> str:
    """A median with its quartiles."""
    return f"{number(spread.median)} [{number(spread.low)}–{number(spread.high)}]"


def noise(outcome: Outcome) -> str:
    """How far the quartiles of the fixed loop lie apart, in percent of its median."""
    if outcome.noise is None:
        return ""
    return f"{(outcome.noise.high - outcome.noise.low) / outcome.noise.median:.0%}"


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
