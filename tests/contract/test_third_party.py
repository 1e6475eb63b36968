"""A store of another distribution, in the command: it is found by its entry point alone."""

from __future__ import annotations

import os
from pathlib import Path

from tests.contract.tiny_environment import installed
from tests.programs import command, facade, running
from tests.servers.process import odd


def _path(*folders: str) -> str:
    return os.pathsep.join((*folders, *filter(None, [os.environ.get("PYTHONPATH")])))


async def test_a_sidecar_and_facades_share_it(tmp_path: Path) -> None:
    store = f"tiny://{tmp_path}/list.db"
    environment = {"PYTHONPATH": _path(installed().name)}
    async with (
        facade(tmp_path, store, **environment) as asked,
        facade(tmp_path, store, MCP_DISCOVERY_WORKERS="2", **environment) as workers,
        odd("--tools", "2") as server,
        running(
            tmp_path,
            *("sidecar", "--store", store, "--url", server.url, "--id", "one"),
            **environment,
        ) as sidecar,
    ):
        entry = await asked.until_status("one", "healthy", 20)
        # The store is of this machine, so a loopback address is for everybody who reads it.
        assert entry["url"] == server.url
        await workers.until_status("one", "healthy", 20)

        report = await command(
            *("doctor", "--json", "--facade", asked.url, "--store", store),
            timeout=60,
            **environment,
        )
        assert report.code == 0, report
        assert "can be read: 1 instance" in report.out
        assert "was made and removed again" in report.out

        assert await sidecar.stop() == 0
        await asked.until_status("one", None, 20)


async def test_an_unknown_scheme_is_told_which_stores_are_installed() -> None:
    for folders, part in (
        ((), "consul://host:8500\n"),
        ((installed().name,), "tiny:///path/file.db\n"),
    ):
        ended = await command("facade", "--store", "redis://x", PYTHONPATH=_path(*folders))
        assert ended.code == 2
        assert "unknown scheme; use embedded: or " in ended.err
        assert "consul://host:8500" in ended.err
        assert ended.err.endswith(part), ended.err
    ended = await command("facade", "--store", "tiny+https://x", PYTHONPATH=_path(installed().name))
    assert (ended.code, "unknown scheme" in ended.err) == (2, True), ended


async def test_a_store_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (tmp_path / "stray.py").write_text("NUMBER = 1\n")
    lines = ("broken = no_such_module:KIND", "stray = stray:NUMBER", "consul = stray:NUMBER")
    text = "\n".join(("[mcp_discovery.stores]", *lines))
    (about / "entry_points.txt").write_text(text)
    path = _path(str(tmp_path))
    for scheme, part in (
        ("broken", "no_such_module:KIND cannot be loaded: No module named 'no_such_module'"),
        ("stray", "stray:NUMBER is no StoreKind"),
    ):
        ended = await command("facade", "--store", f"{scheme}://x", PYTHONPATH=path)
        assert (ended.code, part in ended.err) == (2, True), ended
    # A built-in store cannot be replaced.
    ended = await command("doctor", "--store", "consul://x:y", PYTHONPATH=path)
    assert "Port could not be cast" in ended.out
