"""``python -m benchmarks [--only NAME]... [--quick] [--json FILE] [--plots FOLDER]``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import orjson
from rich.console import Console

from benchmarks import plots, report
from benchmarks.harness import Outcome, Row, Scale, load_rows, machine, run_row, to_json

_EPILOG = "Exit status: 0 when all goals were met, 1 when one was missed, 3 when a row was not run."


def main() -> int:
    """Measures what is asked for; prints the table."""
    rows = load_rows()
    names = [each.name for each in rows]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", epilog=_EPILOG)
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", default=[])
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less, to try out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw plots as SVG")
    parser.add_argument("--list", action="store_true", help="say what there is")
    given = parser.parse_args()
    # A table that is piped into a file shall not be squeezed into 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if given.list:
        for each in rows:
            console.print(f"{each.number:>3} {each.name}: {each.what}", highlight=False)
        return 0
    wanted = [each for each in rows if not given.only or each.name in given.only]
    about = machine()
    outcomes = asyncio.run(_all(wanted, Scale(given.quick), console))
    report.show(outcomes, console)
    if given.json is not None:
        given.json.write_bytes(orjson.dumps(to_json(outcomes, about), option=orjson.OPT_INDENT_2))
    if given.plots is not None:
        plots.draw(outcomes, given.plots)
    if any(outcome.problem for outcome in outcomes):
        return 3
    return int(not all(line.met for outcome in outcomes for line in outcome.lines))


async def _all(rows: list[Row], scale: Scale, console: Console) -> list[Outcome]:
    found = []
    with console.status("") as status:
        for each in rows:
            outcome = await run_row(each, scale, status.update)
            found.append(outcome)
            said = outcome.problem or "; ".join(
                f"{line.contender} {line.figure} {report.spelled(line.value)} (goal {line.goal})"
                for line in outcome.lines
            )
            console.print(f"{each.name}: {said} in {outcome.seconds:.0f} s", highlight=False)
    return found


if __name__ == "__main__":
    sys.exit(main())
