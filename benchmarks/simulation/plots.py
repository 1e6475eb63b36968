"""Plots of a simulation: where the stores end, how late changes are, how much they send."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import Spread
from benchmarks.simulation.tables import seconds, size
from benchmarks.svg_charts import Axis, Chart, Series

_NAMES = {"etcd": "etcd", "consul": "Consul"}
#: The fleet whose delays and bytes are drawn.
_SIDECARS = 1_000


def draw(found: Mapping[str, Any], folder: Path) -> None:
    """Writes ``simulation-limits.svg``, ``simulation-delays.svg`` and ``simulation-bytes.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    fleets = [each for each in found["fleets"] if each["sidecars"] == _SIDECARS]
    usual = [each for each in found["most sidecars"] if each["day"] == "usual"]
    timely = [each for each in fleets if not each["stalled"]]
    most = [each for each in usual if each["sidecars"]]
    charts = {
        "limits": Chart(
            "The most sidecars that one store bears",
            _facades(most),
            _logarithmic("sidecars", (each["sidecars"] for each in most), "{:,.0f}".format),
            _by_store(most, "sidecars", "sidecars"),
        ),
        "delays": Chart(
            f"From a change until half of the catalogs have it (point) and 99 % (whisker); "
            f"{_SIDECARS:,} sidecars",
            _facades(fleets),
            _logarithmic("delay", (each[p] for each in timely for p in ("p50", "p99")), seconds),
            _by_store(timely, "p50", "p99"),
        ),
        "bytes": Chart(
            f"What the store sends and receives; {_SIDECARS:,} sidecars",
            _facades(fleets),
            _logarithmic("per second", (each["bytes/s"] for each in fleets), size),
            _by_store(fleets, "bytes/s", "bytes/s"),
        ),
    }
    for name, chart in charts.items():
        (folder / f"simulation-{name}.svg").write_text(chart.svg(), encoding="utf-8")


def _facades(rows: Iterable[Mapping[str, Any]]) -> Axis:
    return Axis.by_powers("facades", sorted({each["facades"] for each in rows}))


def _logarithmic(label: str, values: Iterable[float], spelled: Any) -> Axis:
    known = list(values)
    powers = range(math.floor(math.log10(min(known))), math.ceil(math.log10(max(known))) + 1)
    ticks = {10.0**power: spelled(10.0**power) for power in powers}
    return Axis(label, min(ticks), max(ticks), ticks, log=True)


def _by_store(rows: Iterable[Mapping[str, Any]], low: str, high: str) -> list[Series]:
    known = list(rows)
    return [
        Series(
            _NAMES[store],
            [
                (each["facades"], Spread(each[low], each[low], each[high]))
                for each in known
                if each["store"] == store
            ],
        )
        for store in _NAMES
    ]
