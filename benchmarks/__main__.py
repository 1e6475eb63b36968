"""``python -m benchmarks [--only NAME…] [--quick] [--json FILE] [--plots DIR] [--page FILE]``."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
from rich.console import Console

from benchmarks import plots, report
from benchmarks.harness import Outcome, Row, Scale, load_rows, machine, run_row, to_json

_EPILOG = (
    "Exit status: 0 when all goals were met, 1 when one was missed, 3 when a row was not run, 2 "
    "for options that cannot be, 130 or 143 when it was ended by Ctrl-C or SIGTERM: what was "
    "measured until then is told all the same."
)


def main() -> int:
    """Measures what is asked for; prints the table."""
    rows = load_rows()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", epilog=_EPILOG)
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", default=[])
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less, to try out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw plots as SVG")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the table into a page")
    parser.add_argument("--list", action="store_true", help="say what there is")
    given = parser.parse_args()
    # A table that is piped into a file shall not be squeezed into 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if given.list:
        for each in rows:
            console.print(f"{each.number:>3} {each.name}: {each.what}", highlight=False)
        return 0
    try:
        wanted = _wanted(rows, given.only)
        _require_writable(given.json, given.plots)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    about = machine()
    outcomes: list[Outcome] = []
    ended_by = asyncio.run(_measure(wanted, Scale(given.quick), console, outcomes))
    report.show(outcomes, console)
    if given.json is not None:
        given.json.write_bytes(orjson.dumps(to_json(outcomes, about), option=orjson.OPT_INDENT_2))
    if given.plots is not None:
        plots.draw(outcomes, given.plots)
    if given.page is not None:
        report.put_into_page(outcomes, about, given.page)
    if ended_by is not None:
        return 128 + ended_by
    if any(outcome.problem for outcome in outcomes):
        return 3
    return int(not all(line.met for outcome in outcomes for line in outcome.lines))


def _wanted(rows: list[Row], names: list[str]) -> list[Row]:
    """The rows of these names, all where there are none; raises :class:`ValueError`."""
    known = [each.name for each in rows]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "--list says which there are"
            raise ValueError(f"no row is called {name!r}; {hint}")
    return [each for each in rows if not names or each.name in names]


def _require_writable(file: Path | None, folder: Path | None) -> None:
    """Raises :class:`ValueError` now rather than after an hour of measuring."""
    try:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {error.filename}: {error.strerror}") from error


async def _measure(
    rows: list[Row], scale: Scale, console: Console, outcomes: list[Outcome]
) -> signal.Signals | None:
    """Measures row after row into ``outcomes``; returns the signal that ended it, if any.

    A signal ends the row under way, whose programs are killed, and those after it.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(_one_by_one(rows, scale, console, outcomes), name="rows")
    ended_by: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        ended_by.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return ended_by[0] if ended_by else None


async def _one_by_one(
    rows: list[Row], scale: Scale, console: Console, outcomes: list[Outcome]
) -> None:
    with console.status("") as status:
        for place, each in enumerate(rows, start=1):
            of = f"{place} of {len(rows)}"
            if not console.is_terminal:
                console.print(f"{of}, {each.name} …", highlight=False)
            try:
                outcome = await run_row(each, scale, _saying(status.update, of))
            except asyncio.CancelledError:
                problem = "it was ended before it was over"
                outcomes.append(Outcome(each.number, each.name, each.what, "–", problem=problem))
                raise
            outcomes.append(outcome)
            said = outcome.problem or "; ".join(
                f"{line.contender} {line.figure} {report.spelled(line.value)} (goal {line.goal})"
                for line in outcome.lines
            )
            console.print(f"{each.name}: {said} in {outcome.seconds:.0f} s", highlight=False)


def _saying(say: Callable[[str], None], of: str) -> Callable[[str], None]:
    return lambda words: say(f"{of}, {words}")


if __name__ == "__main__":
    sys.exit(main())
