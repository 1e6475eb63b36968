"""Measures the parameters of the model on real stores, with small and bounded loads."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import orjson

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.processes import facade, process
from benchmarks.simulation.catalogs import catalogs
from benchmarks.simulation.costs import ConsulCosts, Costs, EtcdCosts, StreamCosts
from benchmarks.simulation.loads import (
    RECORDS,
    SERVICES,
    CheckSetter,
    Followers,
    Meter,
    answered,
    at_pace,
    consul_queries,
    etcd_watches,
    put_health,
    put_record,
    request,
    sse_readers,
)
from benchmarks.simulation.recording_proxy import recording_proxy
from benchmarks.simulation.sidecars import measure_sidecars
from benchmarks.store_contents import KEYS, fill_consul, fill_etcd
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.etcd.keys import encode
from tests.stores import ConsulAgent, ConsulServer, EtcdCluster, EtcdServer

#: Instances in a store, few and many: what an entry costs is the slope between.
_FEW, _MANY = 200, 1000
_SIDECARS = 120
#: Instances of a catalog whose memory is measured.
_CATALOG = 10_000
_WATCHES, _READERS, _QUERIES = 20, 100, 10
#: Watches, or queries, that show what one of them takes of memory.
_MANY_WATCHES, _MANY_QUERIES = 300, 80
#: Seconds from one change to the next; Consul's are as far apart as a facade asks at most.
_PAUSE, _CONSUL_PAUSE = 0.01, 0.3


async def measure(report: Callable[[str], None]) -> Costs:
    """All parameters. Takes one to two minutes; ``report`` is called with what is measured next."""
    report("etcd: sidecars, on three members")
    sidecars = await _etcd_sidecars()
    report("etcd: lists and watches")
    watches, stream = await _etcd_watches()
    report("Consul: sidecars, lists, queries")
    consul = await _consul()
    async with catalogs(2, _CATALOG) as some:
        memory = some.memory / _CATALOG
    etcd = EtcdCosts(**sidecars, **watches)
    return Costs(machine() | await _versions(), etcd, consul, stream, memory)


async def _versions() -> dict[str, Any]:
    async with EtcdServer() as etcd, ConsulServer() as consul, aiohttp.ClientSession() as http:
        version = orjson.loads(await request(http, "GET", f"{etcd.http_url}/version"))
        itself = orjson.loads(await request(http, "GET", f"{consul.http_url}/v1/agent/self"))
    return {"etcd": version["etcdserver"], "consul": itself["Config"]["Version"]}


# -- etcd --------------------------------------------------------------------------------------


async def _etcd_sidecars() -> dict[str, float]:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(EtcdCluster(3))
        (leader,) = [each for each in cluster.members if await each.leads()]
        meter = Meter.of(leader)
        proxies = [
            await stack.enter_async_context(recording_proxy(each.host, each.http_port))
            for each in cluster.members
        ]
        stores = [
            await stack.enter_async_context(open_store(f"etcd://127.0.0.1:{each.port}"))
            for each in proxies
        ]
        done = await measure_sidecars(stores, 0, _SIDECARS, [meter], proxies)
    named = {"beat": done.beat, "change": done.change, "life": done.life}
    return {
        f"{name}_{what}": value
        for name, values in named.items()
        for what, value in zip(("leader_cpu", "bytes"), values, strict=True)
    }


async def _etcd_watches() -> tuple[dict[str, float], StreamCosts]:
    async with EtcdServer() as etcd, aiohttp.ClientSession() as http:
        url, meter = etcd.http_url, Meter.of(etcd)

        async def change(number: int) -> None:
            await put_health(http, url, number % _MANY)

        async def disk() -> int:
            return int((await etcd.call("maintenance/status", {}))["dbSizeInUse"])

        await fill_etcd(url, _FEW)
        memory, size = meter.memory(), await disk()
        await fill_etcd(url, _MANY)
        found = {
            "instance_memory": max(0.0, (meter.memory() - memory) / (_MANY - _FEW)),
            "instance_disk": (await disk() - size) / (_MANY - _FEW),
        }
        first, end = map(encode, KEYS.watched)
        whole = orjson.dumps({"key": first, "range_end": end})
        used = meter.used()
        lists = 10
        for _ in range(lists):
            await request(http, "POST", f"{url}/v3/kv/range", whole)
        found["listed_cpu"] = (meter.used() - used) / lists / _MANY
        count = 300
        alone = await _used(meter, at_pace(count, _PAUSE, change))
        memory = meter.memory()
        async with etcd_watches(url, _MANY_WATCHES):
            found["watch_memory"] = max(0.0, (meter.memory() - memory) / _MANY_WATCHES)
        async with etcd_watches(url, 1) as one:
            sent = await at_pace(count, _PAUSE, change)
            await one.until_notified(count)
            found["delay"] = statistics.median(one.delays(sent))
        async with etcd_watches(url, _WATCHES) as watches:
            watched = await _used(meter, _notified(watches, at_pace(count, _PAUSE, change), count))
            found["delivery_cpu"] = (watched - alone) / count / _WATCHES
            found["delivery_bytes"] = sum(watches.sizes) / count / _WATCHES
        found["facade_cpu"] = await _followed(etcd.store_url, change, count, _PAUSE)
        return found, await _stream(etcd.store_url, change, found["delay"])


async def _stream(
    url: str, change: Callable[[int], Awaitable[None]], store_delay: float
) -> StreamCosts:
    count = 200
    async with facade("--store", url) as (facade_url, pid):
        meter = Meter(pid)
        async with sse_readers(facade_url, 1) as one:
            sent = await at_pace(count, _PAUSE, change)
            await one.until_notified(count)
            delay = statistics.median(one.delays(sent)) - store_delay
        alone = await _used(meter, at_pace(count, _PAUSE, change))
        async with sse_readers(facade_url, _READERS) as readers:
            read = await _used(meter, _notified(readers, at_pace(count, _PAUSE, change), count))
            each = count * _READERS
            return StreamCosts((read - alone) / each, sum(readers.sizes) / each, delay)


# -- Consul ------------------------------------------------------------------------------------


async def _consul() -> ConsulCosts:
    async with (
        ConsulServer() as server,
        ConsulAgent(server) as agent,
        aiohttp.ClientSession() as http,
    ):
        meters = [Meter.of(agent), Meter.of(server)]
        async with (
            recording_proxy(agent.host, agent.http_port) as wire,
            open_store(f"consul://127.0.0.1:{wire.port}") as store,
        ):
            done = await measure_sidecars([store], _MANY, _SIDECARS, meters, [wire])
        found: dict[str, float] = {
            "beat_leader_cpu": done.beat[1],
            "beat_bytes": done.beat[2],
            "life_leader_cpu": done.life[1],
            "life_bytes": done.life[2],
            "change_leader_cpu": done.change[1],
        }
        memory = meters[1].memory()
        await fill_consul(server.http_url, _FEW)
        setter = await CheckSetter.of(http, server.http_url, data.instance(0))
        few = await _lists(server, agent, http, setter, meters, _FEW)
        await fill_consul(server.http_url, _MANY)
        found["instance_memory"] = max(0.0, (meters[1].memory() - memory) / _MANY)
        memory = meters[1].memory()
        async with consul_queries(agent.http_url, RECORDS, _MANY_QUERIES):
            found["query_memory"] = max(0.0, (meters[1].memory() - memory) / _MANY_QUERIES)
        many = await _lists(server, agent, http, setter, meters, _MANY)
    # What an answer costs without entries is within the noise, and then not taken for negative.
    entry = {
        name: min((many[name] - few[name]) / (_MANY - _FEW), many[name] / _MANY) for name in many
    }
    rest = many["service_leader_cpu"] - entry["service_leader_cpu"] * _MANY
    listing = (entry["service_leader_cpu"] + entry["service_agent_cpu"]) * _FEW
    return ConsulCosts(
        **found,
        **{name: entry[name] for name in entry if name != "delay"},
        answer_leader_cpu=max(0.0, rest),
        delay=max(0.0, few["delay"] - listing),
    )


async def _lists(
    server: ConsulServer,
    agent: ConsulAgent,
    http: aiohttp.ClientSession,
    setter: CheckSetter,
    meters: list[Meter],
    size: int,
) -> dict[str, float]:
    """What an answer about ``size`` instances costs agent, server and facade, and its bytes."""
    count, found = 12, {}

    async def checked(number: int) -> None:
        await setter.change(http)

    async def recorded(number: int) -> None:
        await put_record(http, server.http_url)

    for kind, path, change in (("service", SERVICES, checked), ("record", RECORDS, recorded)):
        async with consul_queries(agent.http_url, path, _QUERIES) as queries:
            used = [meter.used() for meter in meters]
            await at_pace(count, 0, answered(queries, change))
            each = [meter.used() - one for meter, one in zip(meters, used, strict=True)]
            found[f"{kind}_agent_cpu"] = each[0] / queries.answers
            found[f"{kind}_leader_cpu"] = each[1] / queries.answers
            found[f"{kind}_bytes"] = sum(queries.sizes) / queries.answers
        found[f"facade_{kind}_cpu"] = await _followed(agent.store_url, change, count, _CONSUL_PAUSE)
    async with consul_queries(agent.http_url, SERVICES, 1) as one:
        sent = await at_pace(count, 0, answered(one, checked))
        found["delay"] = statistics.median(one.delays(sent))
    return found


# -- both --------------------------------------------------------------------------------------


async def _used(meter: Meter, work: Awaitable[object]) -> float:
    before = meter.used()
    await work
    return meter.used() - before


async def _notified(followers: Followers, work: Awaitable[object], count: int) -> None:
    await work
    await followers.until_notified(count)


async def _followed(
    url: str, change: Callable[[int], Awaitable[None]], count: int, pause: float
) -> float:
    """What a change costs a process that keeps a catalog of the store."""
    command = (sys.executable, "-m", "benchmarks.simulation.follower", url)
    async with process(*command) as running:
        meter = Meter(running.process.pid)
        return await _used(meter, at_pace(count, pause, change)) / count
