"""Many at once: 2,000 registrations, and a reader slower than the changes.

Consul gets fewer: one agent writes service by service and check by check, so that 2,000 at once
take it most of a minute on two cores, which a short form has not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.health import Health, Status, healthy
from tests.faults.checker import judge
from tests.faults.history import History, Terms
from tests.faults.observations import Reader
from tests.faults.observer import Observer
from tests.faults.proxy import link
from tests.faults.readers import reading
from tests.programs import AskedFacade, facade
from tests.records import document, record
from tests.stores import ConsulServer, EtcdServer
from tests.stores.waiting import until

TERMS = Terms(ttl=300.0, probe_interval=100.0)
SIZES = {"consul": 500, "etcd": 2000}
AT_ONCE = 64

Server = ConsulServer | EtcdServer


@pytest.fixture(params=["consul", "etcd"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    made: Server = ConsulServer() if request.param == "consul" else EtcdServer()
    async with made:
        yield made


async def registered(store: Store, ids: Sequence[str]) -> list[Registration]:
    """All of ``ids``, as a fleet that is started at once does it."""
    shared = document("search")
    pending, done = list(ids), []

    async def worker() -> None:
        while pending:
            id = pending.pop()
            done.append(
                await store.register(
                    record(id, name=id.rpartition("-")[0]), shared, ttl=TERMS.ttl, reap_after=600
                )
            )

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return done


@asynccontextmanager
async def watched(
    folder: Path, server: Server, history: History, *, lists: bool
) -> AsyncIterator[tuple[AskedFacade, Store]]:
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(facade(folder, server.store_url))
        await stack.enter_async_context(reading(history, "facade", asked.url, lists=lists))
        store = await stack.enter_async_context(open_store(server.store_url))
        yield asked, store


async def test_all_registrations_of_a_fleet_at_once(server: Server, tmp_path: Path) -> None:
    history = History(TERMS)
    observer = Observer(history)
    async with watched(tmp_path, server, history, lists=False) as (_, store):
        ids = [f"thing-{number}" for number in range(SIZES[server.store])]
        for id in ids:
            history.note("serves", id)
            history.note("watched", id)
        await registered(store, ids)
        # Only now do they have to be there.
        history.note("store-back", server.store)

        async def all_there() -> bool:
            return observer.settled(["facade"])

        await until(all_there, timeout=30, what="every reader seeing all of them")
    broken = [each for each in judge(history) if each.promise != "loss"]
    assert broken == []


async def test_a_reader_slower_than_the_changes_has_the_last_state(
    server: Server, tmp_path: Path
) -> None:
    history = History(TERMS)
    observer = Observer(history)
    async with (
        watched(tmp_path, server, history, lists=True) as (asked, store),
        AsyncExitStack() as stack,
    ):
        registrations = await registered(store, [f"thing-{number}" for number in range(40)])
        host, _, port = asked.url.removeprefix("http://").partition(":")
        slow = await stack.enter_async_context(link(host, int(port)))
        await slow.become("drip", 0.05)  # some 5 kB/s
        await stack.enter_async_context(reading(history, "slow", f"http://{slow.address}"))
        for turn in range(15):
            status = Status.DEGRADED if turn % 2 else Status.HEALTHY
            reason = f"turn {turn} " + "x" * 200
            await asyncio.gather(
                *(each.heartbeat(Health(status, reason)) for each in registrations)
            )
        await asyncio.gather(*(each.heartbeat(healthy()) for each in registrations))
        await slow.become("pass")

        def right(reader: Reader | None) -> bool:
            return reader is not None and list(reader.shown.values()) == ["healthy"] * 40

        async def all_have_it() -> bool:
            names = ("facade/stream", "facade/list", "slow/stream", "slow/list")
            return all(right(observer.readers.get(name)) for name in names)

        await until(all_have_it, timeout=60, what="the slow reader having the last state")
        async with aiohttp.ClientSession() as http, http.get(f"{asked.url}/health") as answer:
            assert answer.status == 200
    assert [
        each for each in judge(history) if each.how.startswith(("was told", "is another"))
    ] == []
