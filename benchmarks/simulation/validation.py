"""Holds the model against real stores: the same loads, predicted and measured."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp

from benchmarks import data
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.loads import (
    RECORDS,
    SERVICES,
    CheckSetter,
    Meter,
    answered,
    at_pace,
    consul_queries,
    etcd_watches,
    put_health,
    put_record,
)
from benchmarks.simulation.queueing import deliveries_to_watches
from benchmarks.store_contents import fill_consul, fill_etcd
from tests.stores import ConsulAgent, ConsulServer, EtcdServer

_INSTANCES = 200
#: All of this, clients too, runs on one machine here, and shares its processors.
_PROCESSORS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, as the model has it and as it was measured."""

    name: str
    unit: str
    modelled: float
    measured: float

    @property
    def ratio(self) -> float:
        """Modelled by measured."""
        return self.modelled / self.measured


async def check_etcd(costs: Costs, watches: int, changes: int, pause: float) -> Iterator[Check]:
    """So many watches of a real etcd, told so many changes."""
    name = f"etcd, {watches} watches, a change every {pause * 1000:g} ms"
    async with EtcdServer() as etcd, aiohttp.ClientSession() as http:
        await fill_etcd(etcd.http_url, _INSTANCES)
        meter = Meter.of(etcd)

        async def change(number: int) -> None:
            await put_health(http, etcd.http_url, number % _INSTANCES)

        used = meter.used()
        await at_pace(changes, pause, change)
        alone = meter.used() - used
        async with etcd_watches(etcd.http_url, watches) as followers:
            used, own = meter.used(), time.process_time()
            sent = await at_pace(changes, pause, change)
            await followers.until_notified(changes)
            cpu = meter.used() - used - alone
            # What a bare watch costs where it is read, and the puts, which are not many.
            own = (time.process_time() - own) / changes
            delay = statistics.median(followers.delays(sent))
            size = sum(followers.sizes)
    each = costs.etcd
    rate = changes / (sent[-1] - sent[0] + pause)
    work = (watches * each.delivery_cpu + own) / _PROCESSORS
    late = deliveries_to_watches(rate, work).delay.p50 + each.delay
    count = changes * watches
    return iter(
        [
            Check(f"{name}: delivered to all", "MB", count * each.delivery_bytes / 1e6, size / 1e6),
            Check(
                f"{name}: time of etcd",
                "ms",
                watches * each.delivery_cpu * 1e3,
                cpu * 1e3 / changes,
            ),
            Check(f"{name}: half have it", "ms", late * 1e3, delay * 1e3),
        ]
    )


async def check_consul(costs: Costs, instances: int, queries: int, changes: int) -> Iterator[Check]:
    """So many blocking queries of a real Consul's lists, through an agent."""
    each, found = costs.consul, []
    async with (
        ConsulServer() as server,
        ConsulAgent(server) as agent,
        aiohttp.ClientSession() as http,
    ):
        await fill_consul(server.http_url, instances)
        meters = Meter.of(agent), Meter.of(server)
        setter = await CheckSetter.of(http, server.http_url, data.instance(0))

        async def checked(number: int) -> None:
            await setter.change(http)

        async def recorded(number: int) -> None:
            await put_record(http, server.http_url)

        for kind, path, change, at_agent, at_leader, size in (
            ("services", SERVICES, checked, *_entry(each, "service")),
            ("records", RECORDS, recorded, *_entry(each, "record")),
        ):
            name = f"Consul, {queries} queries of {instances:,} {kind}"
            async with consul_queries(agent.http_url, path, queries) as asking:
                used = [meter.used() for meter in meters]
                sent = await at_pace(changes, 0, answered(asking, change))
                agent_cpu, leader_cpu = (
                    (meter.used() - before) / asking.answers
                    for meter, before in zip(meters, used, strict=True)
                )
                got = sum(asking.sizes) / asking.answers
                delay = statistics.median(asking.delays(sent))
            leader = each.answer_leader_cpu + instances * at_leader
            one = leader + instances * at_agent
            late = each.delay + one + queries * one / _PROCESSORS / 2
            found += [
                Check(f"{name}: an answer", "MB", instances * size / 1e6, got / 1e6),
                Check(f"{name}: time of the server", "ms", leader * 1e3, leader_cpu * 1e3),
                Check(
                    f"{name}: time of the agent", "ms", instances * at_agent * 1e3, agent_cpu * 1e3
                ),
                Check(f"{name}: half have it", "ms", late * 1e3, delay * 1e3),
            ]
    return iter(found)


def _entry(costs: object, kind: str) -> tuple[float, float, float]:
    agent, leader, size = (
        getattr(costs, f"{kind}_{what}") for what in ("agent_cpu", "leader_cpu", "bytes")
    )
    return agent, leader, size
