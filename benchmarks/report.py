"""The table of what was measured, for a terminal and for a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness import Line, Outcome, Spread

#: Between these a page has the table.
_BEGIN, _END = "<!-- table -->\n", "<!-- end of table -->\n"
#: More of a problem than so many characters does not go into the table.
_LONGEST = 160
_COLUMNS = ("row", "contender", "ours", "beside", "ratio or value", "goal", "", "noise")


def show(outcomes: Iterable[Outcome], console: Console) -> None:
    """Prints the table, and below it what must be known of each row."""
    outcomes = list(outcomes)
    table = Table(title=None)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("row", "contender", "") else "right")
    for outcome in outcomes:
        if outcome.problem:
            table.add_row(f"{outcome.number} {outcome.name}", escape(problem(outcome)))
        for line in outcome.lines:
            table.add_row(f"{outcome.number} {outcome.name}", *map(escape, cells(line, outcome)))
    console.print(table)
    for outcome in outcomes:
        for fact, text in outcome.facts.items():
            console.print(f"{outcome.name}: {fact}: {text}", highlight=False, markup=False)


def put_into_page(outcomes: Iterable[Outcome], about: Mapping[str, Any], page: Path) -> None:
    """Writes the table into ``page``, in the place of the one that it has.

    Raises :class:`ValueError` where it has no place for it, :class:`OSError` without a page.
    """
    outcomes = list(outcomes)
    before, after = around_table(page)
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    facts = []
    for outcome in outcomes:
        name = f"{outcome.number} {outcome.name}"
        if outcome.problem:
            rows.append((name, problem(outcome), "", "", "", "", "", ""))
        rows += [(name, *cells(line, outcome)) for line in outcome.lines]
        facts += [f"- *{outcome.name}*, {fact}: {text}" for fact, text in outcome.facts.items()]
    days = sorted({outcome.at[:10] for outcome in outcomes})
    measured = (
        f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))} with Python "
        f"{about['python']} on {about['processors']} processors."
    )
    table = "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows
    )
    told = "\n\n".join((measured, table, "\n".join(facts)))
    page.write_text(f"{before}{_BEGIN}{told}\n{_END}{after}", encoding="utf-8")


def around_table(page: Path) -> tuple[str, str]:
    """What a page has before and after its table; raises as :func:`put_into_page` does."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {_BEGIN.strip()} and {_END.strip()}")
    return before, after


def problem(outcome: Outcome) -> str:
    """Why a row was not run, in one sentence."""
    sentence = re.split(r"\n|(?<=\.)\s", outcome.problem, maxsplit=1)[0]
    cut = sentence if len(sentence) <= _LONGEST else f"{sentence[:_LONGEST]}…"
    return f"not run: {cut}"


def cells(line: Line, outcome: Outcome) -> list[str]:
    """One line of the table, from the contender's name on."""
    name = f"{line.contender}, {line.figure}" if line.figure else line.contender
    verdict = {None: "", True: "met", False: "missed"}[line.met]
    verdict += " (close)" if line.close else ""
    return [
        name,
        f"{number(line.ours.median)} {line.unit}",
        f"{number(line.beside.median)} {line.unit}" if line.beside else "–",
        told(line),
        line.goal or "–",
        verdict,
        noise(outcome),
    ]


def told(line: Line) -> str:
    """The median with its quartiles, and the worst round where that one is judged."""
    worst = f", worst {number(line.judged)}" if line.worst else ""
    return f"{spelled(line.value)}{worst}"


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
