"""One change on its way to thousands: readers of events, long polls, and a stranger's requests."""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import orjson

from benchmarks import data
from benchmarks.harness import Contender, Contest, Goal, Scale, row
from benchmarks.processes import Running, facade, fetched, need_open_files, process

_INSTANCES = 1000
_WITHIN = 300.0
#: Seconds between two requests of somebody who has nothing to do with the change.
_PAUSE = 0.005
#: Of how many percent of the readers it is told when they had the change.
_SHARES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


@row(
    6,
    "fan-out",
    "one change to 5,000 readers of events and 2,000 long polls: until the last has it",
    unit="ms",
    goals=(
        Goal(_WITHIN, figure="last reader", absolute=True, worst=True),
        Goal(_WITHIN, figure="last poll", absolute=True, worst=True),
        Goal(_WITHIN, figure="slowest request", absolute=True, worst=True),
    ),
)
async def fan_out(scale: Scale) -> AsyncGenerator[Contest, None]:
    """From the moment at which the heartbeat that changes an instance is sent.

    Readers and polls ask for the 20 wanted of 1,000 instances, so that each poll is answered with
    25 KB. All of them live in one process beside the facade's.
    """
    readers, polls = scale.of(5000, 500), scale.of(2000, 200)
    need_open_files(readers + polls + 200)  # in the facade as in the swarm, and some of their own
    facts: dict[str, str] = {}
    async with facade("--store", "embedded:") as (url, _), aiohttp.ClientSession() as http:
        for number in range(scale.of(_INSTANCES, 200)):
            await _post(http, url, number)
        command = (
            sys.executable,
            "-m",
            "benchmarks.waiting_clients",
            url,
            str(readers),
            str(polls),
        )
        async with process(*command, data.WANTED) as swarm:
            statuses = ["degraded", "healthy"]

            async def run() -> dict[str, float]:
                await _all_wait(url, polls)
                statuses.reverse()
                waits: list[float] = []
                over = asyncio.Event()
                stranger = asyncio.create_task(_stranger(url, waits, over))
                began, reached = await _change(http, url, swarm, statuses[0])
                over.set()
                await stranger
                figures = {"slowest request": max(waits) * 1000}
                figures |= _times(reached["readers"], began, readers, "reader", facts)
                figures |= _times(reached["polls"], began, polls, "poll", facts)
                facts["their own processor time"] = f"{reached['cpu'] * 1000:.0f} ms"
                return figures

            yield Contest([Contender("facade", run)], facts=facts)


async def _post(http: aiohttp.ClientSession, url: str, number: int) -> None:
    record, lease = data.record(number), data.LEASE
    body = record.to_dict() | {
        "capabilities": {"tools": record.capabilities.tools},
        "lease": {"holder": lease.holder.id, "ttl": lease.ttl},
    }
    async with http.post(f"{url}/servers", json=body) as response:
        assert response.status in (200, 201), await response.text()


async def _all_wait(url: str, polls: int) -> None:
    async with asyncio.timeout(60):
        while True:
            metrics = await fetched(f"{url}/metrics")
            found = re.search(rb"^mcp_discovery_long_polls (\S+)", metrics, re.M)
            if found is not None and float(found[1]) == polls:
                return
            await asyncio.sleep(0.2)


async def _change(
    http: aiohttp.ClientSession, url: str, swarm: Running, status: str
) -> tuple[float, dict[str, Any]]:
    """Changes one instance; the second at which that was asked for, and what the swarm tells."""
    reader, writer = swarm.process.stdout, swarm.process.stdin
    assert reader is not None and writer is not None
    writer.write(b"go\n")
    assert await reader.readline() == b"waiting\n"
    one = f"{url}/servers/{data.record(0).id}/heartbeat"
    body = {"holder": data.LEASE.holder.id, "status": status, "reason": f"is {status} now"}
    began = time.monotonic()
    async with http.post(one, json=body) as response:
        assert response.status < 300, await response.text()
    return began, orjson.loads(await reader.readline())


def _times(
    reached: list[float], began: float, count: int, who: str, facts: dict[str, str]
) -> dict[str, float]:
    """When the change had reached which share of them, and the last, in milliseconds."""
    if len(reached) != count:
        raise RuntimeError(f"of {count} {who}s only {len(reached)} had the change in time")
    times = [(each - began) * 1000 for each in reached]
    after = statistics.quantiles(times, n=100, method="inclusive")
    facts[f"{who}s"] = f"{count}, half of them within {after[49]:.0f} ms"
    by_share = {f"{who}s, {share} %": after[share - 1] for share in _SHARES}
    return {**by_share, f"{who}s, 100 %": max(times), f"last {who}": max(times)}


async def _stranger(url: str, waits: list[float], over: asyncio.Event) -> None:
    """Asks for the list again and again; adds how many seconds each answer took."""
    async with aiohttp.ClientSession() as http:
        while not over.is_set():
            began = time.monotonic()
            async with http.get(f"{url}/servers?tags={data.WANTED}") as response:
                await response.read()
            waits.append(time.monotonic() - began)
            await asyncio.sleep(_PAUSE)
