"""A server and a client agent from `deploy/consul/`, set up by the commands of docs/consul.md."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.deploy.consul.agents import CONSUL, POLICIES, Agent, consul, running, until_alive
from tests.stores.waiting import NotYet, until


@dataclass(frozen=True)
class Site:
    """What a new operator has after following docs/consul.md: agents, a CA, tokens by policy."""

    server: Agent
    client: Agent
    ca: Path
    tokens: dict[str, str]


async def create_token(agent: Agent, *arguments: str) -> str:
    """The secret of a new token, made by `consul acl token create`."""
    said = await consul("acl", "token", "create", *arguments, environment=agent.environment)
    found = re.search(r"^SecretID:\s+(\S+)$", said, re.MULTILINE)
    assert found, said
    return found[1]


async def furnish(folder: Path) -> None:
    """Certificates and the gossip key, by the commands of docs/consul.md."""
    await consul("tls", "ca", "create", folder=folder)
    await consul("tls", "cert", "create", "-server", "-dc", "dc1", folder=folder)
    await consul("tls", "cert", "create", "-client", "-dc", "dc1", folder=folder)
    key = (await consul("keygen")).strip()
    (folder / "secrets.hcl").write_text(f'encrypt = "{key}"\n')


def agent(folder: Path, role: str, *more: str, **settings: object) -> Agent:
    """An agent of that role from its file; only addresses, ports and file names are put over."""
    return Agent(
        folder / f"{role}-1",
        f"-config-file={CONSUL / f'{role}.hcl'}",
        f"-config-file={folder / 'secrets.hcl'}",
        *more,
        ca_file=str(folder / "consul-agent-ca.pem"),
        cert_file=str(folder / f"dc1-{role}-consul-0.pem"),
        key_file=str(folder / f"dc1-{role}-consul-0-key.pem"),
        **settings,
    )


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with documented_consul(tmp_path_factory.mktemp("consul")) as made:
        yield made


@asynccontextmanager
async def documented_consul(folder: Path) -> AsyncIterator[Site]:
    """A server and a client agent, set up in ``folder`` by the page."""
    await furnish(folder)
    server = agent(folder, "server", "-bootstrap-expect=1")
    client = agent(folder, "client", f"-retry-join=127.0.0.1:{server.port('serf_lan')}")
    async with running(server, client):
        await server.until_leader()
        said = await consul_when_ready(server, "acl", "bootstrap")
        server.token = client.token = re.findall(r"SecretID:\s+(\S+)", said)[0]
        for each in (server, client):
            token = await create_token(server, f"-node-identity={each.name}:dc1")
            await consul("acl", "set-agent-token", "agent", token, environment=each.environment)
        tokens: dict[str, str] = {}
        for role in ("sidecar", "sidecar-of-one-server", "facade", "sweeper", "dns"):
            rules = f"@{POLICIES / role}.hcl"
            await consul(
                *("acl", "policy", "create", "-name", f"mcp-{role}", "-rules", rules),
                environment=server.environment,
            )
            tokens[role] = await create_token(server, "-policy-name", f"mcp-{role}")
        for each in (server, client):
            await consul(
                "acl", "set-agent-token", "default", tokens["dns"], environment=each.environment
            )
        await until_alive(client, ["server-1", "client-1"])
        yield Site(server, client, folder / "consul-agent-ca.pem", tokens)


async def consul_when_ready(agent: Agent, *arguments: str) -> str:
    """Runs a command anew while the new leader has not set up its ACLs."""

    async def done() -> str:
        try:
            return await consul(*arguments, environment=agent.environment)
        except AssertionError as error:
            raise NotYet(str(error)) from error

    return await until(done, timeout=20, what=" ".join(arguments))
