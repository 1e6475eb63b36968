"""What to do where one store ends, each with its figures from the same model.

*Shards*: several stores (or clusters), each with a part of the servers under a prefix of its own,
and facades for each. *Agents as caches*: facades that share Consul agents ask them for ``cached``
answers. *Regional facades*: a few facades watch the store, the others read the events of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.simulation.costs import Costs
from benchmarks.simulation.model import STORES, Fleet, Load, Machine, Resource, StoreName, consul
from benchmarks.simulation.queueing import Timeline, deliveries_to_watches

#: Facades, or workers of facades, on one machine with one Consul agent.
_SHARING = 10
_SHARDS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
#: A root of its own would be a single point of failure.
_ROOTS = (2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way: so many ``stores`` and the facades that watch each. ``load`` is that of one store,
    ``timeline`` what reaches a facade in the end."""

    name: str
    stores: int
    watching: float
    load: Load
    timeline: Timeline
    fits: bool

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        first, used = self.load.first
        return {
            "remedy": self.name,
            "stores": self.stores,
            "watching each": self.watching,
            "requests/s of each": self.load.requests,
            "bytes/s of each": self.load.bytes,
            "first": first,
            "used": used,
            "fits": self.fits,
            "stalled": self.timeline.stalled,
            "p50": self.timeline.delay.p50,
            "p99": self.timeline.delay.p99,
        }


def remedies(store: StoreName, fleet: Fleet, machine: Machine, costs: Costs) -> Iterator[Remedy]:
    """Every way, each with the fewest stores and roots that bear the fleet; where none of those
    that are tried does, the one that comes nearest to it."""
    yield _least(_sharded(store, fleet, machine, costs, shards) for shards in _SHARDS)
    if store == "consul":
        # The agent asks any server for what it caches, not the leader alone.
        load = consul(fleet, machine, costs, shared=_SHARING * machine.members)
        yield Remedy("agents as caches", 1, fleet.facades, load, load.timeline, load.fits(machine))
    yield _least(_regional(store, fleet, machine, costs, 1, roots) for roots in _ROOTS)
    yield _least(
        _regional(store, fleet, machine, costs, shards, roots)
        for shards in _SHARDS
        for roots in _ROOTS[:4]
    )


def _least(ways: Iterator[Remedy]) -> Remedy:
    tried = []
    for way in ways:
        if way.fits:
            return way
        tried.append(way)
    return min(tried, key=lambda way: way.load.first[1])


def _part(fleet: Fleet, stores: int, facades: float) -> Fleet:
    return replace(fleet, sidecars=-(-fleet.sidecars // stores), facades=max(1, round(facades)))


def _sharded(store: StoreName, fleet: Fleet, machine: Machine, costs: Costs, shards: int) -> Remedy:
    part = _part(fleet, shards, fleet.facades / shards)
    load = STORES[store](part, machine, costs)
    return Remedy("shards", shards, part.facades, load, load.timeline, load.fits(machine))


def _regional(
    store: StoreName, fleet: Fleet, machine: Machine, costs: Costs, shards: int, roots: int
) -> Remedy:
    part = _part(fleet, shards, roots)
    load = STORES[store](part, machine, costs)
    readers = fleet.facades / shards / roots
    work = readers * costs.stream.delivery_cpu
    # A root follows the store and tells its readers, on one core.
    root = Resource(load.resources["facade: CPU"].demand + part.changes * work, 1.0)
    wire = Resource(part.changes * readers * costs.stream.delivery_bytes, machine.network)
    load = replace(load, resources={**load.resources, "facade: CPU": root, "facade: bytes": wire})
    # A reader takes in single changes, whatever the store: as a facade does those of etcd.
    later = max(0.0, costs.stream.delay) + costs.etcd.facade_cpu
    timeline = load.timeline.then(deliveries_to_watches(part.changes, work)).plus(later)
    fits = load.fits(machine)
    name = "regional" if shards == 1 else "shards, regional"
    return Remedy(name, shards, roots, load, replace(timeline, stalled=not fits), fits)
