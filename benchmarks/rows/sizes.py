"""What the length of the list costs: the latency of a question, and memory."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

import aiohttp
import orjson

from benchmarks import data
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.processes import facade, fetched, memory, python
from benchmarks.store_contents import fill_consul, fill_etcd
from tests.stores import ConsulServer, EtcdServer

#: Seconds until a facade that has just loaded its list has given back what that took.
_SETTLE = 2.0


@row(
    4,
    "latency-by-size",
    "latency of GET /servers?tags=…, the same 20 results of 10,000 and 100,000, beside 100",
    unit="ms",
    goals=(
        Goal(1.2, figure="again, p50"),
        Goal(1.2, figure="anew, p50"),
        Goal(1.2, figure="anew, p99"),
    ),
)
async def latency_by_size(scale: Scale) -> AsyncGenerator[Contest, None]:
    """One request after the other. *Again*: the very question that was asked before. *Anew*: with
    another tag each time, which nobody has, so that the list is searched each time."""
    sizes = (100, scale.of(10_000, 1_000), scale.of(100_000, 5_000))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        urls = {}
        for size in sizes:
            started = python("benchmarks.filled_facade", str(size))
            urls[size], _ = await stack.enter_async_context(started)
        count = scale.of(2000, 200)
        least, *larger = [
            Contender(f"{size:,}", _latency(http, url, count)) for size, url in urls.items()
        ]
        yield Contest(larger, least)


def _latency(
    http: aiohttp.ClientSession, url: str, count: int
) -> Callable[[], Awaitable[dict[str, float]]]:
    numbers = itertools.count()

    async def asked(question: str) -> float:
        began = time.perf_counter()
        async with http.get(f"{url}/servers?tags={data.WANTED}{question}") as response:
            assert response.status == 200
            await response.read()
        return (time.perf_counter() - began) * 1000

    async def run() -> dict[str, float]:
        again = [await asked("") for _ in range(count)]
        anew = [await asked(f",nobody-{next(numbers)}") for _ in range(count)]
        return {
            "again, p50": statistics.median(again),
            "anew, p50": statistics.median(anew),
            "anew, p99": statistics.quantiles(anew, n=100)[98],
        }

    return run


@row(
    8,
    "memory",
    "memory for each instance in the facade at 100,000, beside the bytes of its record",
    unit="bytes",
    goals=(Goal(3.0),),
)
async def memory_by_size(scale: Scale) -> AsyncGenerator[Contest, None]:
    """What a facade's process has for itself with a long list less what it has with an empty one,
    after it was asked for both: without a store, and with what the adapter of a real one keeps.

    Replicas of a server share what they have in common; what a list without any costs is told."""
    count, fewer = scale.of(100_000, 10_000), scale.of(10_000, 1000)
    records = [len(orjson.dumps(data.record(number).to_dict())) for number in range(0, count, 97)]

    async def of_record() -> float:
        return statistics.fmean(records)

    async def without_store(count: int, replicas: int) -> float:
        memories = [
            await _memory_of(python("benchmarks.filled_facade", str(each), str(replicas)))
            for each in (count, 0)
        ]
        return (memories[0] - memories[1]) / count

    async def over(url: str, empty: int) -> float:
        return (await _memory_of(facade("--store", url)) - empty) / fewer

    async with EtcdServer() as etcd, ConsulServer() as consul:
        contenders = [
            Contender(f"facade, {count:,}", partial(without_store, count, data.REPLICAS)),
            Contender(
                f"facade, {fewer:,}, no replicas", partial(without_store, fewer, 1), has_goal=False
            ),
        ]
        for name, store, fill in (("etcd", etcd, fill_etcd), ("Consul", consul, fill_consul)):
            empty = await _memory_of(facade("--store", store.store_url))
            await fill(f"http://{store.host}:{store.port('http')}", fewer)
            filled = partial(over, store.store_url, empty)
            contenders.append(Contender(f"facade, {name}, {fewer:,}", filled))
        yield Contest(contenders, Contender("record", of_record), rounds=scale.of(3, 1))


async def _memory_of(started: AbstractAsyncContextManager[tuple[str, int]]) -> int:
    async with started as (url, pid):
        await fetched(f"{url}/servers?tags={data.WANTED}")
        await asyncio.sleep(_SETTLE)
        return memory(pid)
