"""A facade with very many instances in its list, of all kinds, the same ones each time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import aiohttp
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.facade import create_app, serving
from mcp_discovery.facade.state import FACADE, Facade
from mcp_discovery.health import Health, Load, Status, utcnow
from mcp_discovery.instance import Holder, Instance, Lease, instance_to_dict
from mcp_discovery.record import Record
from tests.facade.harness import QUICK, Client
from tests.seeds import seeded
from tests.stores.waiting import until

LEASE = Lease(Holder("h", "host", "sidecar"), 10, 60)
ZONES = ("eu-west", "eu-east", "us", None)
OWNERS = ("shop", "payments", "Search, Inc", None)
TAGS = ("products", "stock", "eu", "internal", "beta", "analytics", "billing", "rare")
TOOLS = ("read_file", "write_file", "listOrders", "find-product", "buy", "refund")
SKILLS = ("refunds", "git-workflow", "buy")
VERSIONS = ("0.9.1", "1.0.0", "1.2.0", "1.2.9", "1.10.0", "2.0.0", "2.1.3", "3.0.0")
WORDS = ("orders", "order", "invoice", "stock", "catalog", "warehouse", "Read", "price", "größe")
TRANSPORTS = ("streamable-http", "sse", "websocket", "stdio")


@dataclass(frozen=True)
class LargeCatalog:
    """The facade, a client of it, and what its list consists of."""

    app: web.Application
    facade: Facade
    ask: Client
    instances: dict[str, Instance]
    documents: dict[str, CapabilityDocument]

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        """What the list has, as plain JSON; of a list that no test changes."""
        return [instance_to_dict(each) for each in self.instances.values()]

    def change(self, *instances: Instance) -> None:
        """Lets the list change."""
        for one in instances:
            self.instances[one.id] = one
            self.facade.catalog.apply(Change(one.id, one))

    def remove(self, *ids: str) -> None:
        """Takes instances out of the list."""
        for id in ids:
            del self.instances[id]
            self.facade.catalog.apply(Change(id, None))


def documents(count: int) -> list[CapabilityDocument]:
    """Documents whose tools have descriptions of their own."""
    chance = seeded(7)
    return [
        CapabilityDocument(
            tools=tuple(
                {"name": tool, "description": f"Tells {chance.choice(WORDS)} number{number}"}
                for tool in chance.sample(TOOLS, 3)
            )
        )
        for number in range(count)
    ]


def instance(id: str, now: datetime, chance: random.Random, documents: list[str]) -> Instance:
    """One instance of any kind."""
    transport = chance.choice(TRANSPORTS)
    scheme = "ws" if transport == "websocket" else "http"
    endpoint = {"url": f"{scheme}://10.0.0.1/{id}"} if transport != "stdio" else {"command": "srv"}
    record = Record.parse(
        {
            "id": id,
            "name": f"{chance.choice(WORDS[:6])}-{chance.randrange(40)}",
            "title": chance.choice((None, "The " + chance.choice(WORDS))),
            "description": " ".join(chance.sample(WORDS, 2)),
            "version": chance.choice(VERSIONS),
            "tags": chance.sample(TAGS[:-1], chance.randrange(4)) + ["rare"] * (id[-3:] == "777"),
            "endpoint": endpoint | {"transport": transport},
            "zone": chance.choice(ZONES),
            "owner": chance.choice(OWNERS),
            "weight": chance.randrange(5),
            "capabilities": {
                "tools": chance.sample(TOOLS, chance.randrange(4)),
                "prompts": chance.sample(("explain", "buy"), chance.randrange(2)),
                "skills": chance.sample(SKILLS, chance.randrange(3)),
                "digest": chance.choice((None, *documents)),
            },
            "registeredAt": (now - timedelta(hours=chance.randrange(1000))).isoformat(),
        }
    )
    status = chance.choice((*Status, Status.HEALTHY, Status.HEALTHY))
    since = now - timedelta(seconds=chance.choice((5, 500, 5000, 50_000)) + chance.randrange(100))
    load = chance.choice((None, Load(active=chance.randrange(10), capacity=10)))
    return Instance(record, Health(status, f"is {status}", since, since), LEASE, load)


@asynccontextmanager
async def large_catalog(count: int, seed: int = 1) -> AsyncIterator[LargeCatalog]:
    """A facade with ``count`` instances; they stand in its list and in no store."""
    chance, now = seeded(seed), utcnow()
    texts = {each.digest: each for each in documents(20)}
    made = [instance(f"i-{n:05d}", now, chance, list(texts)) for n in range(count)]
    async with listing(made, texts) as found:
        yield found


@asynccontextmanager
async def listing(
    instances: Iterable[Instance],
    texts: dict[str, CapabilityDocument] | None = None,
    **changes: Any,
) -> AsyncIterator[LargeCatalog]:
    """A facade with just these instances in its list; ``changes`` are options of it."""
    async with EmbeddedStore() as store:
        app = create_app(store, replace(QUICK, **changes))
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            serving(app, "127.0.0.1", 0) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            facade, ask = app[FACADE], Client(url, session)

            async def ready() -> bool:
                return facade.catalog.is_ready

            await until(ready, timeout=60, what="the facade being ready")
            known = {each.id: each for each in instances}
            facade.catalog.apply(Snapshot(dict(known)))
            for text in (texts or {}).values():
                facade.documents.put(text)
            yield LargeCatalog(app, facade, ask, known, texts or {})
