"""Several endpoints: a leader that dies, a member that hangs, a quorum that is lost."""

from __future__ import annotations

import time
from contextlib import aclosing

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.store import Registration, Snapshot
from mcp_discovery.cli.doctor.case import Case
from mcp_discovery.cli.doctor.store import check_store
from mcp_discovery.errors import StoreFault, StoreUnavailableError
from mcp_discovery.health import Health, Status, healthy
from tests.adapters.etcd.conftest import registered
from tests.contract.watcher import watching
from tests.stores.etcd import EtcdCluster
from tests.stores.waiting import NotYet, repeat, until


async def beat_for(registration: Registration, seconds: float) -> None:
    """Heartbeats at a steady pace; any failure passes through."""
    await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=seconds)


async def named(store: EtcdStore, fault: StoreFault) -> bool:
    """Whether a new watch fails for ``fault`` in the end; it takes an election to know that."""

    async def fails_so() -> bool:
        with pytest.raises(StoreUnavailableError) as failed:
            async with aclosing(store.watch()) as events:
                await anext(events)
        if failed.value.fault is not fault:
            raise NotYet(str(failed.value))
        return True

    return bool(await until(fails_so, timeout=30, what=f"being told {fault}"))


async def test_the_leader_dies_and_all_goes_on() -> None:
    async with EtcdCluster() as cluster, EtcdStore(cluster.store_url) as store:
        registration = await registered(store, ttl=10, reap_after=60)
        async with watching(store) as watcher:
            leader = await cluster.leader()
            await leader.kill()
            await beat_for(registration, 3)
            await registration.heartbeat(Health(Status.DEGRADED, "without its leader"))
            await watcher.until_status("catalog-1", Status.DEGRADED, 10)
            assert [type(event) for event in watcher.events].count(Snapshot) == 1
            assert watcher.failure is None


async def test_a_member_hangs_and_all_goes_on() -> None:
    async with EtcdCluster() as cluster, EtcdStore(cluster.store_url) as store:
        registration = await registered(store, ttl=20, reap_after=60)
        async with watching(store) as watcher:
            hanging = next(m for m in cluster.members if m.http_url == store._gateway.endpoint)
            await hanging.pause()
            began = time.monotonic()
            await registration.heartbeat(Health(Status.DEGRADED, "past the hanging one"))
            assert time.monotonic() - began < 7.5
            await watcher.until_status("catalog-1", Status.DEGRADED, 15)
            assert watcher.failure is None
            await hanging.resume()


async def test_a_lost_quorum_is_unavailable_and_comes_back() -> None:
    async with EtcdCluster() as cluster, EtcdStore(cluster.store_url) as store:
        registration = await registered(store, ttl=60, reap_after=120)
        async with watching(store) as watcher:
            for member in await cluster.followers():
                await member.kill()
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="endpoints"):
                await registration.heartbeat(Health(Status.DEGRADED, "alone"))
            assert time.monotonic() - began < 10
            await watcher.until(lambda: watcher.failure is not None, 20, "the failure")
            assert isinstance(watcher.failure, StoreUnavailableError)
            assert await named(store, StoreFault.NO_LEADER)
            case = Case(facade="http://127.0.0.1:9", store=cluster.store_url, timeout=3.0)
            (finding,) = [each async for each in check_store(case)]
            assert (finding.state, finding.advice) == ("wrong", StoreFault.NO_LEADER.remedy)
            assert "has lost its quorum" in finding.message
            assert watcher.status("catalog-1") is Status.HEALTHY
        for member in cluster.members:
            if not member.running:
                await member.start(wait=False)
        await cluster.ready()
        await registration.heartbeat(Health(Status.DEGRADED, "together again"))
