"""prepared-query.json between two real datacentres: where here is none, the other's is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Health, Status, healthy
from tests.deploy.consul.agents import CONSUL, POLICIES, Agent, Refused, running
from tests.deploy.dns.resolver import Resolver, Server
from tests.records import document, record
from tests.stores.waiting import until

MASTER = "00000000-0000-0000-0000-000000000001"
HERE, THERE = Server("10.1.0.1", 8001), Server("10.2.0.1", 8001)


def server(folder: Path, datacenter: str, wan: Agent | None = None) -> Agent:
    """A server from server.hcl, alone in its datacentre, without TLS to keep it short."""
    plain = {"verify_outgoing": False, "verify_server_hostname": False}
    agent = Agent(
        folder / f"server-{datacenter}",
        f"-config-file={CONSUL / 'server.hcl'}",
        "-bootstrap-expect=1",
        f"-datacenter={datacenter}",
        *([f"-retry-join-wan=127.0.0.1:{wan.port('serf_wan')}"] if wan else []),
        **plain,
        verify_incoming_rpc=False,
        ca_file="",
        cert_file="",
        key_file="",
        retry_interval_wan="1s",
        performance={"raft_multiplier": 1},
        acl={"tokens": {"master": MASTER, "agent": MASTER}},
    )
    agent.token = MASTER
    return agent


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Agent, Agent]]:
    dc1 = server(tmp_path, "dc1")
    dc2 = server(tmp_path, "dc2", dc1)
    async with running(dc1, dc2):
        for agent in (dc1, dc2):
            await agent.until_leader()

            async def both(agent: Agent = agent) -> bool:
                for other in ("dc1", "dc2"):
                    await agent.api("GET", f"/v1/health/state/any?dc={other}")
                return sorted(await agent.api("GET", "/v1/catalog/datacenters")) == ["dc1", "dc2"]

            await until(both, timeout=20, what="both datacentres")
        yield dc1, dc2


async def test_the_other_datacentre_answers_when_this_ones_instance_is_gone(
    two: tuple[Agent, Agent],
) -> None:
    dc1, dc2 = two
    query = json.loads((CONSUL / "prepared-query.json").read_text())
    stated = 'query_prefix "mcp-" { policy = "write" }'
    assert stated in (CONSUL / "prepared-query.md").read_text()
    await dc1.api("PUT", "/v1/acl/policy", {"Name": "query", "Rules": stated})
    made = await dc1.api("PUT", "/v1/acl/token", {"Policies": [{"Name": "query"}]})
    await dc1.api("POST", "/v1/query", query, token=made["SecretID"])
    rules = (POLICIES / "dns.hcl").read_text()
    await dc1.api("PUT", "/v1/acl/policy", {"Name": "dns", "Rules": rules})
    made = await dc1.api("PUT", "/v1/acl/token", {"Policies": [{"Name": "dns"}]})
    secret = made["SecretID"]
    body = {"Token": secret}
    await dc1.api("PUT", "/v1/agent/token/default", body)
    options = StoreOptions(token=MASTER)

    async def told() -> list[Server]:
        path = "/v1/query/mcp-product-catalog.server/execute"
        answer = await dc1.api("GET", path, token=secret)
        return [Server(e["Service"]["Address"], e["Service"]["Port"]) for e in answer["Nodes"]]

    async with (
        ConsulStore(dc1.store_url, options) as store_1,
        ConsulStore(dc2.store_url, options) as store_2,
        Resolver(dc1.port("dns")) as dns,
    ):
        here = await store_1.register(
            record("here-1", endpoint={"url": "http://10.1.0.1:8001/mcp"}),
            document("a"),
            ttl=30,
            reap_after=60,
        )
        await store_2.register(
            record("there-1", endpoint={"url": "http://10.2.0.1:8001/mcp"}),
            document("a"),
            ttl=30,
            reap_after=60,
        )

        async def answered(expected: Server) -> bool:
            for label in ("product-catalog", "product-catalog.server", "products.tag"):
                name = f"mcp-{label}.query.consul"
                by_dns = await dns.addresses(name), await dns.servers(name)
                if by_dns != ({expected.host}, {expected}):
                    return False
            return await told() == [expected]

        await until(lambda: answered(HERE), timeout=10, what="this datacentre's")
        await here.heartbeat(Health(Status.DOWN, "killed"))
        await until(lambda: answered(THERE), timeout=10, what="the other datacentre's")
        await here.heartbeat(healthy())
        await until(lambda: answered(HERE), timeout=10, what="this datacentre's again")
        await here.heartbeat(Health(Status.DEGRADED, "slow"))
        await until(lambda: answered(THERE), timeout=10, what="not a degraded one")
        await here.deregister()
        assert await answered(THERE)
    with pytest.raises(Refused) as refused:
        await dc1.api("POST", "/v1/query", query, token=secret)
    assert refused.value.status == 403
