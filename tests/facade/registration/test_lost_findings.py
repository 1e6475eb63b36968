"""A finding that the store loses is sent again, and a probe that failed is made again soon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.adapters.store import Registration
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import Health, Load
from mcp_discovery.record import Record
from tests.facade.harness import Client, served
from tests.facade.plain import HealthServer
from tests.stores.waiting import until

#: Probes come once an hour here, and heartbeats without news later than any test waits.
RARELY: dict[str, Any] = {"probe_interval": 3600.0, "heartbeat": 30.0, "posted_ttl": 90.0}


class LossyStore(EmbeddedStore):
    """Loses the heartbeats that it is told to: before the write, or only the answer to it."""

    def __init__(self) -> None:
        super().__init__()
        self.losing: list[str] = []
        self.lost = 0

    async def register(self, *given: Any, **more: Any) -> Any:
        return LossyRegistration(self, await super().register(*given, **more))


class LossyRegistration:
    """A registration whose heartbeats its store may lose."""

    def __init__(self, store: LossyStore, inner: Registration) -> None:
        self._store = store
        self._inner = inner
        self.id = inner.id

    async def heartbeat(
        self, health: Health, load: Load | None = None, *, renew: bool = False
    ) -> None:
        fault = self._store.losing.pop(0) if self._store.losing else None
        if fault != "before the write":
            await self._inner.heartbeat(health, load, renew=renew)
        if fault is not None:
            self._store.lost += 1
            raise StoreUnavailableError(self._store.url, f"lost {fault}")

    async def update(self, record: Record, document: CapabilityDocument) -> None:
        await self._inner.update(record, document)

    async def drain(self) -> None:
        await self._inner.drain()

    async def deregister(self) -> None:
        await self._inner.deregister()


@pytest.fixture
async def plain() -> AsyncIterator[HealthServer]:
    server = HealthServer()
    await server.start()
    yield server
    await server.stop()


async def post(ask: Client, server: HealthServer) -> None:
    body = {"id": "a", "name": "products", "url": server.base_url, "healthUrl": server.health_url}
    assert (await ask("POST", "/servers", body)).status == 201


@pytest.mark.parametrize("fault", ["before the write", "after the write"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_first_finding_that_the_store_loses_is_sent_again(
    plain: HealthServer, fault: str, times: int
) -> None:
    plain.delay = 0.3  # registered before its first probe has ended
    async with (
        LossyStore() as store,
        served(store, first_probe=0.05, probe_timeout=5.0, **RARELY) as one,
        served(store, **RARELY) as two,
    ):
        store.losing = [fault] * times
        await post(one, plain)
        assert (await one("GET", "/servers/a")).json["reason"] == "not probed yet"
        await two.until_status("a", "healthy", timeout=10.0)
        await one.until_status("a", "healthy", timeout=10.0)

        async def all_lost() -> bool:
            return store.lost == times

        await until(all_lost, timeout=10.0, what="all of them being lost")


async def test_a_change_whose_answer_was_lost_can_be_taken_back(plain: HealthServer) -> None:
    """The store has the change, though nobody said so, when what was before holds again."""
    async with LossyStore() as store, served(store, **RARELY) as ask:
        await post(ask, plain)
        await ask.until_status("a", "healthy")
        store.losing = ["after the write"]
        plain.status = 503
        assert (await ask("POST", "/connections/a/health-check")).status == 200
        await ask.until_status("a", "degraded")
        plain.status = 200
        assert (await ask("POST", "/connections/a/health-check")).status == 200
        await ask.until_status("a", "healthy", timeout=10.0)


@pytest.mark.slow
async def test_a_probe_that_failed_is_made_again_before_its_hour(plain: HealthServer) -> None:
    """The first answer that is late is no reason for an hour in which a server is down."""

    async def unavailable(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    plain.fault = unavailable
    async with served(**RARELY) as ask:
        await post(ask, plain)
        await ask.until_status("a", "down")
        plain.fault = None
        await ask.until_status("a", "healthy", timeout=15.0)
