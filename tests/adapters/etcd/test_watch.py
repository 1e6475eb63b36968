"""A watch under everything that happens to one: cuts, compaction, a wiped store, refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mcp_discovery.adapters.etcd import EtcdStore, api
from mcp_discovery.adapters.etcd.keys import Keys, encode
from mcp_discovery.adapters.etcd.watch import CHECK_EVERY, CHECK_WITHIN, RESUME_WITHIN, Watch
from mcp_discovery.adapters.store import Change, Snapshot, StoreOptions
from mcp_discovery.errors import RegistrationLostError, StoreDeniedError, StoreUnavailableError
from mcp_discovery.health import Health, Status, healthy, utcnow
from tests.adapters.etcd.conftest import registered
from tests.adapters.etcd.proxy import FaultyProxy
from tests.contract.watcher import Watching, watching
from tests.faults.proxy import link
from tests.records import document, record
from tests.stores.etcd import EtcdCluster, EtcdServer, prefix_end
from tests.stores.waiting import repeat


@asynccontextmanager
async def proxied(
    server: EtcdServer, namespace: str, options: StoreOptions | None = None
) -> AsyncIterator[tuple[FaultyProxy, Watching]]:
    """A watcher that sees the store through a proxy."""
    async with FaultyProxy(server.http_port) as proxy:
        url = f"etcd://127.0.0.1:{proxy.port}/{namespace}"
        async with EtcdStore(url, options) as store, watching(store) as watcher:
            yield proxy, watcher


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """``work`` as a task, cancelled in the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_registering_flashes_no_down(store: EtcdStore) -> None:
    async with watching(store) as watcher:
        for _ in range(20):
            registration = await registered(store)
            await watcher.until_status("catalog-1", Status.HEALTHY, 2)
            await registration.deregister()
            await watcher.until_status("catalog-1", None, 2)
    assert set(watcher.history("catalog-1")) == {None, Status.HEALTHY}
    assert len(watcher.events) == 41


async def test_a_cut_watch_is_resumed_without_a_word(
    etcd_server: EtcdServer, store: EtcdStore, namespace: str
) -> None:
    first = await registered(store)
    async with proxied(etcd_server, namespace) as (proxy, watcher):
        proxy.hold()
        proxy.cut()
        await first.deregister()
        await registered(store, "n-2")
        proxy.release()
        await watcher.until_status("n-2", Status.HEALTHY, 10)
        assert [type(event) for event in watcher.events] == [Snapshot, Change, Change]
        assert watcher.events[1] == Change("catalog-1", None)


async def test_compaction_under_a_watcher_gives_a_snapshot(
    etcd_server: EtcdServer, store: EtcdStore, namespace: str
) -> None:
    first = await registered(store)
    async with proxied(etcd_server, namespace) as (proxy, watcher):
        proxy.hold()
        proxy.cut()
        await first.deregister()
        await registered(store, "n-2")
        answer = await etcd_server.call("kv/range", {"key": encode("/")})
        await etcd_server.call("kv/compaction", {"revision": answer["header"]["revision"]})
        proxy.release()
        await watcher.until_status("n-2", Status.HEALTHY, 10)
        assert [type(event) for event in watcher.events] == [Snapshot, Snapshot]
        assert set(watcher.instances) == {"n-2"}


async def test_the_watch_itself_says_that_it_was_compacted(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    await registered(store)
    watch = Watch(store._gateway, keys, store.skipped)
    await watch._list()
    await registered(store, "n-2")
    await registered(store, "n-3")
    answer = await etcd_server.call("kv/range", {"key": encode("/")})
    await etcd_server.call("kv/compaction", {"revision": answer["header"]["revision"]})
    async with running(watch._follow()), asyncio.timeout(5):
        news = await watch.queue.take()
        while not any(isinstance(each, Snapshot) and "n-3" in each.instances for each in news):
            news = await watch.queue.take()


@pytest.mark.parametrize("filled", [False, True])
async def test_a_wiped_store_loses_registrations_and_gives_a_snapshot(
    namespace: str, filled: bool
) -> None:
    async with EtcdServer() as server, EtcdStore(f"{server.store_url}/{namespace}") as store:
        registration = await registered(store)
        async with proxied(server, namespace) as (proxy, watcher):
            proxy.hold()
            proxy.cut()
            await server.restart(wipe=True)
            with pytest.raises(RegistrationLostError):
                await registration.heartbeat(healthy())
            if filled:
                # At the very revisions at which the old store had its keys, and beyond.
                for number in range(5):
                    await registered(store, f"n-{number}")
            proxy.release()
            await watcher.until(lambda: len(watcher.events) > 1, 10, "a second snapshot")
            assert isinstance(watcher.events[1], Snapshot)
            assert "catalog-1" not in watcher.instances
            await registered(store)
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            assert len(watcher.instances) == (6 if filled else 1)


async def test_a_watch_whose_bytes_get_lost_is_started_anew(
    etcd_server: EtcdServer, store: EtcdStore, namespace: str
) -> None:
    async with proxied(etcd_server, namespace) as (proxy, watcher):
        proxy.swallow()
        await registered(store)
        await watcher.until_status("catalog-1", Status.HEALTHY, 15)


async def test_a_watch_that_withholds_changes_is_noticed(
    store: EtcdStore, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    registration = await registered(store)
    watch = Watch(store._gateway, keys, store.skipped)
    await watch._list()
    endpoint = store._gateway.endpoint
    before = watch._revision
    await watch._check(endpoint)
    await store._documents.put_missing(document("outside of the range"))
    await watch._check(endpoint)
    assert watch._revision == before + 1
    await registration.deregister()
    await watch._check(endpoint)
    with pytest.raises(StoreUnavailableError, match="withholds"):
        await watch._check(endpoint)


async def test_a_server_that_stops_answering_is_noticed(namespace: str) -> None:
    async with EtcdServer() as server, EtcdStore(f"{server.store_url}/{namespace}") as store:
        registration = await registered(store, ttl=60, reap_after=120)
        async with watching(store) as watcher:
            await server.pause()
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="no answer"):
                await registration.heartbeat(healthy())
            assert time.monotonic() - began < 7
            await watcher.until(lambda: watcher.failure is not None, 15, "the failure")
            assert isinstance(watcher.failure, StoreUnavailableError)
            await server.resume()
        await registration.heartbeat(healthy())


async def test_a_watch_without_permission_is_denied() -> None:
    async with EtcdServer(auth=True) as server:
        await server.add_user("stranger", "s3cr3t")
        options = StoreOptions(user="stranger", password="s3cr3t")
        async with EtcdStore(server.store_url, options) as store:
            async with asyncio.timeout(5):
                with pytest.raises(StoreDeniedError, match="permission"):
                    await anext(store.watch())
                # The list was refused; so is a watch alone, which etcd cancels with a reason.
                watch = Watch(store._gateway, Keys("/mcp/"), store.skipped)
                with pytest.raises(StoreDeniedError, match="permission"):
                    await watch._follow()


async def test_a_permission_taken_away_under_a_watcher() -> None:
    async with EtcdServer(auth=True) as server:
        await server.add_user("reader", "s3cr3t", prefix="/mcp/", permission="READ")
        options = StoreOptions(user="reader", password="s3cr3t")
        async with proxied(server, "mcp", options) as (proxy, watcher):
            span = {"key": encode("/mcp/"), "range_end": encode(prefix_end("/mcp/"))}
            await server.call("auth/role/revoke", {"role": "reader"} | span)
            proxy.cut()
            await watcher.until(lambda: watcher.failure is not None, 10, "the failure")
            assert isinstance(watcher.failure, StoreDeniedError)


async def test_an_expired_token_is_renewed_for_the_watch() -> None:
    async with EtcdServer(auth=True, password="s3cr3t") as server:
        options = StoreOptions(user="root", password="s3cr3t")
        async with EtcdStore(server.store_url, options) as store:
            watch = Watch(store._gateway, Keys("/mcp/"), store.skipped)
            await watch._list()
            # A new password, even the same, makes every token of the user invalid.
            await server.call("auth/user/changepw", {"name": "root", "password": "s3cr3t"})
            async with EtcdStore(server.store_url, options) as other:
                await registered(other)
            async with running(watch._follow()), asyncio.timeout(5):
                news = await watch.queue.take()
                while not any(isinstance(each, Change) for each in news):
                    news = await watch.queue.take()
            assert [each.id for each in news if isinstance(each, Change)] == ["catalog-1"]


async def test_a_token_from_before_a_wipe_is_given_up() -> None:
    """Its index is in the new store's future: etcd answers nothing until it has got there."""
    async with EtcdServer(auth=True, password="s3cr3t") as server:
        for number in range(200):
            await server.put(f"/other/{number}", "x")
        options = StoreOptions(user="root", password="s3cr3t", timeout=1.0)
        async with EtcdStore(server.store_url, options) as store:
            await registered(store)
            await server.restart(wipe=True)
            with pytest.raises(StoreUnavailableError):
                await repeat(lambda: registered(store, "n-1"), every=0.1, seconds=5)
            async with asyncio.timeout(5):
                await registered(store, "n-2")


async def test_big_values_pass_through_the_watch(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    names = [f"tool-{number}-{'x' * 200}" for number in range(1000)]
    async with watching(store) as watcher:
        await etcd_server.put(keys.record("x", "strange"), "x" * 1_000_000)
        big = record(capabilities={"tools": names}, description="ü" * 4000)
        registration = await store.register(big, document("a"), ttl=20, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        assert watcher.instances["catalog-1"].record.capabilities.tools == tuple(names)
        assert keys.record("x", "strange") in store.skipped
        await registration.heartbeat(Health(Status.DEGRADED, "slow"))
        await watcher.until_status("catalog-1", Status.DEGRADED, 5)
        # Mended by a good one, forgotten when removed.
        await store.register(record("strange", name="x"), document("a"), ttl=20, reap_after=60)
        await watcher.until_status("strange", Status.HEALTHY, 5)
        assert not store.skipped


async def test_a_list_of_several_pages_is_one_snapshot(
    store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE", 3)
    for number in range(10):
        await registered(store, f"n-{number}")
    async with watching(store) as watcher:
        assert set(watcher.instances) == {f"n-{number}" for number in range(10)}
        assert {i.health.status for i in watcher.instances.values()} == {Status.HEALTHY}


async def test_a_first_list_knows_when_a_silent_one_was_heard_of(
    etcd_server: EtcdServer, store: EtcdStore, namespace: str
) -> None:
    registration = await registered(store, ttl=1, reap_after=60)
    await registration.heartbeat(healthy())
    heard = utcnow()
    async with watching(store) as watcher:
        await watcher.until_status("catalog-1", Status.DOWN, 4)
        seen = watcher.instances["catalog-1"].health
        assert abs((seen.last_seen - heard).total_seconds()) < 2
    async with EtcdStore(f"{etcd_server.store_url}/{namespace}") as fresh, watching(fresh) as late:
        health = late.instances["catalog-1"].health
        assert (health.status, health.reason) == (Status.DOWN, "no heartbeat for 1 s")
        assert abs((health.last_seen - heard).total_seconds()) < 2.5


async def test_a_prefix_that_is_deleted_is_not_told_as_certain(
    etcd_server: EtcdServer, store: EtcdStore, keys: Keys
) -> None:
    """The catalog may hold what a snapshot lacks; who deregisters is gone for certain."""
    registrations = [await registered(store, f"n-{n}") for n in range(4)]
    async with watching(store) as watcher:
        await registrations[0].deregister()
        await watcher.until_status("n-0", None, 5)
        span = {"key": encode(keys.prefix), "range_end": encode(prefix_end(keys.prefix))}
        await etcd_server.call("kv/deleterange", span)
        await watcher.until(lambda: not watcher.instances, 5, "nothing left")
        assert [e for e in watcher.events if isinstance(e, Change)] == [Change("n-0", None)]


async def test_a_way_that_went_dead_is_told_within_eleven_seconds() -> None:
    async with (
        EtcdCluster() as cluster,
        AsyncExitStack() as stack,
    ):
        links = [
            await stack.enter_async_context(link("127.0.0.1", each.http_port))
            for each in cluster.members
        ]
        url = f"etcd://{','.join(each.address for each in links)}"
        store = await stack.enter_async_context(EtcdStore(url))
        watcher = await stack.enter_async_context(watching(store))
        for each in links:
            await each.become("half-open")
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await watcher.until(lambda: False, 20, "an end of the watch")
        assert time.monotonic() - began < CHECK_EVERY + CHECK_WITHIN + RESUME_WITHIN + 1
