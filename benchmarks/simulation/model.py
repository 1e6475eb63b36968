"""The model: what a fleet asks of its store, resource by resource, and how late changes are.

Every resource has a demand and a capacity; the first whose demand reaches ``Machine.busy`` of its
capacity is where the store ends. Costs are those of :mod:`benchmarks.simulation.costs`, delays come
from :mod:`benchmarks.simulation.queueing`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.simulation.costs import Costs
from benchmarks.simulation.queueing import Timeline, blocking_queries, deliveries_to_watches
from mcp_discovery.adapters.consul.transport import BLOCKING_MARGIN
from mcp_discovery.adapters.consul.watch import WAIT
from mcp_discovery.sidecar.settings import SidecarSettings

StoreName = Literal["etcd", "consul"]

#: Seconds after which a facade asks a store that is silent whether it is still there.
_CHECK_EVERY = 4.0
GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who uses one store. ``turnover`` and ``flaps`` are shares of all instances an hour: those
    that a deploy replaces, and those whose server fails and comes back."""

    sidecars: int
    facades: int
    ttl: float = 10.0
    turnover: float = 0.1
    flaps: float = 0.1
    #: Sidecars on one machine, which has one Consul agent.
    together: int = 20

    @property
    def beats(self) -> float:
        """Heartbeats a second."""
        settings = SidecarSettings(url="http://127.0.0.1:1/mcp", ttl=self.ttl)
        return self.sidecars / settings.heartbeat_interval

    @property
    def lives(self) -> float:
        """Instances a second that come, and as many that go."""
        return self.sidecars * self.turnover / 3600

    @property
    def healths(self) -> float:
        """Changed healths a second: there and back, and the draining of each that goes."""
        return 2 * self.sidecars * self.flaps / 3600 + self.lives

    @property
    def changes(self) -> float:
        """Changes a second that watches are told of: healths, and each that comes or goes."""
        return self.healths + 2 * self.lives


@dataclass(frozen=True, slots=True)
class Machine:
    """What each of a store's servers runs on: cores as fast as those that were measured on, bytes a
    second of its network, bytes of memory. ``busy`` is the share of each that may be used."""

    cores: int = 8
    network: float = 10e9 / 8
    memory: float = 64 * GIB
    #: Bytes that a facade may have.
    facade_memory: float = 16 * GIB
    members: int = 3
    busy: float = 0.7


@dataclass(frozen=True, slots=True)
class Resource:
    """A demand and a capacity in the same unit."""

    demand: float
    capacity: float

    @property
    def used(self) -> float:
        """The share that is used."""
        return self.demand / self.capacity


@dataclass(frozen=True, slots=True)
class Load:
    """What a fleet comes to. ``requests`` and ``bytes`` are a second, of all servers together."""

    requests: float
    bytes: float
    resources: Mapping[str, Resource]
    #: What reaches one of the facades, before its catalog takes it in.
    timeline: Timeline
    #: Seconds until all facades that start at the same moment have the whole list.
    start: float

    @property
    def first(self) -> tuple[str, float]:
        """The resource that ends first, and the share of it that is used."""
        name = max(self.resources, key=lambda name: self.resources[name].used)
        return name, self.resources[name].used

    def fits(self, machine: Machine) -> bool:
        """Whether no resource is used more than it may be, and nobody is told late."""
        return self.first[1] <= machine.busy and not self.timeline.stalled


#: etcd's documentation: default and suggested most of a database ("System limits").
ETCD_DATABASE = 8 * GIB
#: The share of a processor that is left where there is none.
_NOTHING = 1e-3
#: Seconds of history that a database holds, where it is compacted every hour.
_HISTORY = 3600.0
#: Seconds after which a facade gives an answer up, and serves its last list as stale.
GIVEN_UP = WAIT * 17 / 16 + BLOCKING_MARGIN
#: HashiCorp's general rule for the size of one datacenter ("Sizing guidelines").
CONSUL_AGENTS = 5000.0


def etcd(fleet: Fleet, machine: Machine, all: Costs) -> Load:
    """One etcd cluster, over whose members watches and sidecars are spread evenly."""
    costs = all.etcd
    watches = fleet.facades / machine.members  # of each member
    # Only a watch that is silent for so long asks; changes come as in a Poisson process.
    checks = fleet.facades * fleet.changes / math.expm1(min(_CHECK_EVERY * fleet.changes, 99.0))
    told = fleet.changes * watches
    writes = fleet.lives * costs.life_leader_cpu + fleet.healths * costs.change_leader_cpu
    beats = fleet.beats + checks / machine.members  # such a question costs as much as a look
    cpu = writes + beats * costs.beat_leader_cpu + told * costs.delivery_cpu
    sent = fleet.facades * fleet.changes * costs.delivery_bytes
    kept = fleet.sidecars * costs.instance_disk
    history = _HISTORY * fleet.changes * costs.delivery_bytes
    memory = fleet.sidecars * costs.instance_memory + watches * costs.watch_memory
    resources = {
        "leader: CPU": Resource(cpu, machine.cores),
        "member: bytes": Resource(sent / machine.members, machine.network),
        "member: memory": Resource(memory, machine.memory),
        "database": Resource(kept + history, ETCD_DATABASE),
        "facade: CPU": Resource(fleet.changes * costs.facade_cpu, 1.0),
        "facade: memory": Resource(fleet.sidecars * all.facade_memory, machine.facade_memory),
    }
    asked = fleet.beats * costs.beat_bytes + fleet.lives * costs.life_bytes
    work = watches * costs.delivery_cpu / machine.cores
    # What else the leader does takes its share of every core.
    rest = max(_NOTHING, 1 - (cpu - told * costs.delivery_cpu) / machine.cores)
    timeline = deliveries_to_watches(fleet.changes, work / rest).plus(
        costs.delay + costs.facade_cpu
    )
    return Load(
        fleet.beats + fleet.changes + checks,
        sent + asked + fleet.healths * costs.change_bytes,
        resources,
        timeline if rest > _NOTHING else replace(timeline, stalled=True),
        fleet.sidecars * costs.listed_cpu * watches / machine.cores,
    )


def consul(fleet: Fleet, machine: Machine, all: Costs, *, shared: float = 1.0) -> Load:
    """One Consul datacenter. A facade's queries ask for neither ``stale`` nor ``cached`` answers,
    so that the leader answers all of them.

    ``shared`` is for another way to ask, which the adapter does not take: so many queries for the
    services, of all facades, come to one that reaches the leader. There is no such way for records.
    """
    costs = all.consul
    lists = {
        "services": (
            fleet.changes,
            costs.service_leader_cpu,
            costs.service_agent_cpu,
            costs.service_bytes,
            costs.facade_service_cpu,
            fleet.facades / shared,
        ),
        "records": (
            2 * fleet.lives,
            costs.record_leader_cpu,
            costs.record_agent_cpu,
            costs.record_bytes,
            costs.facade_record_cpu,
            fleet.facades,
        ),
    }
    writes = fleet.lives * costs.life_leader_cpu + fleet.healths * costs.change_leader_cpu
    # A facade asks for one key every few seconds: a look, which every other heartbeat is.
    beats = (fleet.beats + 2 * fleet.facades / _CHECK_EVERY) * costs.beat_leader_cpu
    rest = max(_NOTHING, 1 - (writes + beats) / machine.cores)
    cpu, sent, answers, agent, own, start = writes + beats, 0.0, 0.0, 0.0, 0.0, 0.0
    timelines = []
    for rate, leader, at_agent, size, facade, queries in lists.values():
        one = costs.answer_leader_cpu + fleet.sidecars * leader
        read = fleet.sidecars * (at_agent + facade)
        wire = queries * fleet.sidecars * size / machine.network
        work = max(queries * one / machine.cores / rest, wire)
        start += work
        timelines.append(blocking_queries(rate, work, one + read))
        # What everybody would ask for if each answer came at once.
        wanted = blocking_queries(rate, 0.0, read).rate
        answers += wanted * queries
        cpu += wanted * queries * one
        sent += wanted * queries * fleet.sidecars * size
        agent += wanted * fleet.sidecars * at_agent
        own += wanted * fleet.sidecars * facade
    agents = fleet.sidecars / fleet.together + fleet.facades
    memory = fleet.sidecars * costs.instance_memory + 2 * fleet.facades * costs.query_memory
    resources = {
        "leader: CPU": Resource(cpu, machine.cores),
        "leader: bytes": Resource(sent, machine.network),
        "leader: memory": Resource(memory, machine.memory),
        "agents": Resource(agents, CONSUL_AGENTS),
        "agent: CPU": Resource(agent, machine.cores),
        "facade: CPU": Resource(own, 1.0),
        "facade: memory": Resource(fleet.sidecars * all.facade_memory, machine.facade_memory),
    }
    timeline = max(timelines, key=lambda each: each.delay.p99).plus(costs.delay)
    return Load(
        # Every other heartbeat ends at the agent.
        fleet.beats / 2 + fleet.changes + answers + fleet.facades / _CHECK_EVERY,
        sent + fleet.beats * costs.beat_bytes + fleet.lives * costs.life_bytes,
        resources,
        replace(timeline, stalled=timeline.slowest > GIVEN_UP),
        start,
    )


#: What a fleet comes to in each store.
STORES: Mapping[StoreName, Callable[[Fleet, Machine, Costs], Load]] = {
    "etcd": etcd,
    "consul": consul,
}


def most_sidecars(
    store: StoreName, facades: int, machine: Machine, costs: Costs, turnover: float
) -> tuple[int, str]:
    """The most sidecars that one store bears with so many facades, to two digits, and what ends
    with the next ones; 0 where it does not bear a hundred."""
    sizes = [10**power * digit // 10 for power in range(2, 8) for digit in range(10, 100)]

    def load(size: int) -> Load:
        return STORES[store](Fleet(size, facades, turnover=turnover), machine, costs)

    first = bisect_left(sizes, True, key=lambda size: not load(size).fits(machine))
    return (sizes[first - 1] if first else 0), load(sizes[min(first, len(sizes) - 1)]).first[0]
