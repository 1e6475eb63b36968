"""500 Consul services in service-per-server mode, over an agent with its default limits."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.registration import ConsulRegistration
from mcp_discovery.health import Health, Status
from tests import programs
from tests.records import document, record
from tests.stores import ConsulServer, until

NAMES, AT_ONCE = 500, 16
#: Two blocking queries, a check beside them, and one to spare.
CONNECTIONS = 4
#: Seconds within which a change of one of them is listed.
SEEN_WITHIN = 5.0


async def test_a_facade_follows_500_names_over_a_handful_of_connections(tmp_path: Path) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    async with ConsulServer() as server:
        url = f"{server.store_url}?mode=service-per-server"
        async with ConsulStore(url) as store:

            async def register(n: int) -> ConsulRegistration:
                async with gate:
                    each = record(f"i-{n}", name=f"server-{n}")
                    return await store.register(each, document("a"), ttl=120, reap_after=240)

            registrations = await asyncio.gather(*map(register, range(NAMES)))
            names = (await server.api("GET", "/v1/catalog/services")).json()
            assert sum(name.startswith("mcp-server-") for name in names) == NAMES
            async with programs.facade(tmp_path, url) as facade:

                async def all_listed() -> bool:
                    return len(await facade.servers("status=healthy&limit=1000")) == NAMES

                await until(all_listed, timeout=10, what="all names listed")
                for status in (Status.DOWN, Status.HEALTHY):
                    began = time.monotonic()
                    await registrations[-1].heartbeat(Health(status, "for the test"))
                    await facade.until_status(f"i-{NAMES - 1}", status, SEEN_WITHIN)
                    seen = time.monotonic() - began
                    held = connections_to(server.http_port)  # the facade's: the store is in here
                    print(f"a change among {NAMES} names: {seen:.2f} s, {held} connections")
                    assert 2 <= held <= CONNECTIONS


def connections_to(port: int) -> int:
    """How many connections the programs that this test has started hold to that port."""
    found = 0
    for child in psutil.Process().children(recursive=True):
        found += sum(bool(c.raddr) and c.raddr.port == port for c in child.net_connections("tcp"))
    return found
