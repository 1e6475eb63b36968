"""The snippets of `deploy/dns/`: resolvers that pass .consul on to a real agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_discovery.adapters.consul import ConsulStore
from mcp_discovery.adapters.store import StoreOptions
from mcp_discovery.health import Health, Status, healthy
from tests.deploy.consul.agents import DEPLOY
from tests.deploy.consul.conftest import Site
from tests.deploy.dns.test_page import dig
from tests.deploy.tools import program
from tests.records import document, record
from tests.stores import ports
from tests.stores.waiting import NotYet, until

SNIPPETS = DEPLOY / "dns"
_ASK = "dig @127.0.0.1 -p 8600"


@contextlib.asynccontextmanager
async def resolver(kind: str, folder: Path, agent_port: int) -> AsyncIterator[int]:
    """A resolver from its snippet, with its ports replaced and nothing else; its port."""
    port = ports.draw().number
    if kind == "dnsmasq":
        text = (SNIPPETS / "dnsmasq.conf").read_text().replace("#8600", f"#{agent_port}")
        (folder / "dnsmasq.conf").write_text(text)
        arguments = [
            *("--keep-in-foreground", f"--conf-file={folder / 'dnsmasq.conf'}"),
            *(f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"),
            *("--no-resolv", "--no-hosts", "--user=", "--pid-file="),
        ]
    else:
        text = (SNIPPETS / "Corefile.forward").read_text().replace(":8600", f":{agent_port}")
        (folder / "Corefile").write_text(text.replace(":53 {", f":{port} {{\n    bind 127.0.0.1"))
        arguments = ["-conf", str(folder / "Corefile")]
    async with ran(kind, folder, *arguments):
        yield port


@contextlib.asynccontextmanager
async def ran(kind: str, folder: Path, *arguments: str) -> AsyncIterator[None]:
    """A name server that runs until the block ends; what it says is in ``folder``."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program(kind), *arguments), stdout=log, stderr=log
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("kind", ["dnsmasq", "coredns"])
async def test_a_resolver_passes_consul_on(site: Site, tmp_path: Path, kind: str) -> None:
    options = StoreOptions(token=site.tokens["sidecar"])
    name = f"through-{kind}"
    async with (
        ConsulStore(site.client.store_url, options) as store,
        resolver(kind, tmp_path, site.client.port("dns")) as port,
    ):

        async def answers(query: str, *expected: str) -> None:
            async def answered() -> bool:
                try:
                    found = await dig(port, f"{_ASK} {query} +short")
                except AssertionError as error:  # dig's end without an answer
                    raise NotYet(f"{error}; {(tmp_path / 'log').read_text()}") from error
                if found != list(expected):
                    raise NotYet(f"{found}; {(tmp_path / 'log').read_text()[-500:]}")
                return True

            await until(answered, timeout=8, what=f"{kind} answering {expected} for {query}")

        await answers(f"{name}.mcp.service.consul")  # no such name, which is not kept for long
        each = record(f"{name}-1", name=name, endpoint={"url": "http://10.0.0.9:81/mcp"})
        held = await store.register(each, document("a"), ttl=60, reap_after=60)
        await answers(f"{name}.mcp.service.consul", "10.0.0.9")
        srv = f"_mcp._{name}.service.consul SRV"
        await answers(srv, "1 1 81 0a000009.addr.dc1.consul.")
        # What goes is kept for the TTL of 2 s and no longer.
        await held.heartbeat(Health(Status.DOWN, "gone"))
        await answers(f"{name}.mcp.service.consul")
        await held.heartbeat(healthy())
        await answers(f"{name}.mcp.service.consul", "10.0.0.9")
        await held.deregister()


def test_resolved_reads_the_drop_in(tmp_path: Path) -> None:
    """systemd's own reader merges it in; each option is one that the manual has (systemd 246)."""
    place = tmp_path / "etc" / "systemd" / "resolved.conf.d"
    place.mkdir(parents=True)
    snippet = (SNIPPETS / "resolved.conf").read_text()
    (place / "consul.conf").write_text(snippet)
    (place.parent / "resolved.conf").write_text("[Resolve]\n")
    read = subprocess.run(
        ["systemd-analyze", "cat-config", f"--root={tmp_path}", "systemd/resolved.conf"],
        env={"PATH": os.environ["PATH"], "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout
    assert snippet in read
    section, *lines = [
        line for line in snippet.splitlines() if line.strip() and not line.startswith("#")
    ]
    assert section == "[Resolve]"
    assert lines == ["DNS=127.0.0.1:8600", "Domains=~consul", "DNSSEC=no"]
    assert re.fullmatch(r"DNS=\d+\.\d+\.\d+\.\d+:\d+", lines[0])
