"""Fleets of all sizes on one store: the model's figures, and delays through real catalogs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Scale
from benchmarks.simulation.catalogs import catalogs
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.model import STORES, Fleet, Load, Machine, StoreName
from benchmarks.simulation.queueing import Delay

_SIDECARS = (1_000, 10_000, 100_000, 1_000_000)
_FACADES = (100, 1_000, 10_000)
#: How many real catalogs there are of each size; what is larger is told from the largest of these.
_CATALOGS = {1_000: 20, 10_000: 10, 100_000: 3}
_QUICK_CATALOGS = {1_000: 3, 4_000: 2}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fleet on one store. ``delay`` is from a change until it is in real catalogs."""

    store: StoreName
    fleet: Fleet
    load: Load
    delay: Delay

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        first, used = self.load.first
        return {
            "store": self.store,
            "sidecars": self.fleet.sidecars,
            "facades": self.fleet.facades,
            "changes/s": self.fleet.changes,
            "requests/s": self.load.requests,
            "bytes/s": self.load.bytes,
            "p50": self.delay.p50,
            "p99": self.delay.p99,
            "stalled": self.load.timeline.stalled,
            "start": self.load.start,
            "first": first,
            "used": used,
            "resources": {name: each.used for name, each in self.load.resources.items()},
        }


async def outcomes(
    costs: Costs, machine: Machine, scale: Scale, report: Callable[[str], None]
) -> tuple[list[Outcome], list[dict[str, float]]]:
    """All fleets on both stores, and what the real catalogs needed."""
    sizes = _QUICK_CATALOGS if scale.quick else _CATALOGS
    found: list[Outcome] = []
    needed: list[dict[str, float]] = []
    for size, count in sizes.items():
        report(f"{count} catalogs of {size:,} instances")
        async with catalogs(count, size) as real:
            # A catalog takes in a change in the same time however many instances it has: what is
            # larger than the largest is told to the largest.
            for sidecars in _SIDECARS:
                if sidecars != size and not (sidecars > size == max(sizes)):
                    continue
                for store, loaded in STORES.items():
                    for facades in _FACADES:
                        fleet = Fleet(sidecars, facades)
                        load = loaded(fleet, machine, costs)
                        found.append(Outcome(store, fleet, load, await real.delay(load.timeline)))
            memory = size * costs.facade_memory
            needed.append(_needed(count, size, real.snapshot, real.change, memory))
    few, many = needed[-2], needed[-1]
    largest = max(_SIDECARS)
    slope = (many["snapshot"] - few["snapshot"]) / (many["instances"] - few["instances"])
    whole = many["snapshot"] + (largest - many["instances"]) * slope
    memory = largest * costs.facade_memory
    needed.append(_needed(0, largest, whole, many["change"], memory))
    return found, needed


def _needed(
    count: int, size: int, snapshot: float, change: float, memory: float
) -> dict[str, float]:
    return {
        "catalogs": count,
        "instances": size,
        "snapshot": snapshot,
        "change": change,
        "memory": memory,
    }
