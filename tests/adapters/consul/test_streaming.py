"""Consul 1.10 and later answer queries about services from a copy that the agent keeps by a stream:
the same lists and changes as before, for as many full reads, and a stream that stands still is
noticed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import aiohttp

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.checks import health_check
from mcp_discovery.adapters.store import Change, Snapshot
from mcp_discovery.errors import StoreUnavailableError
from mcp_discovery.health import Health, Status, healthy
from tests.adapters.consul.faulty import FaultyConsul, Spoiled
from tests.contract.watcher import Watching, watching
from tests.records import document, record
from tests.stores import ConsulAgent, ConsulCluster, ConsulServer, until
from tests.stores.waiting import NotYet

DOC = document("search_products")


async def test_changes_cost_no_further_full_reads(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    full: list[Spoiled] = []

    def counted(answer: Spoiled) -> None:
        if "/health/service/" in answer.path and not {"index", "filter"} & answer.query.keys():
            full.append(answer)

    proxy = FaultyConsul(consul_server, namespace)
    async with proxy.serving():
        proxy.fault = counted
        await store.register(record("stays-1"), DOC, ttl=60, reap_after=60)
        async with ConsulStore(proxy.url) as reader, watching(reader) as watcher:
            registrations = [
                await store.register(record(f"n-{n}"), DOC, ttl=60, reap_after=60) for n in range(8)
            ]
            await watcher.until(lambda: len(watcher.instances) == 9, 5, "all eight")
            for registration in registrations:
                await registration.heartbeat(Health(Status.DOWN, "connection refused"))
                await watcher.until_status(registration.id, Status.DOWN, 2)
                await registration.heartbeat(healthy())
                await watcher.until_status(registration.id, Status.HEALTHY, 2)
                await registration.deregister()
                await watcher.until_status(registration.id, None, 2)
                assert Status.DEGRADED not in watcher.history(registration.id)
            await asyncio.sleep(4.5)  # long enough for the check of the leader
            assert watcher.failure is None
            assert sum(isinstance(event, Snapshot) for event in watcher.events) == 1
            gone = [e for e in watcher.events if isinstance(e, Change) and e.instance is None]
            assert [change.id for change in gone] == [each.id for each in registrations]
            assert len(full) == 1


async def test_a_server_that_hangs_beneath_a_stream_is_noticed() -> None:
    """The agents' streams come from any of the servers; one of these hangs, and says nothing of
    what changes, while the leader serves."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(ConsulCluster())
        leader = await cluster.leader()
        hanging = next(member for member in cluster.members if member is not leader)
        writer = await stack.enter_async_context(ConsulStore(leader.store_url))
        registration = await writer.register(record(), DOC, ttl=60, reap_after=60)
        watchers: list[Watching] = []
        stores: list[ConsulStore] = []
        for _ in range(5):
            agent = await stack.enter_async_context(ConsulAgent(cluster))
            store = await stack.enter_async_context(ConsulStore(agent.store_url))
            stores.append(store)
            watchers.append(await stack.enter_async_context(watching(store)))
            await watchers[-1].until_status("catalog-1", Status.HEALTHY, 5)
        for n in range(3):  # every stream is up and has brought something
            await registration.heartbeat(Health(Status.DEGRADED, f"slow, {n}"))
            for watcher in watchers:
                await watcher.until(partial(says, watcher, f"slow, {n}"), 5, f"slow, {n}")
        await hanging.pause()
        try:
            await registration.heartbeat(Health(Status.DOWN, "connection refused"))

            async def told() -> bool:
                return all(
                    watcher.status("catalog-1") is Status.DOWN
                    or isinstance(watcher.failure, StoreUnavailableError)
                    for watcher in watchers
                )

            await until(told, timeout=8, what="the change, or that the store is away, everywhere")
            # Whoever watches again does not depend on the stream any more.
            for store in stores:
                await shows(store, "catalog-1", Status.DOWN, 15)
            await registration.heartbeat(healthy())
            for store in stores:
                await shows(store, "catalog-1", Status.HEALTHY, 3)
        finally:
            await hanging.resume()


def says(watcher: Watching, reason: str) -> bool:
    return watcher.instances["catalog-1"].health.reason == reason


async def shows(store: ConsulStore, id: str, status: Status, timeout: float) -> None:
    """Watches, again and again, until the instance has that status."""

    async def shown() -> bool:
        try:
            async with watching(store) as watcher:
                await watcher.until_status(id, status, 1)
        except (StoreUnavailableError, AssertionError) as error:
            raise NotYet(str(error)) from error
        return True

    await until(shown, timeout=timeout, what=f"{status} through {store.url}")


async def test_a_restored_snapshot_shows_within_a_check() -> None:
    """A query with the index from before waits on, however little is left of what it knows."""
    async with (
        ConsulServer() as server,
        ConsulStore(server.store_url) as store,
        aiohttp.ClientSession(server.http_url) as http,
    ):
        registration = await store.register(record("n-1"), DOC, ttl=60, reap_after=60)
        async with http.get("/v1/snapshot") as saved:
            snapshot = await saved.read()
        await registration.heartbeat(Health(Status.DOWN, "connection refused"))
        async with watching(store) as watcher:
            await watcher.until_status("n-1", Status.DOWN, 5)
            async with http.put("/v1/snapshot", data=snapshot) as restored:
                assert restored.status == 200

            async def told() -> bool:
                # The agent may have told its servers anew in the meantime.
                entries = (await server.api("GET", "/v1/health/service/mcp?consistent")).json()
                checks = {each["CheckID"]: each["Status"] for each in entries[0]["Checks"]}
                healthy = checks[health_check("n-1")] == "passing"
                now = watcher.status("n-1") is (Status.HEALTHY if healthy else Status.DOWN)
                return now or isinstance(watcher.failure, StoreUnavailableError)

            await until(told, timeout=8, what="what the store has, or that something is wrong")
