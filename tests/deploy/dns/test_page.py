"""docs/dns.md: each `dig` line in it is run, and answers what the page says."""

from __future__ import annotations

import asyncio
import re
import shlex
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Health, Status, healthy
from tests.deploy.consul.agents import Agent, consul
from tests.deploy.consul.conftest import Site, create_token
from tests.deploy.consul.test_policies import rules_of
from tests.deploy.tools import program
from tests.records import document, record
from tests.stores.waiting import NotYet, bounded, until

PAGE = (Path(__file__).parents[3] / "docs" / "dns.md").read_text()
_ROW = re.compile(r"^\| ([a-z0-9-]+-\d) \| (\S+) \| ([^|]+) \| (\S+) \|$", re.MULTILINE)
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASKED = "@127.0.0.1 -p 8600"
DOC = document("a")


def rows() -> list[tuple[str, str, str, str]]:
    """The page's table of instances: id, name, tags, URL."""
    return _ROW.findall(PAGE)


def blocks(asked: str) -> list[tuple[str, list[str]]]:
    """Each command of the page that asks there, with the lines below it."""
    found: list[tuple[str, list[str]]] = []
    for block in _BLOCK.findall(PAGE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, lines) for command, lines in found if asked in command]


def examples() -> list[tuple[str, list[str]]]:
    """Those that ask the agent."""
    return blocks(_ASKED)


async def dig(port: int, command: str) -> list[str]:
    """The lines that a command of the page prints, sorted, with one space between words."""
    words = shlex.split(command.replace(_ASKED, f"@127.0.0.1 -p {port}"))
    assert words[0] == "dig", f"{command}: only dig is run"
    process = await asyncio.create_subprocess_exec(
        *(program("dig"), "+time=2", "+tries=2", *words[1:]), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await bounded(process.communicate(), 10)
    assert process.returncode == 0, out.decode()
    return sorted(" ".join(line.split()) for line in out.decode().splitlines() if line)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(site: Site) -> AsyncIterator[Site]:
    """The agent filled as the page's table says, in both modes."""
    own = f"{site.client.store_url}?mode=service-per-server"
    async with AsyncExitStack() as stack:
        for url, prefix in ((site.client.store_url, ""), (own, "own-")):
            store = ConsulStore(url, StoreOptions(token=site.server.token))
            await stack.enter_async_context(store)
            for id, name, tags, at in rows():
                each = record(prefix + id, name=name, tags=tags.split(", "), endpoint={"url": at})
                held = await store.register(each, DOC, ttl=120, reap_after=120)
                stack.push_async_callback(held.deregister)
        yield site


def test_the_page_has_its_table_and_its_examples() -> None:
    assert len(rows()) == 3
    assert len(examples()) >= 13


@pytest.mark.parametrize(("command", "lines"), examples(), ids=[c for c, _ in examples()])
async def test_each_dig_line_answers_what_the_page_says(
    filled: Site, command: str, lines: list[str]
) -> None:
    async def answered() -> bool:
        found = await dig(filled.client.port("dns"), command)
        if found != sorted(lines):
            raise NotYet(f"{found}")
        return True

    await until(answered, timeout=5, what=f"{command} answering {sorted(lines)}")


async def test_what_is_served_is_what_the_table_says(site: Site) -> None:
    """Each state of the page's table, in turn; the unreachable node is the adapter's own test."""
    command = f"dig {_ASKED} shown.mcp.service.consul +short"
    agent = site.client
    options = StoreOptions(token=site.tokens["sidecar"])

    async def shows(*expected: str) -> None:
        async def shown() -> bool:
            found = await dig(agent.port("dns"), command)
            if found != list(expected):
                raise NotYet(f"{found}")
            return True

        await until(shown, timeout=5, what=f"DNS answering {expected}")

    async with ConsulStore(agent.store_url, options) as store:
        endpoint = {"url": "http://10.0.0.9:1/mcp"}
        each = record("shown-1", name="shown", weight=7, endpoint=endpoint)
        held = await store.register(each, DOC, ttl=60, reap_after=60)
        await shows("10.0.0.9")
        weighed = f"dig {_ASKED} _mcp._shown.service.consul SRV +short"
        assert await dig(agent.port("dns"), weighed) == ["1 7 1 0a000009.addr.dc1.consul."]
        for status in (Status.DEGRADED, Status.DOWN):
            await held.heartbeat(Health(status, "as the table says"))
            await shows()
            await held.heartbeat(healthy())
            await shows("10.0.0.9")
        for path in ("/v1/agent/service/maintenance/shown-1", "/v1/agent/maintenance"):
            await agent.api("PUT", f"{path}?enable=true")
            await shows()
            await agent.api("PUT", f"{path}?enable=false")
            await shows("10.0.0.9")
        await held.drain()
        await shows()
        await held.deregister()
        await store.register(each, DOC, ttl=1, reap_after=60)
        await shows("10.0.0.9")
        await shows()  # silent for its TTL
        await agent.api("PUT", "/v1/agent/service/deregister/shown-1")


async def test_many_instances_are_cut_by_udp_and_whole_by_tcp(site: Site) -> None:
    options = StoreOptions(token=site.tokens["sidecar"])
    port = site.client.port("dns")
    name = "crowd.mcp.service.consul"
    async with ConsulStore(site.client.store_url, options) as store:
        held = await asyncio.gather(
            *(
                store.register(
                    record(f"c-{n}", name="crowd", endpoint={"url": f"http://10.1.1.{n}:1/mcp"}),
                    DOC,
                    ttl=60,
                    reap_after=60,
                )
                for n in range(40)
            )
        )

        async def all_there() -> bool:
            return len(await dig(port, f"dig {_ASKED} {name} +short +tcp")) == 40

        try:
            await until(all_there, timeout=10, what="40 addresses by TCP")
            srv = f"dig {_ASKED} _mcp._crowd.service.consul SRV"
            assert len(await dig(port, f"{srv} +noall +answer")) == 40
            for cut in ("+noedns", "+bufsize=1232"):
                lines = await dig(port, f"{srv} {cut} +ignore +noall +answer +comments")
                assert any("flags: qr aa tc rd" in line for line in lines), lines
            assert len(await dig(port, f"dig {_ASKED} {name} +noedns +ignore +short")) == 3
        finally:
            await asyncio.gather(*(each.deregister() for each in held))


@pytest.mark.parametrize("lacking", ["service 'mcp'", "service_prefix 'mcp-'", "node_prefix ''"])
async def test_each_rule_of_the_dns_policy_is_needed(
    filled: Site, tmp_path: Path, lacking: str
) -> None:
    """An agent whose default token lacks it answers that there is no such name."""
    rules = rules_of("dns")
    mine = "mcp-product-catalog" if "prefix 'mcp-'" in lacking else "products.mcp"
    command = f"dig {_ASKED} {mine}.service.consul +short"
    agent: Agent = filled.client
    assert await dig(agent.port("dns"), command) == ["10.0.0.5", "10.0.0.6"]
    del rules[lacking]
    (tmp_path / "rules.hcl").write_text("".join(rules.values()))
    policy = f"lacking-{uuid.uuid4().hex}"
    await consul(
        *("acl", "policy", "create", "-name", policy, "-rules", f"@{tmp_path / 'rules.hcl'}"),
        environment=agent.environment,
    )
    token = await create_token(agent, "-policy-name", policy)
    set_default = ("acl", "set-agent-token", "default")
    await consul(*set_default, token, environment=agent.environment)
    try:

        async def silent() -> bool:
            return await dig(agent.port("dns"), command) == []

        await until(silent, timeout=5, what="no such name")
    finally:
        await consul(*set_default, filled.tokens["dns"], environment=agent.environment)
