"""A member that only learns is among the endpoints, as while a cluster is being enlarged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import product

import pytest

from mcp_discovery.adapters.etcd import EtcdStore
from mcp_discovery.adapters.store import Snapshot, StoreOptions
from mcp_discovery.errors import DocumentNotFoundError, StoreUnavailableError
from mcp_discovery.health import Health, Status, healthy
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores.binaries import Release
from tests.stores.etcd import EtcdCluster, EtcdLearner, EtcdServer
from tests.stores.waiting import until

PASSWORD = "s3cr3t"


@pytest.fixture(scope="module", params=[False, True], ids=["open", "users"])
async def voter(request: pytest.FixtureRequest, release: Release) -> AsyncIterator[EtcdServer]:
    async with EtcdServer(auth=request.param) as server:
        if request.param:
            await server.add_user("discovery", PASSWORD, prefix="/mcp/")
        yield server


@pytest.fixture(scope="module")
async def learner(voter: EtcdServer) -> AsyncIterator[EtcdLearner]:
    async with EtcdLearner(voter) as server:
        yield server


def opened(*members: EtcdServer, first: int = 0, timeout: float = 5) -> EtcdStore:
    """A store object that asks ``members[first]`` first."""
    user = "discovery" if members[0].password else None
    options = StoreOptions(user=user, password=PASSWORD if user else None, timeout=timeout)
    hosts = ",".join(f"{each.host}:{each.http_port}" for each in members)
    store = EtcdStore(f"etcd://{hosts}", options)
    store._gateway._good = first
    return store


@pytest.mark.parametrize("first", [0, 1])
async def test_every_request_passes_it_over(
    voter: EtcdServer, learner: EtcdLearner, first: int
) -> None:
    members = (learner, voter)
    async with opened(*members, first=first) as store, opened(*members, first=first) as reader:
        with pytest.raises(DocumentNotFoundError):
            await reader.document("0" * 64)
        async with opened(*members, first=first) as another, aclosing(another.watch()) as news:
            assert await anext(news) == Snapshot({})
        async with watching(reader) as watcher:
            registration = await store.register(record(), document("a"), ttl=10, reap_after=20)
            for beat, number in product((False, True), range(2)):
                store._gateway._good = number  # as after a fail-over
                await registration.heartbeat(healthy(), renew=beat)
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            store._gateway._good = 0
            assert await store.document(document("a").digest) == document("a")
            assert await store.sweep() == 0
            await registration.deregister()


async def test_alone_it_is_called_what_it_is(learner: EtcdLearner) -> None:
    async with opened(learner, timeout=1) as store:
        with pytest.raises(StoreUnavailableError, match="is a learner, which serves no clients"):
            await store.document("0" * 64)


async def test_a_member_that_was_removed_is_passed_over(release: Release) -> None:
    async with EtcdCluster(3) as cluster:
        leader = await cluster.leader()
        gone, *_ = await cluster.followers()
        async with opened(gone, leader) as store, watching(store) as watcher:
            registration = await store.register(record(), document("a"), ttl=10, reap_after=20)
            members = (await leader.call("cluster/member/list", {}))["members"]
            id = next(each["ID"] for each in members if each["name"] == gone.name)

            async def removed() -> bool:
                return bool(await leader.call("cluster/member/remove", {"ID": id}))

            await until(removed, timeout=15, what="a cluster that lets a member be removed")
            for _ in range(40):  # it serves on for a moment, then refuses, then ends
                store._gateway._good = 0
                await registration.heartbeat(healthy(), renew=True)
                await asyncio.sleep(0.05)
            await registration.heartbeat(Health(Status.DEGRADED, "slow"))
            await watcher.until_status("catalog-1", Status.DEGRADED, 5)


async def test_once_promoted_it_serves(release: Release) -> None:
    async with EtcdServer() as voter, EtcdLearner(voter) as learner, opened(learner) as store:
        await learner.promote()
        registration = await store.register(record(), document("a"), ttl=10, reap_after=20)
        await registration.deregister()
