"""Intentions and the mesh, for real: Consul's own proxies let a call through, or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Status
from tests.contract.watcher import watching
from tests.deploy.consul.agents import CONSUL, Agent, consul, consul_program
from tests.deploy.consul.conftest import Site, create_token
from tests.records import document, record
from tests.servers.process import McpServer
from tests.stores import ports
from tests.stores.process import LocalProcess
from tests.stores.waiting import NotYet, bounded, until

INTENTIONS = CONSUL / "intentions"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@contextlib.asynccontextmanager
async def proxy(
    folder: Path, name: str, agent: Agent, token: str, *more: str
) -> AsyncIterator[None]:
    """Consul's built-in proxy, until the end of the block."""
    process = LocalProcess(consul_program(), folder / f"{name}.log")
    at = (f"-http-addr={agent.http}", f"-token={token}")
    await process.start(["connect", "proxy", *at, *more])
    try:
        yield
    finally:
        await process.close()


async def answers(port: int) -> bool:
    """Whether MCP is spoken behind that port."""
    headers = {"Accept": "application/json, text/event-stream"}
    url = f"http://127.0.0.1:{port}/mcp"
    timeout = aiohttp.ClientTimeout(total=3)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(url, json=INITIALIZE, headers=headers) as response,
        ):
            return response.status == 200 and "product-catalog" in await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return False


async def intend(agent: Agent, folder: Path, *arguments: str) -> None:
    """Runs intentions.sh as an operator does, with the rights that it asks for at its top."""
    head = (INTENTIONS / "intentions.sh").read_text()
    rules = re.search(r'service "mcp-product-catalog" \{ (.*) (intentions = .*) \}', head)
    assert rules
    (folder / "rules.hcl").write_text(
        f'service "mcp-product-catalog" {{\n  {rules[1]}\n  {rules[2]}\n}}\n'
    )
    policy = f"intend-{uuid.uuid4().hex}"
    given = ("-name", policy, "-rules", f"@{folder / 'rules.hcl'}")
    await consul("acl", "policy", "create", *given, environment=agent.environment)
    token = {"CONSUL_HTTP_TOKEN": await create_token(agent, "-policy-name", policy)}
    path = {"PATH": f"{Path(consul_program()).parent}:{os.environ['PATH']}"}
    process = await asyncio.create_subprocess_exec(
        *(str(INTENTIONS / "intentions.sh"), *arguments), env=agent.environment | path | token
    )
    assert await bounded(process.wait(), 20) == 0


async def test_intentions_rule_who_reaches_a_server_through_the_mesh(
    site: Site, tmp_path: Path
) -> None:
    mcp = McpServer(("examples/product_catalog.py",), tmp_path)
    listen, upstream = ports.draw().number, ports.draw().number
    definition = (INTENTIONS / "product-catalog-proxy.hcl").read_text()
    definition = definition.replace("20001", str(listen)).replace("8001", str(mcp.port))
    (tmp_path / "proxy.hcl").write_text(definition.replace('"10s"', '"1s"'))
    agent = site.client
    options = StoreOptions(token=site.server.token)
    identity = await create_token(agent, "-service-identity=mcp-product-catalog")
    callers = await create_token(agent, "-service-identity=agents")
    as_proxy = agent.environment | {"CONSUL_HTTP_TOKEN": identity}
    id = "mcp-product-catalog-sidecar-proxy"
    own = f"{agent.store_url}?mode=service-per-server"

    try:
        await mcp.start()
        async with ConsulStore(own, options) as store, watching(store) as watcher:
            await store.register(
                record("real-1", endpoint={"url": mcp.url}), document("a"), ttl=60, reap_after=60
            )
            await consul("services", "register", str(tmp_path / "proxy.hcl"), environment=as_proxy)
            caller = ("-service=agents", f"-upstream=mcp-product-catalog:{upstream}")
            async with (
                proxy(tmp_path, "server", agent, identity, f"-proxy-id={id}"),
                proxy(tmp_path, "caller", agent, callers, *caller),
            ):

                async def reached(expected: bool) -> bool:
                    if await answers(upstream) is not expected:
                        log = (tmp_path / "caller.log").read_text()[-800:]
                        raise NotYet(f"reached is not {expected}: {log}")
                    return True

                async def proxy_passes() -> bool:
                    path = "/v1/health/connect/mcp-product-catalog?passing"
                    return len(await agent.api("GET", path)) == 1

                await until(proxy_passes, timeout=15, what="the proxy passing")
                await intend(agent, tmp_path, "agents", "product-catalog")
                said = await consul(
                    "intention",
                    "check",
                    "agents",
                    "mcp-product-catalog",
                    environment=agent.environment,
                )
                assert "Allowed" in said
                await until(lambda: reached(True), timeout=20, what="a call that is allowed")
                await intend(agent, tmp_path, "others", "product-catalog")
                deny = ("intention", "delete", "agents", "mcp-product-catalog")
                await consul(*deny, environment=agent.environment)
                await until(lambda: reached(False), timeout=20, what="a call that is refused")

            # The proxy is Consul's by its name and no server of ours.
            await watcher.until_status("real-1", Status.HEALTHY, 5)
            assert list(watcher.instances) == ["real-1"]
            assert id not in store.skipped
    finally:
        await mcp.close()
        await agent.api("PUT", f"/v1/agent/service/deregister/{id}")
        await agent.api("PUT", "/v1/agent/service/deregister/real-1")


def test_both_forms_say_the_same() -> None:
    """The config entry for 1.9 and later, which 1.8 cannot run, names what the commands name."""
    entry = (INTENTIONS / "service-intentions.hcl").read_text()
    assert re.search(r'^Kind = "service-intentions"$', entry, re.MULTILINE)
    assert re.search(r'^Name = "mcp-product-catalog"$', entry, re.MULTILINE)
    sources = re.findall(r'Name   = "([^"]+)"\s+Action = "([^"]+)"', entry)
    assert sources == [("agents", "allow"), ("*", "deny")]
