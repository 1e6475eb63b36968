"""The table of what was measured, for a terminal and for a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Line, Outcome, Spread

#: Between these a page has the table.
_BEGIN, _END = "<!-- table -->\n", "<!-- end of table -->\n"
_COLUMNS = ("row", "contender", "ours", "beside", "ratio or value", "goal", "", "noise")


def show(outcomes: Iterable[Outcome], console: Console) -> None:
    """Prints the table, and below it what must be known of each row."""
    outcomes = list(outcomes)
    table = Table(title=None)
    for name in _COLUMNS:
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


def put_into_page(outcomes: Iterable[Outcome], about: Mapping[str, Any], page: Path) -> None:
    """Writes the table into ``page``, in the place of the one that it has.

    Raises :class:`ValueError` where it has no place for it.
    """
    outcomes = list(outcomes)
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {_BEGIN.strip()} and {_END.strip()}")
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    facts = []
    for outcome in outcomes:
        name = f"{outcome.number} {outcome.name}"
        if outcome.problem:
            rows.append((name, f"not run: {outcome.problem}", "", "", "", "", "", ""))
        rows += [(name, *cells(line, outcome)) for line in outcome.lines]
        facts += [f"- *{outcome.name}*, {fact}: {text}" for fact, text in outcome.facts.items()]
    measured = (
        f"Measured {about['at'][:10]} with Python {about['python']} on {about['processors']} "
        "processors."
    )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    told = "\n\n".join((measured, table, "\n".join(facts)))
    page.write_text(f"{before}{begin}{told}\n{end}{after}", encoding="utf-8")


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
