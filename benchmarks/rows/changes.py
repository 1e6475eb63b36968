"""From a change in the store to those who are told of it, beside a bare watch of the store."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from benchmarks.change_delays import CHANGED, health
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.processes import Running, facade, process
from benchmarks.store_contents import KEYS, fill_consul, fill_etcd
from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.etcd.keys import LiveValue, encode
from mcp_discovery.health import Health
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

_INSTANCES = 1000
#: Changes before those that count: the first ones find nothing warm.
_WARM_UP = 5
#: Seconds until a change has to have come.
_PATIENCE = 30.0
#: The time that each may take beyond its share of the bare watch's, in milliseconds.
_PLUS = 2.0
_GOALS = tuple(Goal(1.2, figure=figure, plus=_PLUS) for figure in ("p50", "p99"))


@dataclass(frozen=True, slots=True)
class _Store:
    """Where one instance is changed, and how: ``change`` makes the body from a new health.

    ``bare`` is the name of its bare watch, ``pause`` the least and the most seconds from one change
    to the next.
    """

    url: str
    bare: str
    method: str
    where: str
    change: Callable[[Health], bytes]
    pause: tuple[float, float]

    @property
    def http(self) -> str:
        """The URL of its HTTP API."""
        return f"http://{self.url.partition('://')[2]}"


@row(
    5,
    "change-etcd",
    "a change in etcd until the catalog, and an SSE reader, has it, beside a bare watch",
    unit="ms",
    goals=_GOALS,
)
async def changes_of_etcd(scale: Scale) -> AsyncGenerator[Contest, None]:
    """A put of the instance's ``live`` key; the bare watch reads the gateway's stream."""

    def put(told: Health) -> bytes:
        live = LiveValue(told, None, CHANGED.lease.holder.id, CHANGED.record.name)
        key = KEYS.live(CHANGED.id)
        return orjson.dumps({"key": encode(key), "value": encode(live.encode())})

    async with EtcdServer() as etcd:
        await fill_etcd(etcd.http_url, _INSTANCES)
        store = _Store(etcd.store_url, "etcd", "POST", "/v3/kv/put", put, (0.01, 0.03))
        async with aiohttp.ClientSession() as http:
            count = scale.of(100, 20)
            yield _contest(store, http, count, rounds=scale.of(7, 2), facts={})


@row(
    5,
    "change-consul",
    "a change in Consul until the catalog, and an SSE reader, has it, beside a bare query",
    unit="ms",
    goals=_GOALS,
)
async def changes_of_consul(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Another status and output of the instance's health check; the bare watch is a blocking query,
    asked again as soon as it is answered.

    The adapter asks at most every 250 ms, so that changes that come one by one are told at once,
    and those that follow quicker with the next answer. What that costs is among the facts.
    """
    facts: dict[str, str] = {}
    async with ConsulServer() as consul, aiohttp.ClientSession() as http:
        await fill_consul(consul.http_url, _INSTANCES)
        store = _Store(
            consul.store_url,
            *("consul", "PUT", "/v1/txn", await _checked(http, consul.http_url)),
            pause=(0.26, 0.3),
        )
        if not scale.quick:
            async with _watcher("catalog", store.url) as watcher:
                facts["catalog, 40 changes that come 50 ms apart"] = await _in_a_row(
                    store, http, watcher, 40, 0.05
                )
        yield _contest(store, http, scale.of(40, 8), rounds=scale.of(4, 2), facts=facts)


async def _checked(http: aiohttp.ClientSession, url: str) -> Callable[[Health], bytes]:
    """Makes the body that gives the health check, as Consul has it now, another health."""
    async with http.get(f"{url}/v1/health/checks/mcp") as response:
        every = orjson.loads(await response.read())
    wanted = checks.health_check(CHANGED.id)
    check = next(each for each in every if each["CheckID"] == wanted)

    def set_check(told: Health) -> bytes:
        status, output = checks.to_check(told, None, CHANGED.lease.holder.id)
        changed = check | {"Status": status, "Output": output}
        return orjson.dumps([{"Check": {"Verb": "set", "Check": changed}}])

    return set_check


def _contest(
    store: _Store, http: aiohttp.ClientSession, count: int, *, rounds: int, facts: dict[str, str]
) -> Contest:
    """Only who is measured runs meanwhile: each is started for its run."""

    def contender(
        name: str, started: Callable[[], AbstractAsyncContextManager[Running]]
    ) -> Contender:
        async def run() -> dict[str, float]:
            async with started() as watcher:
                return await _one_by_one(store, http, watcher, count)

        return Contender(name, run)

    return Contest(
        [
            contender("catalog", lambda: _watcher("catalog", store.url)),
            contender("facade", lambda: _reader(store.url)),
        ],
        contender("bare watch", lambda: _watcher(store.bare, store.http)),
        rounds=rounds,
        facts=facts,
    )


def _watcher(who: str, url: str) -> AbstractAsyncContextManager[Running]:
    return process(sys.executable, "-m", "benchmarks.change_delays", who, url)


@asynccontextmanager
async def _reader(store_url: str) -> AsyncIterator[Running]:
    async with facade("--store", store_url) as (url, _), _watcher("events", url) as watcher:
        yield watcher


async def _one_by_one(
    store: _Store, http: aiohttp.ClientSession, watcher: Running, count: int
) -> dict[str, float]:
    """Makes each change when the one before has come and a pause is over."""
    chance = random.Random(count)  # the same pauses for everyone
    seen = _Seen(watcher)
    delays = []
    for _ in range(_WARM_UP + count):
        number, began = await _change(store, http)
        delays.append(await seen.when(number) - began)
        await asyncio.sleep(chance.uniform(*store.pause))
    return _figures(delays[_WARM_UP:])


async def _in_a_row(
    store: _Store, http: aiohttp.ClientSession, watcher: Running, count: int, pause: float
) -> str:
    """What changes take that do not wait for each other: one may be told together with the next."""
    seen = _Seen(watcher)
    made = []
    for _ in range(count):
        made.append(await _change(store, http))
        await asyncio.sleep(pause)
    figures = _figures([await seen.when(number) - began for number, began in made])
    return ", ".join(f"{name} {value:.0f} ms" for name, value in figures.items())


_NUMBERS = itertools.count()


async def _change(store: _Store, http: aiohttp.ClientSession) -> tuple[int, float]:
    """Changes the instance; gives the change's number and the second just before it was sent."""
    number = next(_NUMBERS)
    body = store.change(health(number))
    began = time.monotonic()
    async with http.request(store.method, store.http + store.where, data=body) as response:
        assert response.status == 200, await response.text()
        await response.read()
    return number, began


class _Seen:
    """What a watcher tells, line by line."""

    def __init__(self, watcher: Running) -> None:
        self._lines = watcher.process.stdout
        self._number, self._at = -1, 0.0

    async def when(self, number: int) -> float:
        """The second at which the watcher saw the change of that number, or a later one."""
        assert self._lines is not None
        async with asyncio.timeout(_PATIENCE):
            while self._number < number:
                self._number, self._at = orjson.loads(await self._lines.readline())
        return self._at


def _figures(delays: Sequence[float]) -> dict[str, float]:
    """Of seconds, in milliseconds."""
    ordered = statistics.quantiles(delays, n=100, method="inclusive")
    return {"p50": ordered[49] * 1000, "p99": ordered[98] * 1000}
