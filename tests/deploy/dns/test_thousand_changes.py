"""DNS answers what the facade lists as healthy, name by name and tag by tag, over 1,000 changes."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.registration import ConsulRegistration
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Health, Status
from mcp_discovery.record import Record
from tests.deploy.consul.conftest import Site
from tests.deploy.dns.resolver import Resolver, Server
from tests.facade.harness import Client, served
from tests.records import document, record
from tests.seeds import seeded
from tests.stores.waiting import NotYet, until

SEED = 20_26
CHANGES, BATCH, IDS = 1000, 40, 100
NAMES = ["catalog", "weather", "tickets", "billing", "search"]
TAGS = ["products", "eu", "us", "beta", "internal", "gpu"]
DOC = document("a")


class Fleet:
    """Instances that come, go and change their health, and what is known of each."""

    def __init__(self, store: ConsulStore, seed: int) -> None:
        self._store = store
        self._random = seeded(seed)
        self._held: dict[str, ConsulRegistration] = {}
        self.records: dict[str, Record] = {}
        self.status: dict[str, Status] = {}
        self.changes = 0

    async def batch(self) -> None:
        """So many changes at once, each of another instance."""
        ids = self._random.sample(range(IDS), BATCH)
        await asyncio.gather(*(self._change(f"i-{n}", n, self._random.random()) for n in ids))

    def _record(self, id: str, n: int) -> Record:
        tags = self._random.sample(TAGS, self._random.randint(0, 3))
        url = f"http://10.7.{n // 200}.{n % 200 + 1}:{8000 + self._random.randint(0, 3)}/mcp"
        name = self._random.choice(NAMES)
        return record(id, name=name, tags=tags, endpoint={"url": url})

    async def _change(self, id: str, n: int, dice: float) -> None:
        self.changes += 1
        held = self._held.get(id)
        if held is None:
            self.records[id] = self._record(id, n)
            self._held[id] = await self._store.register(
                self.records[id], DOC, ttl=60, reap_after=120
            )
            self.status[id] = Status.HEALTHY
        elif dice < 0.15:
            await held.deregister()
            del self._held[id], self.records[id], self.status[id]
        elif dice < 0.30:
            await held.drain()
            self.status[id] = Status.DRAINING
        elif dice < 0.40:
            self.records[id] = self._record(id, n)
            await held.update(self.records[id], DOC)
        else:
            choices = [Status.HEALTHY, Status.DEGRADED, Status.DOWN, Status.HEALTHY]
            status = self._random.choice(choices)
            await held.heartbeat(Health(status, f"found {status}"))
            if self.status[id] is not Status.DRAINING:
                self.status[id] = status

    def healthy(self, *, name: str | None = None, tag: str | None = None) -> set[Server]:
        """Where the healthy ones with that name or tag are."""
        return {
            _place(str(each.endpoint.url))
            for id, each in self.records.items()
            if self.status[id] is Status.HEALTHY
            and (each.name == name or (tag is not None and tag in each.tags))
        }

    async def end(self) -> None:
        """Deregisters all."""
        await asyncio.gather(*(held.deregister() for held in self._held.values()))


def _place(url: str) -> Server:
    parts = urlsplit(url)
    return Server(parts.hostname or "", parts.port or 0)


async def _listed(client: Client, query: str) -> set[Server]:
    entries = (await client("GET", f"/servers?{query}")).json["servers"]
    return {_place(entry["url"]) for entry in entries}


async def _agree(fleet: Fleet, client: Client, dns: Resolver) -> bool:
    for query, label, expected in [
        *((f"name={name}", name, fleet.healthy(name=name)) for name in NAMES),
        *((f"tags={tag}", tag, fleet.healthy(tag=tag)) for tag in TAGS),
    ]:
        told = await dns.servers(f"_mcp._{label}.service.consul")
        listed = await _listed(client, f"{query}&limit=1000")
        addresses = await dns.addresses(f"{label}.mcp.service.consul")
        if not (told == listed == expected and addresses == {each.host for each in told}):
            raise NotYet(f"{label}: DNS {told ^ expected}, facade {listed ^ expected}")
    return True


async def test_dns_and_the_facade_agree_over_a_thousand_changes(site: Site) -> None:
    writing = StoreOptions(token=site.tokens["sidecar"], timeout=15)
    reading = StoreOptions(token=site.tokens["facade"])
    slowest, began = 0.0, time.monotonic()
    async with (
        ConsulStore(site.client.store_url, writing) as store,
        ConsulStore(site.server.store_url, reading) as reader,
        served(reader) as client,
        Resolver(site.client.port("dns")) as dns,
    ):
        fleet = Fleet(store, SEED)
        try:
            while fleet.changes < CHANGES:
                await fleet.batch()
                changed = time.monotonic()
                await until(
                    lambda: _agree(fleet, client, dns),
                    timeout=30,
                    what=f"agreement after {fleet.changes} changes (seed {SEED})",
                )
                slowest = max(slowest, time.monotonic() - changed)
        finally:
            await fleet.end()
    took = time.monotonic() - began
    print(f"{fleet.changes} changes in {took:.1f} s; agreed at the latest after {slowest:.2f} s")
    assert took < 60
