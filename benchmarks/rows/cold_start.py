"""Cold start: how long until a list that lies in a store is there to be asked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

import orjson

from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.processes import process
from benchmarks.store_contents import fill_consul, fill_etcd
from tests.stores import ConsulServer, EtcdServer

_GOALS = (Goal(1.5),)
#: Seconds until a program that has told what it measured has ended.
_PATIENCE = 30.0


def _reads(url: str, who: str, count: int) -> Callable[[], Awaitable[float]]:
    """Runs ``benchmarks.cold_start`` in a new process, so that nothing is warm."""

    async def run() -> float:
        async with process(sys.executable, "-m", "benchmarks.cold_start", url, who) as reading:
            async with asyncio.timeout(_PATIENCE):
                await reading.process.wait()
        measured = orjson.loads(reading.first)
        if measured["count"] != count:
            raise RuntimeError(f"{who} read {measured['count']} of {count}")
        return float(measured["seconds"])

    return run


def _contest(url: str, count: int) -> Contest:
    contenders = [Contender("catalog", _reads(url, "catalog", count))]
    return Contest(contenders, Contender("bare client", _reads(url, "bare", count)))


@row(
    7,
    "cold-etcd",
    "10,000 instances in etcd: until the catalog has them, beside a bare client that reads them",
    unit="s",
    goals=_GOALS,
)
async def cold_etcd(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The bare client decodes what it reads and makes nothing of it."""
    count = scale.of(10_000, 1000)
    async with EtcdServer() as etcd:
        await fill_etcd(f"http://{etcd.host}:{etcd.port('http')}", count)
        yield _contest(etcd.store_url, count)


@row(
    7,
    "cold-consul",
    "10,000 instances in Consul: until the catalog has them, beside a bare client that reads them",
    unit="s",
    goals=_GOALS,
)
async def cold_consul(scale: Scale) -> AsyncGenerator[Contest, None]:
    """The bare client asks for services and records at once."""
    count = scale.of(10_000, 1000)
    async with ConsulServer() as consul:
        await fill_consul(f"http://{consul.host}:{consul.port('http')}", count)
        yield _contest(consul.store_url, count)
