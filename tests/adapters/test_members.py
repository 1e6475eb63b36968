"""Who a store is made of, as real clusters tell it, with and without rights."""

from __future__ import annotations

from mcp_discovery.adapters import open_store
from mcp_discovery.adapters.members import StoreMembers
from tests.stores import ConsulCluster, EtcdCluster
from tests.stores.waiting import until


async def test_an_embedded_store_is_alone() -> None:
    async with open_store("embedded:") as store:
        (only,) = (await store.members()).members
        assert (only.role, only.answers, only.address) == ("alone", True, "in memory")


async def test_etcd() -> None:
    async with EtcdCluster(3) as cluster, open_store(cluster.store_url) as store:
        found = (await store.members()).members
        assert len(found) == 3
        assert sorted(each.role for each in found) == ["follower", "follower", "leader"]
        assert all(each.answers and each.version and each.behind is not None for each in found)
        leader = await cluster.leader()
        assert next(each.name for each in found if each.role == "leader") == leader.name
        await leader.kill()

        async def another_leads() -> StoreMembers | None:
            now = await store.members()
            leading = [each for each in now.members if each.role == "leader"]
            return now if leading and leading[0].name != leader.name else None

        after = await until(another_leads, timeout=30, what="another leader")
        assert after is not None
        assert {each.name: each.answers for each in after.members}[leader.name] is False


async def test_consul() -> None:
    async with ConsulCluster(3) as cluster, open_store(cluster.members[0].store_url) as store:

        async def all_known() -> StoreMembers | None:
            now = await store.members()
            return now if len(now.members) == 3 and all(m.version for m in now.members) else None

        found = await until(all_known, timeout=30, what="three servers")
        assert found is not None
        assert sorted(each.role for each in found.members) == ["follower", "follower", "leader"]
        assert (found.datacentres, found.hidden) == (("dc1",), None)
        leader = await cluster.leader()
        assert next(m.name for m in found.members if m.role == "leader") == leader.name


async def test_consul_tells_the_servers_addresses_without_rights() -> None:
    async with ConsulCluster(3, acl=True) as cluster:
        url = cluster.members[0].store_url
        async with open_store(url) as store:
            found = await store.members()
        assert sorted(each.role for each in found.members) == ["follower", "follower", "leader"]
        assert "node:read" in (found.hidden or "")
