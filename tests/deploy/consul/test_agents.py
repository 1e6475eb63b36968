"""server.hcl and client.hcl run as they are, and sidecars and facades work through them."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.consul.registration import ConsulRegistration
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Status, healthy
from tests import programs
from tests.contract.watcher import watching
from tests.deploy.consul.agents import POLICIES, running, until_alive
from tests.deploy.consul.conftest import Site, agent, furnish
from tests.deploy.consul.test_many_names import CONNECTIONS, connections_to
from tests.records import document, record
from tests.servers.process import McpServer
from tests.stores.waiting import until

BEAT_EVERY = 0.4
"""Seconds between two heartbeats, as often as a TTL of 2 s wants them."""
EXAMPLE = ("examples/product_catalog.py",)


async def test_sidecar_and_facade_work_through_them(site: Site, tmp_path: Path) -> None:
    """Processes, over TLS, with nothing but their own policies; then a facade over plain HTTP."""
    mcp = McpServer(EXAMPLE, tmp_path)
    store, ca = site.client.secure_store_url, {"MCP_DISCOVERY_STORE_CA": str(site.ca)}
    sidecar = ("sidecar", "--store", store, "--url", mcp.url, "--id", "real-1", "--drain", "0")
    try:
        await mcp.start()
        async with (
            programs.running(
                tmp_path, *sidecar, MCP_DISCOVERY_STORE_TOKEN=site.tokens["sidecar"], **ca
            ) as process,
            programs.facade(
                tmp_path, store, MCP_DISCOVERY_STORE_TOKEN=site.tokens["facade"], **ca
            ) as facade,
        ):
            await facade.until_status("real-1", "healthy", 20)
            found = await facade.get("/servers/real-1/capabilities")
            assert found["tools"]
            assert connections_to(site.client.port("https")) <= 1 + CONNECTIONS
            await process.stop()
            await facade.until_status("real-1", None, 10)
    finally:
        await mcp.close()


async def test_a_restarted_client_agent_keeps_its_services_listed(site: Site) -> None:
    """`leave_on_terminate = false`, `enable_token_persistence`: an upgrade of the agent takes
    nothing out of the list, and the heartbeats go on afterwards."""
    options = StoreOptions(token=site.tokens["sidecar"])
    reading = StoreOptions(token=site.tokens["facade"])
    async with (
        ConsulStore(site.client.store_url, options) as store,
        ConsulStore(site.server.store_url, reading) as reader,
        watching(reader) as watcher,
    ):
        registration = await store.register(record(), document("a"), ttl=30, reap_after=60)
        await watcher.until_status("catalog-1", Status.HEALTHY, 5)
        seen = len(watcher.events)
        await site.client.terminate()
        await site.client.start()
        await registration.heartbeat(healthy())
        await registration.require_held()
        assert watcher.failure is None
        gone = [e for e in watcher.events[seen:] if getattr(e, "instance", e) is None]
        assert gone == []
        assert watcher.history("catalog-1")[-1] is Status.HEALTHY
        await registration.deregister()
        await watcher.until_status("catalog-1", None, 5)


async def test_heartbeats_go_on_while_the_servers_hang(tmp_path: Path) -> None:
    """`down_policy = "async-cache"`: the agent answers from what it knows of a token, though that
    has run out (here after 1 s, otherwise after 30 s) and the servers do not say a word."""
    master = "00000000-0000-0000-0000-000000000001"
    acl = {"tokens": {"master": master, "agent": master}, "token_ttl": "1s", "policy_ttl": "1s"}
    await furnish(tmp_path)
    server = agent(tmp_path, "server", "-bootstrap-expect=1", acl=acl)
    join = f"-retry-join=127.0.0.1:{server.port('serf_lan')}"
    client = agent(tmp_path, "client", join, acl=acl)
    server.token = client.token = master
    async with running(server, client):
        await server.until_leader()
        await until_alive(client, ["server-1", "client-1"])

        async def settled() -> bool:
            # Consul up to 1.10 starts with its legacy ACLs, and knows no token yet once it leaves
            # them.
            member = (await client.api("GET", "/v1/agent/self"))["Member"]
            return bool(member["Tags"].get("acls", "1") == "1")

        await until(settled, timeout=20, what="the client agent's change to the new ACLs")
        rules = (POLICIES / "sidecar.hcl").read_text()
        await server.api("PUT", "/v1/acl/policy", {"Name": "sidecar", "Rules": rules})
        made = await server.api("PUT", "/v1/acl/token", {"Policies": [{"Name": "sidecar"}]})
        options = StoreOptions(token=made["SecretID"], timeout=2)
        async with ConsulStore(client.store_url, options) as store:
            held = await store.register(record(), document("a"), ttl=2, reap_after=60)
            held._heartbeats._verified = math.inf  # it would ask the servers for the record in turn
            held._kept._due = held._session._renewed = math.inf
            # For a while as usual: the agent has come to know the token in its present ACLs.
            await _beat_for(held, 1.8)
            await server.pause()
            try:
                slowest = await _beat_for(held, 3.2)
            finally:
                await server.resume()
            assert slowest < 1


async def _beat_for(held: ConsulRegistration, seconds: float) -> float:
    """Heartbeats, as often as a TTL of 2 s wants them; how long the slowest took."""
    slowest, end = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        await held.heartbeat(healthy())
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(BEAT_EVERY)
    return slowest
