"""What a watch of Consul makes of faults, of permissions and of what others write."""

from __future__ import annotations

import time
from contextlib import aclosing

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.watch import RateLimit
from mcp_discovery.adapters.store import Change, Snapshot, StoreOptions, new_holder
from mcp_discovery.errors import StoreDeniedError, StoreFault, StoreUnavailableError
from mcp_discovery.health import Status, healthy
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores import ConsulAgent, ConsulCluster, ConsulServer, until
from tests.stores.waiting import NotYet

DOC = document("search_products")


async def test_maintenance_mode_shows_as_draining(
    consul_server: ConsulServer, store: ConsulStore
) -> None:
    async with watching(store) as watcher:
        registration = await store.register(record(), DOC, ttl=20, reap_after=60)
        for path in ("service/maintenance/catalog-1", "maintenance"):
            await watcher.until_status("catalog-1", Status.HEALTHY, 5)
            url = f"/v1/agent/{path}"
            await consul_server.api("PUT", f"{url}?enable=true&reason=new+disks")
            try:
                await watcher.until_status("catalog-1", Status.DRAINING, 5)
                reason = watcher.instances["catalog-1"].health.reason
                assert reason == "maintenance mode: new disks"
                await registration.heartbeat(healthy())
            finally:
                await consul_server.api("PUT", f"{url}?enable=false")
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)


async def test_orphans_and_strangers_are_not_listed(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    """A record without a service is passed over; a service without a record is reported."""
    async with watching(store) as watcher:
        await store.register(record("orphan-1"), DOC, ttl=20, reap_after=60)
        await watcher.until_status("orphan-1", Status.HEALTHY, 5)
        await consul_server.api("PUT", "/v1/agent/service/deregister/orphan-1")
        await watcher.until_status("orphan-1", None, 5)
        body = {"ID": "stranger", "Name": namespace}
        await consul_server.api("PUT", "/v1/agent/service/register", body=body)
        await store.register(record("real-1"), DOC, ttl=20, reap_after=60)
        await watcher.until_status("real-1", Status.HEALTHY, 5)

        async def reported() -> bool:
            return "stranger" in store.skipped

        await until(reported, timeout=6, what="the stranger among what was skipped")
        assert list(watcher.instances) == ["real-1"]
        assert "without a record" in store.skipped["stranger"]
        assert "orphan-1" not in store.skipped
        await consul_server.api("PUT", "/v1/agent/service/deregister/stranger")

        async def forgotten() -> bool:
            return "stranger" not in store.skipped

        await until(forgotten, timeout=5, what="the stranger forgotten")


async def test_a_record_that_became_unreadable_is_skipped_and_mended(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    async with watching(store) as watcher:
        await store.register(record(), DOC, ttl=20, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        key = f"{namespace}/servers/product-catalog/catalog-1"
        await consul_server.put(key, "{")
        await watcher.until_status("catalog-1", None, 5)
        assert "not JSON" in store.skipped[key]
        await store.register(record(), DOC, ttl=20, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        assert key not in store.skipped


async def test_a_restarted_agent_keeps_the_list() -> None:
    async with ConsulServer() as server, ConsulStore(server.store_url) as store:
        registrations = [
            await store.register(record(f"n-{n}"), DOC, ttl=30, reap_after=60) for n in range(5)
        ]
        async with watching(store) as watcher:
            assert len(watcher.instances) == 5
            await server.stop()

            async def failed() -> bool:
                return isinstance(watcher.failure, StoreUnavailableError)

            await until(failed, timeout=5, what="the watch saying that the store is away")
            assert len(watcher.instances) == 5
        await server.start()
        async with watching(store) as watcher:
            first = watcher.events[0]
            assert isinstance(first, Snapshot)
            assert len(first.instances) == 5
            for registration in registrations:
                await registration.heartbeat(healthy())
            statuses = {instance.health.status for instance in watcher.instances.values()}
            assert statuses == {Status.HEALTHY}


async def test_a_silent_peer_is_noticed_long_before_its_queries_end() -> None:
    async with (
        ConsulServer() as server,
        ConsulStore(server.store_url, StoreOptions()) as store,
        watching(store) as watcher,
    ):
        await server.pause()
        with pytest.raises(StoreUnavailableError, match="no answer within"):
            await watcher.until(lambda: False, 10, "an end of the watch")
        await server.resume()


async def test_a_lost_leader_is_noticed_long_before_the_queries_end() -> None:
    async with (
        ConsulCluster() as cluster,
        ConsulAgent(cluster) as agent,
        ConsulStore(agent.store_url, StoreOptions()) as store,
        watching(store) as watcher,
    ):
        for member in cluster.members[:2]:
            await member.kill()
        with pytest.raises(StoreUnavailableError):
            await watcher.until(lambda: False, 10, "an end of the watch")
        last = cluster.members[2].store_url
        for url in agent.store_url, last:

            async def named(url: str = url) -> bool:
                """Whether what is lost is called so; it takes an election to know that."""
                async with ConsulStore(url, StoreOptions(timeout=2)) as another:
                    with pytest.raises(StoreUnavailableError) as failed:
                        await anext(another.watch())
                if failed.value.fault is not StoreFault.NO_LEADER:
                    raise NotYet(str(failed.value))
                return "lost their quorum" in str(failed.value)

            await until(named, timeout=20, what=f"a lost quorum being named by {url}")


async def test_a_closed_store_ends_its_watch(consul_server: ConsulServer, namespace: str) -> None:
    async with ConsulStore(f"{consul_server.store_url}/{namespace}") as store:
        async with watching(store) as watcher:
            await store.close()
            with pytest.raises(StoreUnavailableError):
                await watcher.until(lambda: False, 5, "an end of the watch")
        with pytest.raises(StoreUnavailableError, match="closed"):
            await store.document(DOC.digest)


async def test_a_token_that_may_not_read_is_denied_not_empty() -> None:
    write = 'service "mcp" { policy = "write" } key_prefix "mcp/" { policy = "write" }'
    nodes = 'node_prefix "" { policy = "read" }'
    lacking = {
        f'service "mcp" {{ policy = "read" }} {nodes}': "key:read on 'mcp/servers/'",
        f'key_prefix "mcp/" {{ policy = "read" }} {nodes}': "service:read on 'mcp'",
        write: "node:read",
    }
    async with ConsulServer(acl=True) as server:
        token = await server.create_token(f"{write} {nodes}")
        async with ConsulStore(server.store_url, StoreOptions(token=token)) as store:
            await store.register(record(), DOC, ttl=30, reap_after=60)
        for rules, problem in lacking.items():
            options = StoreOptions(token=await server.create_token(rules))
            async with ConsulStore(server.store_url, options) as store:
                with pytest.raises(StoreDeniedError, match=problem):
                    async with aclosing(store.watch()) as events:
                        await anext(events)
                with pytest.raises(StoreDeniedError):
                    await store.register(record(), DOC, ttl=30, reap_after=60, holder=new_holder())
                with pytest.raises(StoreDeniedError):  # and takes nothing for an orphan
                    await store.sweep()


async def test_a_token_that_is_revoked_ends_the_watch_and_empties_nothing() -> None:
    # Agents keep what they know of a token for a while; here for no time.
    config = {"acl": {"token_ttl": "0s", "policy_ttl": "0s"}}
    rules = """
        service "mcp" { policy = "write" }
        key_prefix "mcp/" { policy = "write" }
        node_prefix "" { policy = "read" }
    """
    async with ConsulServer(acl=True, config=config) as server:
        token = await server.create_token(rules)
        async with ConsulStore(server.store_url, StoreOptions(token=token)) as store:
            await store.register(record(), DOC, ttl=30, reap_after=60)
            async with watching(store) as watcher:
                own = await server.api("GET", "/v1/acl/token/self", token=token)
                policy = own.json()["Policies"][0]["ID"]
                found = (await server.api("GET", f"/v1/acl/policy/{policy}")).json()
                found["Rules"] = 'node_prefix "" { policy = "read" }'
                await server.api("PUT", f"/v1/acl/policy/{policy}", body=found)
                # Any change wakes the query, which now shows nothing.
                await server.api(
                    "PUT", "/v1/agent/service/register", body={"ID": "x", "Name": "mcp"}
                )
                with pytest.raises(StoreDeniedError):
                    await watcher.until(lambda: False, 10, "an end of the watch")
                assert list(watcher.instances) == ["catalog-1"]


async def test_records_deleted_in_bulk_are_not_told_as_certain(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    """The catalog may hold what a snapshot lacks, even where something is left."""
    for id in ("n-1", "n-2", "n-3", "z-1"):
        await store.register(record(id), DOC, ttl=30, reap_after=60)
    async with watching(store) as watcher:
        assert len(watcher.instances) == 4
        url = f"/v1/kv/{namespace}/servers/product-catalog/n-?recurse"
        await consul_server.api("DELETE", url)
        await watcher.until(lambda: list(watcher.instances) == ["z-1"], 5, "the one that is left")
        assert not [e for e in watcher.events if isinstance(e, Change) and e.instance is None]


async def test_an_instance_that_is_reaped_early_stays_gone(store: ConsulStore) -> None:
    """Consul reaps after a minute at the earliest; a shorter ``reap_after`` holds all the same,
    also for a watch that starts over."""
    async with watching(store) as watcher:
        await store.register(record(), DOC, ttl=1, reap_after=2)
        await watcher.until_status("catalog-1", Status.DOWN, 3)
        await watcher.until_status("catalog-1", None, 3)
    async with watching(store) as watcher:
        assert watcher.instances == {}
        registration = await store.register(record(), DOC, ttl=1, reap_after=2)
        await watcher.until_status("catalog-1", Status.HEALTHY, 3)
        await registration.deregister()


async def test_the_pace_of_queries_is_limited() -> None:
    pace = RateLimit(burst=2, refill=0.1)
    began = time.monotonic()
    for _ in range(5):
        await pace.take()
    assert 0.25 < time.monotonic() - began < 2
