"""A sidecar whose token is revoked, with the policies of `deploy/consul/`: what agents see by a
facade and by DNS, what the sidecar says, and who takes its place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.adapters.consul.test_dns import A, ask
from tests.deploy.consul.agents import POLICIES
from tests.deploy.monitoring.test_operations_page import read
from tests.programs import facade, running
from tests.servers.process import odd
from tests.stores import ConsulAgent, ConsulServer, ports, until
from tests.stores.fixtures import over_releases as pytest_generate_tests
from tests.stores.waiting import NotYet

__all__ = ["pytest_generate_tests"]

NAME = "shop.mcp.service.consul"
#: Seconds from the sidecar's death to ``down``, and to no answer by DNS, at most.
GONE_WITHIN = 30


async def token_of(server: ConsulServer, *roles: str) -> str:
    return await server.create_token(
        "".join((POLICIES / f"{role}.hcl").read_text() for role in roles)
    )


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "dead"])
async def test_no_ghost_is_left_and_the_id_is_free(tmp_path: Path, alive: bool) -> None:
    health = ports.draw()
    dns = {"dns_config": {"only_passing": True}}
    async with ConsulServer(acl=True) as server, ConsulAgent(server, config=dns) as agent:
        await agent.api(
            "PUT", "/v1/agent/token/default", body={"Token": await token_of(server, "dns")}
        )
        lost, good = [await token_of(server, "sidecar") for _ in range(2)]
        reading = await token_of(server, "facade", "sweeper")

        async def answers(expected: bool) -> bool:
            return bool(await ask(agent.dns_port, NAME, A)) is expected

        given = ("--store", agent.store_url, "--id", "shop-1", "--name", "shop", "--ttl", "6s")
        async with (
            facade(tmp_path, server.store_url, MCP_DISCOVERY_STORE_TOKEN=reading) as asked,
            odd() as mcp,
        ):
            first = (*given, "--url", mcp.url, "--health-port", str(health.number))
            token = {"MCP_DISCOVERY_STORE_TOKEN": lost}
            async with running(tmp_path, "sidecar", *first, **token) as sidecar:
                await asked.until_status("shop-1", "healthy", 30)
                await until(lambda: answers(True), timeout=5, what="an answer by DNS")
                own = (await server.api("GET", "/v1/acl/token/self", token=lost)).json()
                await server.api("DELETE", f"/v1/acl/token/{own['AccessorID']}")
                if not alive:
                    await sidecar.stop(9)
                    await mcp.kill()
                began = time.monotonic()
                entry = await asked.until_status("shop-1", "down", GONE_WITHIN)
                assert "its session in Consul has ended" in str(entry)
                left = GONE_WITHIN - (time.monotonic() - began)
                await until(lambda: answers(False), timeout=left, what="no answer by DNS")
                if alive:

                    async def unready() -> bool:
                        try:
                            await read(f"http://127.0.0.1:{health.number}/readyz")
                        except AssertionError:
                            return True
                        raise NotYet("ready")

                    await until(unready, timeout=5, what="the sidecar not being ready")
                    assert "ACL not found" in sidecar.log
            async with odd() as another:
                second = (*given, "--url", another.url)
                token = {"MCP_DISCOVERY_STORE_TOKEN": good}
                async with running(tmp_path, "sidecar", *second, **token):
                    await asked.until_status("shop-1", "healthy", 20)
                    await until(lambda: answers(True), timeout=5, what="an answer by DNS")
    health.release()
