"""``python -m benchmarks.simulate [--json FILE] [--plots FOLDER] [--quick] [--measure]``.

What very many facades and sidecars ask of Consul and of etcd, where either ends, and what to do
then: real catalogs over a modelled store, whose parameters were measured on real ones.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from benchmarks.harness import Scale
from benchmarks.machine import machine
from benchmarks.output_files import require_file, require_folder
from benchmarks.simulation import measurement, plots, tables
from benchmarks.simulation.costs import MEASURED, Costs
from benchmarks.simulation.fleets import outcomes
from benchmarks.simulation.model import STORES, Fleet, Machine, most_sidecars
from benchmarks.simulation.remedies import remedies
from benchmarks.simulation.validation import Check, check_consul, check_etcd

_EPILOG = (
    "Exit status: 0 when all was simulated; 2 for files that cannot be written; 3 when there are "
    "no measured parameters."
)
#: Fleets that one store does not bear, or not easily, for which there are remedies.
_LARGE = (
    *(Fleet(sidecars, 1_000) for sidecars in (10_000, 100_000)),
    Fleet(1_000_000, 10_000),
)
#: How many facades there are, for the question how many sidecars there can be.
_FACADES = (3, 10, 100, 1_000, 10_000)
#: The share of all instances that is replaced in an hour; a deploy replaces a tenth in ten minutes.
_DAYS = {"usual": Fleet(1, 1).turnover, "deploy": 0.6}


def main() -> int:
    """Simulates; prints tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", epilog=_EPILOG)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw plots as SVG")
    parser.add_argument("--quick", action="store_true", help="smaller catalogs, smaller checks")
    parser.add_argument(
        "--measure", action="store_true", help=f"measure the parameters first, into {MEASURED.name}"
    )
    given = parser.parse_args()
    try:
        if given.json is not None:
            require_file(given.json)
        if given.plots is not None:
            require_folder(given.plots)
        if given.measure:
            require_file(MEASURED)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    console = Console() if sys.stdout.isatty() else Console(width=180)
    with console.status("") as status:
        if given.measure:
            asyncio.run(measurement.measure(status.update)).save(MEASURED)
        try:
            costs = Costs.load(MEASURED)
        except (OSError, ValueError) as error:
            console.print(f"{MEASURED}: {error}; measure the parameters with --measure")
            return 3
        found = asyncio.run(_simulate(costs, Scale(given.quick), status.update))
    tables.show(found, costs, console)
    if given.json is not None:
        given.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    if given.plots is not None:
        plots.draw(found, given.plots)
    return 0


async def _simulate(costs: Costs, scale: Scale, report: Callable[[str], None]) -> dict[str, Any]:
    """All figures, as they go into a file."""
    began = time.monotonic()
    on = Machine()
    report("the model beside real stores")
    checks = [*await _checks(costs, scale)]
    report("catalogs")
    fleets, catalogs = await outcomes(costs, on, scale, report)
    report("where each store ends")
    most = [
        {"store": store, "facades": facades, "day": day, "sidecars": sidecars, "first": first}
        for store in STORES
        for facades in (_FACADES[::2] if scale.quick else _FACADES)
        for day, turnover in _DAYS.items()
        for sidecars, first in [most_sidecars(store, facades, on, costs, turnover)]
    ]
    report("remedies")
    ways = [
        {"store": store, "sidecars": fleet.sidecars, "facades": fleet.facades, **way.as_json()}
        for store in STORES
        for fleet in (_LARGE[1:2] if scale.quick else _LARGE)
        for way in remedies(store, fleet, on, costs)
    ]
    return {
        "machine": machine(),
        "parameters of": dict(costs.machine),
        "a store's server": asdict(on),
        "checks": [asdict(each) | {"ratio": each.ratio} for each in checks],
        "catalogs": catalogs,
        "fleets": [each.as_json() for each in fleets],
        "most sidecars": most,
        "remedies": ways,
        "seconds": time.monotonic() - began,
    }


async def _checks(costs: Costs, scale: Scale) -> list[Check]:
    if scale.quick:
        return [
            *await check_etcd(costs, watches=20, changes=60, pause=0.02),
            *await check_consul(costs, instances=300, queries=8, changes=4),
        ]
    return [
        *await check_etcd(costs, watches=20, changes=200, pause=0.02),
        *await check_etcd(costs, watches=100, changes=200, pause=0.02),
        *await check_consul(costs, instances=1000, queries=20, changes=8),
    ]


if __name__ == "__main__":
    sys.exit(main())
