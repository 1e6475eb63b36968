"""``python -m benchmarks [--only NAME…] [--quick] [--json FILE] [--plots DIR] [--page FILE]``."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import figures, plots, report
from benchmarks.harness import Outcome, Row, Scale, load_rows, run_row
from benchmarks.machine import machine, utc_now
from benchmarks.output_files import require_file, require_folder

_EPILOG = (
    "Exit status: 0 when all goals were met, 1 when one was missed, 3 when a row was not run, 2 "
    "for options that cannot be, 129, 130 or 143 when it was ended by SIGHUP, Ctrl-C or SIGTERM: "
    "what was measured until then is told and written all the same. Files keep the rows that were "
    "not measured anew."
)


def main() -> int:
    """Measures what is asked for; prints the table."""
    rows = load_rows()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", epilog=_EPILOG)
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", default=[])
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less, to try out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all that was measured")
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
        _require_places(given)
        before = figures.read(given.json, given.quick) if given.json is not None else []
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    about = machine()
    outcomes: list[Outcome] = []
    known = {each.name for each in rows}

    def all_rows() -> list[Outcome]:
        return [each for each in figures.merged(before, outcomes) if each.name in known]

    def keep(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if given.json is not None:
            figures.write(given.json, all_rows(), about, given.quick)

    ended_by = asyncio.run(_measure(wanted, Scale(given.quick), console, keep))
    report.show(outcomes, console)
    if given.plots is not None:
        plots.draw(all_rows(), given.plots)
    if given.page is not None:
        there = {each.name for each in all_rows() if each.problem != figures.ENDED}
        if missing := sorted(known - there):
            console.print(f"{given.page} is left as it is: {given.json} lacks {', '.join(missing)}")
        else:
            report.put_into_page(all_rows(), about, given.page)
    if ended_by is not None:
        return 128 + ended_by
    if any(outcome.problem for outcome in outcomes):
        return 3
    return int(any(line.met is False for outcome in outcomes for line in outcome.lines))


def _wanted(rows: list[Row], names: list[str]) -> list[Row]:
    """The rows of these names, all where there are none; raises :class:`ValueError`."""
    known = [each.name for each in rows]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "--list says which there are"
            raise ValueError(f"no row is called {name!r}; {hint}")
    return [each for each in rows if not names or each.name in names]


def _require_places(given: argparse.Namespace) -> None:
    """Raises :class:`ValueError` now rather than after an hour of measuring, where what is
    measured could not be written."""
    if given.page is not None:
        if given.quick:
            raise ValueError("--page is for full runs, not for --quick")
        if given.json is None:
            raise ValueError("--page needs --json, the file of all rows that the page shows")
        try:
            report.around_table(given.page)
        except OSError as error:
            raise ValueError(f"cannot read {given.page}: {error.strerror}") from error
        require_file(given.page)
    if given.json is not None:
        given.json = given.json.resolve()  # a link stays one
        require_file(given.json)
    if given.plots is not None:
        require_folder(given.plots)


async def _measure(
    rows: list[Row], scale: Scale, console: Console, keep: Callable[[Outcome], None]
) -> signal.Signals | None:
    """Measures row after row for ``keep``; returns the signal that ended it, if any.

    A signal ends the row under way, whose programs are killed, and those after it.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(_one_by_one(rows, scale, console, keep), name="rows")
    ended_by: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        if not ended_by:  # a second one would cut short what ends the programs
            ended_by.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return ended_by[0] if ended_by else None


async def _one_by_one(
    rows: list[Row], scale: Scale, console: Console, keep: Callable[[Outcome], None]
) -> None:
    with console.status("") as status:
        for place, each in enumerate(rows, start=1):
            of = f"{place} of {len(rows)}"
            if not console.is_terminal:
                console.print(f"{of}, {each.name} …", highlight=False)
            try:
                outcome = await run_row(each, scale, _saying(status.update, of))
            except asyncio.CancelledError:
                keep(
                    Outcome(
                        *(each.number, each.name, each.what, "–"),
                        at=utc_now(),
                        problem=figures.ENDED,
                    )
                )
                raise
            keep(outcome)
            said = "; ".join(
                f"{line.contender} {line.figure} {report.told(line)} (goal {line.goal or '–'})"
                for line in outcome.lines
            )
            console.print(
                f"{each.name}: {report.problem(outcome) if outcome.problem else said} "
                f"in {outcome.seconds:.0f} s",
                highlight=False,
                markup=False,
            )


def _saying(say: Callable[[str], None], of: str) -> Callable[[str], None]:
    return lambda words: say(f"{of}, {words}")


if __name__ == "__main__":
    sys.exit(main())
