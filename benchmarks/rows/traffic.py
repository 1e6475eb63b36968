"""What idle sidecars cost their store: requests, bytes, and what moves there."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import orjson

from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.processes import Running, need_open_files, process
from mcp_discovery.adapters.etcd.keys import encode
from mcp_discovery.sidecar.settings import SidecarSettings
from tests.stores.consul import ConsulServer
from tests.stores.etcd import EtcdServer

_TTL = 10.0
#: Each has a connection of its own, and Consul takes 200 of one client unless told otherwise.
_CONSUL = {"limits": {"http_max_conns_per_client": 10_000}}
#: How many sidecars one process plays.
_EACH = 500


@row(
    10,
    "idle-traffic",
    "idle sidecars: requests of each in the time from one heartbeat to the next; what they move",
    unit="requests",
    goals=(
        Goal(1.0, figure="etcd", absolute=True),
        Goal(1.0, figure="Consul", absolute=True),
        Goal(0, figure="etcd moves", absolute=True, unit="revisions"),
        Goal(0, figure="Consul moves", absolute=True, unit="indexes"),
    ),
)
async def idle_traffic(scale: Scale) -> AsyncGenerator[Contest, None]:
    """Registrars with all that is behind them, on real stores, through a proxy that counts."""
    count = scale.of(1000, 100)
    beat = SidecarSettings(url="http://127.0.0.1:1/mcp", ttl=_TTL).heartbeat_interval
    seconds = scale.of(38, 6) * beat  # a minute, in whole heartbeats
    # Two connections of each sidecar in the proxy, and one in the store: all inherit the limit.
    need_open_files(2 * count + 200)
    facts = {"sidecars": f"{count:,}, TTL {_TTL:g} s, a heartbeat every {beat:g} s, {seconds:g} s"}

    async def run() -> dict[str, float]:
        figures: dict[str, float] = {}
        async with EtcdServer() as etcd:

            async def revision() -> tuple[int, ...]:
                answer = await etcd.call("kv/range", {"key": encode("/")})
                return (int(answer["header"]["revision"]),)

            place = (etcd.host, etcd.http_port)
            found = await _measured("etcd", place, count, seconds, revision, facts)
            figures |= {"etcd": found[0] * beat, "etcd moves": found[1]}
        async with ConsulServer(config=_CONSUL) as consul:

            async def indexes() -> tuple[int, ...]:
                asked = ("/v1/health/service/mcp?consistent", "/v1/kv/mcp/?recurse&consistent")
                answers = [await consul.api("GET", each) for each in asked]
                return tuple(int(each.headers["X-Consul-Index"]) for each in answers)

            place = (consul.host, consul.http_port)
            found = await _measured("consul", place, count, seconds, indexes, facts)
            figures |= {"Consul": found[0] * beat, "Consul moves": found[1]}
        return figures

    yield Contest([Contender("sidecars", run)], rounds=1, facts=facts)


async def _measured(
    scheme: str,
    place: tuple[str, int],
    count: int,
    seconds: float,
    index: Callable[[], Awaitable[tuple[int, ...]]],
    facts: dict[str, str],
) -> tuple[float, float]:
    """Requests of each sidecar in a second, and how far ``index`` moved meanwhile."""
    async with AsyncExitStack() as stack:
        command = (sys.executable, "-m", "benchmarks.counting_proxy", place[0], str(place[1]))
        counting = await stack.enter_async_context(process(*command))
        url = f"{scheme}://{counting.first.removeprefix('http://')}"
        for first in range(0, count, _EACH):
            some = (str(first), str(min(_EACH, count - first)), str(_TTL))
            idle = (sys.executable, "-m", "benchmarks.idle_sidecars", url, *some)
            await stack.enter_async_context(process(*idle))
        # Within a TTL a registration looks once more for its document; then it is idle.
        await asyncio.sleep(_TTL + 2)
        before = await index()
        await _counted(counting)
        began = time.monotonic()
        await asyncio.sleep(seconds)
        counted, took = await _counted(counting), time.monotonic() - began
        moves = sum(now - then for now, then in zip(await index(), before, strict=True))
    requests = max(1, counted["requests"])
    sent, answered = (counted[each] / requests for each in ("sent", "answered"))
    facts[scheme] = (
        f"{requests:,} requests, {requests / took:,.0f}/s; of a request {sent:,.0f} bytes, of its "
        f"answer {answered:,.0f}; {counted['connections']} new connections: each keeps its own"
    )
    return requests / took / count, float(moves)


async def _counted(counting: Running) -> dict[str, int]:
    assert counting.process.stdin is not None and counting.process.stdout is not None
    counting.process.stdin.write(b"\n")
    told: dict[str, int] = orjson.loads(await counting.process.stdout.readline())
    return told
