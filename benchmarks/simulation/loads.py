"""Small, bounded loads on real stores, and what they cost the processes that serve them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import psutil

from benchmarks import data
from benchmarks.store_contents import KEYS
from mcp_discovery.adapters.consul import checks
from mcp_discovery.adapters.etcd.keys import LiveValue, encode
from mcp_discovery.health import Health, Status
from mcp_discovery.instance import Instance
from tests.stores import StoreServer

_PATIENT = aiohttp.ClientTimeout(total=None)
#: Seconds within which all followers have to be notified of the last change.
_PATIENCE = 60.0
_NUMBERS = itertools.count()
#: What a facade asks for, as a blocking query.
SERVICES = "/v1/health/service/mcp"
RECORDS = "/v1/kv/mcp/servers/?recurse"


class Meter:
    """Processor time and memory of one process that this one has started."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    @classmethod
    def of(cls, server: StoreServer) -> Meter:
        """The meter of a store's server."""
        for child in psutil.Process().children():
            if any(each.laddr.port == server.http_port for each in child.net_connections()):
                return cls(child.pid)
        raise RuntimeError(f"{server.name} listens nowhere")

    def used(self) -> float:
        """Seconds of processor time so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Bytes that it has for itself."""
        return int(self._process.memory_full_info().uss)


async def each(count: int, width: int, ask: Callable[[int], Awaitable[object]]) -> None:
    """Asks ``count`` times, ``width`` at once."""
    numbers = iter(range(count))

    async def asker() -> None:
        for number in numbers:
            await ask(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(asker())


def next_health() -> Health:
    """Another health than the last."""
    number = next(_NUMBERS)
    return Health((Status.HEALTHY, Status.DEGRADED)[number % 2], f"change {number}")


async def put_health(http: aiohttp.ClientSession, url: str, number: int) -> None:
    """Another health for instance ``number`` in the etcd at ``url``."""
    instance = data.instance(number)
    live = LiveValue(next_health(), None, instance.lease.holder.id, instance.record.name)
    body = {"key": encode(KEYS.live(instance.id)), "value": encode(live.encode())}
    await request(http, "POST", f"{url}/v3/kv/put", orjson.dumps(body))


async def request(http: aiohttp.ClientSession, method: str, url: str, body: bytes = b"") -> bytes:
    """The body of an answer, which must be 200."""
    async with http.request(method, url, data=body) as response:
        read = await response.read()
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {read[:300]!r}")
        return read


@dataclass(frozen=True, slots=True)
class CheckSetter:
    """Gives one instance another health, as its agent would tell the servers."""

    url: str
    holder: str
    check: dict[str, Any]

    @classmethod
    async def of(cls, http: aiohttp.ClientSession, url: str, instance: Instance) -> CheckSetter:
        """For an instance that is there already."""
        every = orjson.loads(await request(http, "GET", f"{url}/v1/health/checks/mcp"))
        wanted = checks.health_check(instance.id)
        check = next(each for each in every if each["CheckID"] == wanted)
        return cls(url, instance.lease.holder.id, check)

    async def change(self, http: aiohttp.ClientSession) -> None:
        """Once more another health."""
        status, output = checks.to_check(next_health(), None, self.holder)
        changed = self.check | {"Status": status, "Output": output}
        body = orjson.dumps([{"Check": {"Verb": "set", "Check": changed}}])
        await request(http, "PUT", f"{self.url}/v1/txn", body)


async def put_record(http: aiohttp.ClientSession, url: str) -> None:
    """Another value under the records; it is none, and skipped by whoever reads it."""
    body = f"{next(_NUMBERS):09}".encode()
    await request(http, "PUT", f"{url}/v1/kv/mcp/servers/probe/probe", body)


@dataclass(slots=True)
class Followers:
    """Bare watches of a store; ``notified[i]`` are the moments at which one had each change."""

    notified: list[list[float]]
    sizes: list[int]
    answers: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def until_notified(self, count: int) -> None:
        """Waits until all were notified of ``count`` changes; raises what stops one."""
        async with asyncio.timeout(_PATIENCE):
            while any(len(each) < count for each in self.notified):
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)

    def delays(self, sent: list[float]) -> list[float]:
        """Of every change to every follower, in seconds."""
        return [at - began for each in self.notified for began, at in zip(sent, each, strict=False)]


class _Occurrences:
    """Counts what comes in pieces, once where it is cut."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted, self._rest = wanted, b""

    def __call__(self, chunk: bytes) -> int:
        whole = self._rest + chunk
        self._rest = whole[1 - len(self._wanted) :]
        return whole.count(self._wanted)


@asynccontextmanager
async def _following(
    count: int, follow: Callable[[Followers, int, asyncio.Event], Awaitable[None]]
) -> AsyncIterator[Followers]:
    followers = Followers([[] for _ in range(count)], [0] * count)
    ready = [asyncio.Event() for _ in range(count)]

    async def run(number: int) -> None:
        await follow(followers, number, ready[number])

    followers.tasks = [asyncio.create_task(run(number)) for number in range(count)]
    try:
        async with asyncio.timeout(_PATIENCE):
            for event in ready:
                await event.wait()
        followers.sizes = [0] * count
        yield followers
    finally:
        for task in followers.tasks:
            task.cancel()
        await asyncio.gather(*followers.tasks, return_exceptions=True)


@asynccontextmanager
async def etcd_watches(url: str, count: int) -> AsyncIterator[Followers]:
    """So many watches of the range that a facade watches, each over a connection of its own."""
    first, end = map(encode, KEYS.watched)
    body = orjson.dumps({"create_request": {"key": first, "range_end": end}})
    connector = aiohttp.TCPConnector(limit=0)

    async with aiohttp.ClientSession(timeout=_PATIENT, connector=connector) as http:

        async def follow(all: Followers, number: int, ready: asyncio.Event) -> None:
            async with http.post(f"{url}/v3/watch", data=body) as answer:
                count = _Occurrences(b'"mod_revision"')
                async for chunk in answer.content.iter_any():
                    if not ready.is_set():
                        ready.set()
                        continue
                    all.sizes[number] += len(chunk)
                    all.notified[number] += [time.monotonic()] * count(chunk)

        async with _following(count, follow) as followers:
            yield followers


@asynccontextmanager
async def sse_readers(url: str, count: int) -> AsyncIterator[Followers]:
    """So many who read all events of the facade at ``url``, as another facade does."""
    connector = aiohttp.TCPConnector(limit=0)

    async with aiohttp.ClientSession(timeout=_PATIENT, connector=connector) as http:

        async def follow(all: Followers, number: int, ready: asyncio.Event) -> None:
            count = _Occurrences(b"event: change")
            async with http.get(f"{url}/events?status=all") as answer:
                async for chunk in answer.content.iter_any():
                    all.sizes[number] += len(chunk)
                    if ready.is_set():
                        all.notified[number] += [time.monotonic()] * count(chunk)
                    elif chunk.endswith(b"\n\n"):
                        ready.set()

        async with _following(count, follow) as followers:
            yield followers


@asynccontextmanager
async def consul_queries(url: str, path: str, count: int) -> AsyncIterator[Followers]:
    """So many blocking queries of ``path``, each asked again as soon as it is answered."""
    connector = aiohttp.TCPConnector(limit=0)

    async with aiohttp.ClientSession(timeout=_PATIENT, connector=connector) as http:

        async def follow(all: Followers, number: int, ready: asyncio.Event) -> None:
            index = "0"
            while True:
                wait = {"index": index, "wait": "60s"} if ready.is_set() else {"consistent": ""}
                async with http.get(f"{url}{path}", params=wait) as answer:
                    all.sizes[number] += len(await answer.read())
                    before, index = index, answer.headers["X-Consul-Index"]
                if ready.is_set():
                    all.answers += 1
                    all.notified[number] += [time.monotonic()] * (index != before)
                ready.set()

        async with _following(count, follow) as followers:
            yield followers


async def at_pace(
    count: int, pause: float, change: Callable[[int], Awaitable[None]]
) -> list[float]:
    """Makes ``count`` changes, each so many seconds after the last began; gives their moments."""
    sent = []
    for number in range(count):
        sent.append(time.monotonic())
        await change(number)
        await asyncio.sleep(max(0.0, sent[-1] + pause - time.monotonic()))
    return sent


def answered(
    followers: Followers, change: Callable[[int], Awaitable[None]]
) -> Callable[[int], Awaitable[None]]:
    """``change`` that waits until all were notified: quick changes would arrive as one."""

    async def changed(number: int) -> None:
        await change(number)
        await followers.until_notified(number + 1)

    return changed
