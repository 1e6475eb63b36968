"""What watchers are told, the same over every store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from urllib.parse import urlsplit

import psutil
import pytest

from mcp_discovery.adapters.store import Snapshot, Store
from mcp_discovery.errors import InvalidRecordError, StoreUnavailableError
from mcp_discovery.health import Health, Status
from tests.contract.conftest import SERVED, WRITABLE
from tests.contract.environments import StoreEnvironment
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores.waiting import until_holds


async def test_the_first_snapshot_is_complete(environment: StoreEnvironment, store: Store) -> None:
    for number in range(20):
        await store.register(record(f"n-{number}"), document("a"), ttl=30, reap_after=60)
    async with aclosing((await environment.open()).watch()) as events:
        first = await anext(events)
    assert isinstance(first, Snapshot)
    assert set(first.instances) == {f"n-{number}" for number in range(20)}


async def test_an_empty_store_has_an_empty_first_snapshot(store: Store) -> None:
    async with aclosing(store.watch()) as events:
        async with asyncio.timeout(5):
            assert await anext(events) == Snapshot({})


async def test_two_watchers_see_the_same_order(environment: StoreEnvironment, store: Store) -> None:
    async with watching(await environment.open()) as one, watching(await environment.open()) as two:
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        for number in range(20):
            status = Status.DEGRADED if number % 2 else Status.DOWN
            await registration.heartbeat(Health(status, f"step {number}"))
            other = await store.register(
                record(f"o-{number}"), document("a"), ttl=30, reap_after=60
            )
            if number % 3 == 0:
                await other.deregister()
        for watcher in (one, two):
            await watcher.until_shows("catalog-1", lambda seen: seen.health.reason == "step 19")
            await watcher.until_status("o-19", Status.HEALTHY, 5)
    assert one.instances == two.instances
    # A watcher may miss what was overtaken, but what both saw they saw in the same order.
    steps = [
        [
            int(event.instance.health.reason.removeprefix("step "))
            for event in watcher.events
            if not isinstance(event, Snapshot)
            and event.instance
            and event.instance.health.reason.startswith("step ")
        ]
        for watcher in (one, two)
    ]
    for seen in steps:
        assert seen == sorted(seen)
        assert seen[-1] == 19


@pytest.mark.timeout(600)  # Consul's agent writes them one by one, on a machine that may be busy
async def test_a_thousand_instances_appear_in_one_watcher(
    environment: StoreEnvironment, store: Store
) -> None:
    shared = document("search_products")
    async with watching(await environment.open()) as watcher:
        pending = [record(f"n-{number}") for number in range(1000)]

        async def worker() -> None:
            while pending:
                await store.register(pending.pop(), shared, ttl=3600, reap_after=7200)

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(worker())
        await watcher.until(lambda: len(watcher.instances) == 1000, 60, "1,000 instances")
    assert {i.health.status for i in watcher.instances.values()} == {Status.HEALTHY}


async def test_unicode_wherever_it_is_allowed(environment: StoreEnvironment, store: Store) -> None:
    text = "Großes Angebot — 商品カタログ 🛒 \u202ertl\u202c \u0000 \\ \" ' ${NAME} %2F"
    given = record(
        title=text,
        description=text,
        owner=text,
        zone=text,
        metadata={"ключ": text, "🔑": "значение"},
        endpoint={"url": "http://127.0.0.1:8001/mcp/käse?q=ü"},
        capabilities={"tools": ["søk_produkter"]},
        protocol={"instructions": text, "serverInfo": {"name": text}},
    )
    offered = document("søk_produkter", "商品")
    async with watching(await environment.open()) as watcher:
        await store.register(
            given, offered, ttl=30, reap_after=60, health=Health(Status.DOWN, text)
        )
        await watcher.until_status("catalog-1", Status.DOWN, 2)
    seen = watcher.instances["catalog-1"]
    assert seen.record == given.model_copy(update={"capabilities": seen.record.capabilities})
    assert seen.health.reason == text
    assert await (await environment.open()).document(offered.digest) == offered


async def test_fields_of_a_newer_schema_are_kept(
    environment: StoreEnvironment, store: Store
) -> None:
    given = record(futureField={"deep": [1, 2]}, auth={"type": "none", "newer": True})
    async with watching(await environment.open()) as watcher:
        await store.register(given, document("a"), ttl=30, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
    seen = watcher.instances["catalog-1"].record.to_dict()
    assert seen["futureField"] == {"deep": [1, 2]}
    assert seen["auth"]["newer"] is True


async def test_a_record_over_the_limit_is_refused_and_nothing_is_lost(
    environment: StoreEnvironment, store: Store
) -> None:
    registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
    names = tuple(f"tool-{number}-{'x' * 200}" for number in range(2000))
    with pytest.raises(InvalidRecordError, match="over the limit of 262,144"):
        too_big = record().model_copy(
            update={"capabilities": record().capabilities.model_copy(update={"tools": names})}
        )
        await registration.update(too_big, document("a"))
    async with watching(await environment.open()) as watcher:
        assert watcher.instances["catalog-1"].record.capabilities.tools == ()


@pytest.mark.over(WRITABLE)
async def test_foreign_keys_and_malformed_records_are_skipped_and_reported(
    environment: StoreEnvironment,
) -> None:
    foreign = await environment.put_foreign()
    store = await environment.open()
    await store.register(record(), document("a"), ttl=30, reap_after=60)
    async with watching(store) as watcher:
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        await watcher.until(lambda: set(store.skipped) >= set(foreign), 10, str(set(foreign)))
        assert set(watcher.instances) == {"catalog-1"}
        assert set(store.skipped) == set(foreign)
        assert all(store.skipped.values())


async def test_cancellation_leaves_no_task_behind(
    environment: StoreEnvironment, store: Store
) -> None:
    await store.register(record(), document("a"), ttl=30, reap_after=60)
    before = asyncio.all_tasks()
    async with watching(store):
        pass
    task = asyncio.create_task(store.document(document("a").digest))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await until_holds(lambda: asyncio.all_tasks() <= before, timeout=2, what="the tasks' end")


@pytest.mark.over(SERVED)
async def test_cancellation_leaves_no_connection_behind(
    environment: StoreEnvironment, store: Store
) -> None:
    port = urlsplit(environment.url.split(",")[0]).port

    def connections() -> int:
        return sum(
            each.status == "ESTABLISHED" and each.raddr[1:] == (port,)
            for each in psutil.Process().net_connections("tcp")
        )

    await store.register(record(), document("a"), ttl=30, reap_after=60)
    counts = []
    for _ in range(6):
        async with watching(store):
            calls = [store.document(document("a").digest) for _ in range(3)]
            tasks = [asyncio.create_task(call) for call in calls]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        counts.append(connections())
    # A pool of idle ones is kept, some of which may just be closing; nothing grows.
    assert max(counts[3:]) <= max(counts[:3]) + 1, counts
    await store.close()
    await until_holds(lambda: connections() == 0, timeout=5, what="the connections' end")


async def test_a_closed_store_ends_its_watches(environment: StoreEnvironment, store: Store) -> None:
    async with watching(store) as watcher:
        await store.close()
        await watcher.until(lambda: watcher.failure is not None, 2, "the end")
    assert isinstance(watcher.failure, StoreUnavailableError)
    with pytest.raises(StoreUnavailableError):
        await store.document("0" * 64)


@pytest.mark.over(SERVED)
async def test_an_absent_store_is_unavailable_and_comes_back(
    own_environment: StoreEnvironment,
) -> None:
    store = await own_environment.open()
    registration = await store.register(record(), document("a"), ttl=60, reap_after=120)
    async with watching(store) as watcher:
        await own_environment.away()
        with pytest.raises(StoreUnavailableError):
            await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        with pytest.raises(StoreUnavailableError):
            await store.register(record("n-2"), document("b"), ttl=60, reap_after=120)
        with pytest.raises(StoreUnavailableError):
            await store.document(document("b").digest)
        await watcher.until(lambda: watcher.failure is not None, 15, "the watch to fail")
        assert isinstance(watcher.failure, StoreUnavailableError)
        assert "catalog-1" in watcher.instances
    with pytest.raises(StoreUnavailableError):
        async with aclosing(store.watch()) as events:
            await anext(events)
    await own_environment.back()
    again = await store.register(record(), document("a"), ttl=60, reap_after=120)
    async with watching(store) as watcher:
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        await again.deregister()
        await watcher.until_status("catalog-1", None, 5)
