"""`register FILE`: what differs is told first, the same is left alone, only its own is pruned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_discovery.cli.register_plan import PlannedServers, _server, compare
from tests.mcp_discovery.cli.cluster import on_terminal
from tests.programs import ROOT, AskedFacade, Ended, command, facade
from tests.servers.process import McpServer, odd
from tests.stores import ConsulServer, EtcdServer, until

SERVERS = """
source: bootstrap
servers:
  - name: shop
    id: shop-1
    url: {url}
    tags: [products]
    metadata: {{team: shop}}
  - name: shop
    id: shop-2
    url: {url}
"""


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[AskedFacade]:
    async with facade(tmp_path, "embedded:") as found:
        yield found


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[McpServer]:
    async with odd("--tools", "2") as found:
        yield found


async def position(asked: AskedFacade) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{asked.url}/servers") as answer:
        return answer.headers["X-Discovery-Revision"]


async def register(asked: AskedFacade, file: Path, *arguments: str) -> Ended:
    return await command("register", str(file), "--facade", asked.url, *arguments)


async def test_the_same_file_again_changes_nothing(
    asked: AskedFacade, server: McpServer, tmp_path: Path
) -> None:
    file = tmp_path / "servers.yaml"
    file.write_text(SERVERS.format(url=server.url))
    ended = await register(asked, file, "--dry-run")
    assert (ended.code, ended.out) == (9, "")
    assert f"+ shop-1 at {server.url}" in ended.err
    assert "2 to add, 0 to change, 0 the same." in ended.err
    assert await asked.servers() == {}

    ended = await register(asked, file)
    assert (ended.code, ended.out) == (0, "shop-1: registered\nshop-2: registered\n")
    for id in ("shop-1", "shop-2"):
        await asked.until_status(id, "healthy", 15)
    assert (await register(asked, file, "--dry-run")).code == 0
    before = await position(asked)
    ended = await register(asked, file)
    assert (ended.code, ended.out) == (0, "")
    assert "0 to add, 0 to change, 2 the same." in ended.err
    assert await position(asked) == before


async def test_what_changed_is_told_and_done_and_nothing_else(
    asked: AskedFacade, server: McpServer, tmp_path: Path
) -> None:
    file = tmp_path / "servers.yaml"
    text = SERVERS.format(url=server.url)
    file.write_text(text)
    assert (await register(asked, file)).code == 0
    await asked.until_status("shop-1", "healthy", 15)
    file.write_text(text.replace("[products]", "[products, new]").replace("    id: shop-2\n", ""))
    ended = await register(asked, file, "--dry-run", "--json")
    assert ended.code == 9
    added, changed = map(json.loads, ended.out.splitlines())
    assert (added["outcome"], changed["id"]) == ("to add", "shop-1")
    assert changed["fields"] == {"tags": {"before": ["products"], "after": ["products", "new"]}}

    ended = await register(asked, file)
    assert '    tags: ["products"] → ["products","new"]' in ended.err
    assert "shop-1: changed" in ended.out
    assert (await asked.servers())["shop-1"]["tags"] == ["products", "new"]
    # The file has let go of a field: it is as without it.
    file.write_text(text.replace("    tags: [products]\n", ""))
    ended = await register(asked, file)
    assert '    tags: ["products","new"] → none' in ended.err
    assert (await asked.servers())["shop-1"]["tags"] == []


async def test_pruning_takes_what_the_file_named_before_and_nobody_elses(
    asked: AskedFacade, server: McpServer, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.json"
    text = SERVERS.format(url=server.url)
    ours.write_text(text)
    theirs.write_text(json.dumps({"name": "other", "id": "other-1", "url": server.url}))
    for file in (ours, theirs):
        assert (await register(asked, file)).code == 0
    ours.write_text(text.partition("  - name: shop\n    id: shop-2")[0])
    ended = await register(asked, ours)
    assert (ended.code, len(await asked.servers())) == (0, 3)  # only on request
    ended = await register(asked, ours, "--prune")
    assert ("- shop-2" in ended.err, "shop-2: removed" in ended.out) == (True, True)
    assert (await asked.servers()).keys() == {"shop-1", "other-1"}

    ended = await register(asked, theirs, "--prune")
    assert (ended.code, "--source NAME" in ended.err) == (2, True)
    ours.write_text("source: bootstrap\nservers: []\n")
    ended = await register(asked, ours, "--prune")
    assert (ended.code, "names no server" in ended.err) == (2, True)
    ended = await register(asked, ours, "--prune", "--allow-empty")
    assert (ended.code, list(await asked.servers())) == (0, ["other-1"])


async def test_who_sits_at_a_terminal_is_asked(
    asked: AskedFacade, server: McpServer, tmp_path: Path
) -> None:
    file = tmp_path / "servers.yaml"
    file.write_text(SERVERS.format(url=server.url))
    environment = {"MCP_DISCOVERY_FACADE": asked.url}
    shown = await on_terminal("register", str(file), environment=environment, types="n\n")
    assert "Go on? [y/N]" in shown
    assert await asked.servers() == {}
    shown = await on_terminal("register", str(file), environment=environment, types="y\n")
    assert "shop-2: registered" in shown


@pytest.mark.parametrize("start", [ConsulServer, EtcdServer])
async def test_the_example_is_registered_once_over_every_store(
    start: type[ConsulServer] | type[EtcdServer], tmp_path: Path
) -> None:
    file = ROOT / "deploy" / "config" / "servers.yaml"
    async with start() as store, facade(tmp_path, store.store_url) as asked:
        assert (await command("config", "check", str(file))).code == 0
        ended = await register(asked, file)
        assert (ended.code, ended.out.count(": registered\n")) == (0, 2), ended

        async def same() -> bool:
            return (await register(asked, file, "--dry-run")).code == 0

        await until(same, timeout=20, what="the facade listing what was registered")
        ended = await register(asked, file)
        assert (ended.code, ended.out) == (0, "")
        none = tmp_path / "none.yaml"
        none.write_text("source: bootstrap\nservers: []\n")
        ended = await register(asked, none, "--prune", "--allow-empty")
        assert (ended.code, ended.out.count(": removed\n")) == (0, 2), ended


def entry(id: str, by: str, source: str | None) -> dict[str, Any]:
    metadata = {"registered-from": source} if source else {}
    return {"id": id, "lease": {"by": by}, "metadata": metadata}


def test_what_a_sidecar_keeps_is_never_pruned() -> None:
    listed = [
        entry("a", "facade", "bootstrap"),
        entry("b", "sidecar", "bootstrap"),
        entry("c", "facade", "another"),
        entry("d", "facade", None),
        {"id": "e"},
    ]
    wanted = PlannedServers(
        [_server({"name": "n", "url": "http://h/mcp"}, "bootstrap", {})], "bootstrap"
    )
    assert compare(wanted, listed, prune=True).pruned == ["a"]
    assert compare(PlannedServers([], None), listed, prune=True).pruned == []
