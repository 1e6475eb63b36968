"""What heartbeats write to Consul, and what they notice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.api import ConsulAgent as AgentClient
from mcp_discovery.adapters.consul.checks import health_check, heartbeat_check
from mcp_discovery.adapters.store import Registration, Store
from mcp_discovery.errors import RegistrationLostError, StoreUnavailableError
from mcp_discovery.health import Health, Status, healthy
from mcp_discovery.instance import Instance
from tests.contract.watcher import watching
from tests.records import document, record
from tests.stores import ConsulAgent, ConsulServer, until
from tests.stores.binaries import Release
from tests.stores.waiting import repeat

DOC = document("search_products")


@pytest.fixture(scope="module")
async def as_shipped(release: Release) -> AsyncIterator[ConsulServer]:
    """A Consul whose agent holds back changes of output for minutes, which is its default."""
    async with ConsulServer(config={"check_update_interval": "5m"}) as server:
        yield server


def says(reason: str) -> Callable[[Instance], bool]:
    return lambda seen: seen.health.reason == reason


async def register(store: Store, ttl: float = 20, reap_after: float = 60) -> Registration:
    return await store.register(record(), DOC, ttl=ttl, reap_after=reap_after)


async def test_heartbeats_move_no_index(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    async def indexes() -> tuple[str, str]:
        health = await consul_server.api("GET", f"/v1/health/service/{namespace}?consistent")
        keys = await consul_server.api("GET", f"/v1/kv/{namespace}/?recurse&consistent")
        return health.headers["X-Consul-Index"], keys.headers["X-Consul-Index"]

    registration = await register(store, ttl=1)
    health = Health(Status.DEGRADED, "slow")
    await registration.heartbeat(health)

    async def settled() -> bool:
        answer = await consul_server.api("GET", f"/v1/health/service/{namespace}")
        return '"warning"' in answer.body

    await until(settled, timeout=5, what="the health at the servers")
    before = await indexes()
    # Past the TTL: the verifying reads of the record are among them.
    await repeat(lambda: registration.heartbeat(health), every=0.1, seconds=3)
    assert await indexes() == before


async def test_changes_show_at_once_though_the_agent_holds_back_output(
    as_shipped: ConsulServer,
) -> None:
    async with (
        ConsulStore(as_shipped.store_url) as store,
        ConsulStore(as_shipped.store_url) as reader,
        watching(reader) as watcher,
    ):
        registration = await register(store, ttl=2, reap_after=8)
        await watcher.until_status("catalog-1", Status.HEALTHY, 2)
        # Of these only the first changes the check's status.
        for reason in ("connection refused", "no answer within 1 s", "404 Not Found"):
            await registration.heartbeat(Health(Status.DOWN, reason))
            await watcher.until_shows("catalog-1", says(reason))
        await registration.drain()
        await watcher.until_status("catalog-1", Status.DRAINING, 2)
        # Critical by now, and yet its silence shows in time.
        await watcher.until_status("catalog-1", Status.DOWN, 4)
        assert watcher.instances["catalog-1"].health.reason == "no heartbeat for 2 s"
        await watcher.until_status("catalog-1", None, 8)
        await registration.deregister()


async def test_registered_down_and_replaced_show_at_once(as_shipped: ConsulServer) -> None:
    async with (
        ConsulStore(as_shipped.store_url) as store,
        ConsulStore(as_shipped.store_url) as reader,
        watching(reader) as watcher,
    ):
        for reason in ("connection refused", "not yet ready"):
            down = Health(Status.DOWN, reason)
            registration = await store.register(record(), DOC, ttl=20, reap_after=60, health=down)
            await watcher.until_shows("catalog-1", says(reason))
        await registration.deregister()


async def test_servers_that_hang_let_no_ttl_lapse() -> None:
    """The agent follows its servers for up to a minute, and lets requests to them wait; it does not
    need them for a check."""
    async with (
        ConsulServer() as server,
        ConsulAgent(server) as agent,
        ConsulStore(agent.store_url) as store,
    ):
        registration = await register(store, ttl=2)

        async def beats() -> None:
            with suppress(StoreUnavailableError):
                await registration.heartbeat(healthy())

        await server.pause()
        try:
            await repeat(beats, every=0.2, seconds=7)
            at_agent = (await agent.api("GET", "/v1/agent/checks")).json()
            beat = at_agent[heartbeat_check(registration.id)]
            assert beat["Status"] == "passing"
            log = (agent.folder / "log").read_text()
            assert "missed TTL" not in log
        finally:
            await server.resume()


async def test_a_health_is_told_before_the_renewal(
    store: ConsulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a server that died while its agent was away would be listed once more as it was."""
    registration = await register(store)
    told: list[str] = []
    update = AgentClient.update_check

    async def noted(self: AgentClient, check: str, status: str, output: str) -> None:
        told.append(check)
        await update(self, check, status, output)

    monkeypatch.setattr(AgentClient, "update_check", noted)
    await registration.heartbeat(Health(Status.DOWN, "connection refused"))
    assert told[0] == health_check(registration.id)
    assert heartbeat_check(registration.id) in told


async def test_a_removed_record_is_noticed(
    consul_server: ConsulServer, store: ConsulStore, namespace: str
) -> None:
    registration = await register(store)
    await consul_server.api("DELETE", f"/v1/kv/{namespace}/servers/?recurse")
    with pytest.raises(RegistrationLostError, match="its record is gone"):
        # Within these seconds, whatever the TTL is.
        await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=4)


async def test_a_removed_service_is_noticed_at_once(
    consul_server: ConsulServer, store: ConsulStore
) -> None:
    registration = await register(store)
    await consul_server.api("PUT", "/v1/agent/service/deregister/catalog-1")
    with pytest.raises(RegistrationLostError, match="does not know it"):
        await registration.heartbeat(healthy())


async def test_a_check_that_was_set_by_hand_is_put_right(
    consul_server: ConsulServer, store: ConsulStore
) -> None:
    registration = await register(store, ttl=1)
    await consul_server.api("PUT", "/v1/agent/check/fail/mcp-health:catalog-1?note=by+hand")

    async def put_right() -> bool:
        await registration.heartbeat(healthy())
        answer = await consul_server.api("GET", "/v1/agent/checks")
        return bool(answer.json()["mcp-health:catalog-1"]["Status"] == "passing")

    await until(put_right, timeout=5, what="the health that its registrant found")


@pytest.mark.parametrize("check", ["mcp:catalog-1", "mcp-health:catalog-1"])
async def test_a_check_that_the_servers_have_lost_is_sent_again(
    consul_server: ConsulServer, namespace: str, check: str
) -> None:
    """The agent takes it for sent, and compares it with its servers only every minute or two."""
    async with _through_an_agent(consul_server, namespace) as (agent, store):
        registration = await register(store, ttl=4)
        await until(_at_servers(agent, namespace), timeout=5, what="both checks at the servers")
        lost = {"Node": agent.name, "CheckID": check}
        await consul_server.api("PUT", "/v1/catalog/deregister", body=lost)
        assert not await _at_servers(agent, namespace)()

        async def sent_again() -> bool:
            await registration.heartbeat(healthy())
            return await _at_servers(agent, namespace)()

        await until(sent_again, timeout=10, what=f"{check} at the servers")


async def test_all_is_sent_again_to_servers_that_lost_all(
    consul_server: ConsulServer, namespace: str
) -> None:
    """What the agent takes for sent is part of the new registration all the same."""
    async with _through_an_agent(consul_server, namespace) as (agent, store):
        registration = await register(store)
        await until(_at_servers(agent, namespace), timeout=5, what="both checks at the servers")
        lost = {"Node": agent.name, "ServiceID": registration.id}
        await consul_server.api("PUT", "/v1/catalog/deregister", body=lost)
        await consul_server.api("DELETE", f"/v1/kv/{namespace}/servers/?recurse")
        with pytest.raises(RegistrationLostError, match="its record is gone"):
            await repeat(lambda: registration.heartbeat(healthy()), every=0.2, seconds=5)
        await register(store)
        await until(_at_servers(agent, namespace), timeout=5, what="both checks at the servers")


@asynccontextmanager
async def _through_an_agent(
    server: ConsulServer, namespace: str
) -> AsyncGenerator[tuple[ConsulAgent, ConsulStore], None]:
    async with ConsulAgent(server) as agent, ConsulStore(f"{agent.store_url}/{namespace}") as store:
        yield agent, store


def _at_servers(agent: ConsulAgent, service: str) -> Callable[[], Awaitable[bool]]:
    async def both() -> bool:
        answer = await agent.api("GET", f"/v1/health/checks/{service}?consistent")
        return len(answer.json()) == 2

    return both


async def test_a_store_that_is_away_is_not_a_lost_registration() -> None:
    async with ConsulServer() as server, ConsulStore(server.store_url) as store:
        registration = await register(store)
        await server.stop()
        with pytest.raises(StoreUnavailableError, match="connection refused"):
            await registration.heartbeat(healthy())
        await server.start()
        await registration.heartbeat(healthy())
        await server.restart(wipe=True)
        with pytest.raises(RegistrationLostError):
            await registration.heartbeat(healthy())
        await (await register(store)).heartbeat(healthy())
