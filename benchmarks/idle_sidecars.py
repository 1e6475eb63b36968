"""``python -m benchmarks.idle_sidecars STORE_URL FIRST COUNT TTL``: sidecars in one process.

Their servers are well.

Everything of a sidecar that speaks to the store is real, and there is one of each for each sidecar:
its store with a connection of its own, its registrar, its registration. Its MCP server is not: the
findings, always healthy, come at the pace at which a sidecar probes. Writes ``ready`` when all are
registered, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks import data
from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import new_holder
from mcp_discovery.health import ANSWERS, Health, Status
from mcp_discovery.registrant.introspector import ServerDescription
from mcp_discovery.registrant.registrar import Registrar
from mcp_discovery.registrant.watcher import ProbeFinding
from mcp_discovery.sidecar.kept_server import terms
from mcp_discovery.sidecar.settings import SidecarSettings

#: How many begin to register in a second: one Consul agent that has to take more beside a thousand
#: heartbeats falls behind, and TTLs lapse.
_A_SECOND = 30


async def _sidecar(
    url: str, number: int, settings: SidecarSettings, registered: asyncio.Event
) -> None:
    async with open_store(url) as store:
        registrar = Registrar(store, new_holder("sidecar"), terms(settings))
        registrar.describe(ServerDescription(data.record(number), data.document(number)))
        health = Health(Status.HEALTHY, ANSWERS)
        running = asyncio.create_task(registrar.run(), name=f"registrar {number}")
        pause = settings.interval
        try:
            while not running.done():
                registrar.found(ProbeFinding(health, time.monotonic()))
                await asyncio.sleep(pause)
                if registrar.why_not_ready() is None:
                    registered.set()
            running.result()
        finally:
            running.cancel()
            await asyncio.wait([running])


async def _main(url: str, first: int, count: int, ttl: float) -> None:
    settings = SidecarSettings(url="http://127.0.0.1:1/mcp", ttl=ttl)
    registered = [asyncio.Event() for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        for number, event in enumerate(registered, start=first):
            group.create_task(_sidecar(url, number, settings, event))
            await asyncio.sleep(1 / _A_SECOND)
        for event in registered:
            await event.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
