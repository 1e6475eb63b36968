"""Public servers that speak stdio alone, each behind a sidecar: listed, called, killed, upgraded.

What clients of both eras get through it is what the same client gets straight over stdio.
"""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from tests.foreign.bridged import INTERVAL, LEGACY, MODERN, Bridged, bridged, gotten, straight
from tests.foreign.stdio_servers import FILE_TEXT, STDIO_SERVERS, StdioServer, furnished, named
from tests.programs import AskedFacade, facade, running
from tests.stores.waiting import NotYet, until, until_holds

_OFTEN = [each for each in STDIO_SERVERS if each.often]


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AskedFacade]:
    async with facade(tmp_path_factory.mktemp("facade"), "embedded:") as made:
        yield made


@pytest.fixture(scope="module")
async def page() -> AsyncIterator[str]:
    """The URL of a page of text."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=FILE_TEXT)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("server", _OFTEN, ids=lambda each: each.name)
async def test_one_of_each_kind(
    server: StdioServer, asked: AskedFacade, page: str, tmp_path: Path
) -> None:
    await _as_straight_and_after_its_end(server, asked, page, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("server", STDIO_SERVERS, ids=lambda each: each.name)
async def test_every_one(
    server: StdioServer, asked: AskedFacade, page: str, tmp_path: Path
) -> None:
    await _as_straight_and_after_its_end(server, asked, page, tmp_path)


@pytest.mark.soak
async def test_all_of_them_as_one_file(asked: AskedFacade, page: str, tmp_path: Path) -> None:
    """One process serves all: it stays small, and one that is killed takes no other with it."""
    folders = {each.name: furnished(tmp_path / each.name) for each in STDIO_SERVERS}
    entries = {}
    for server in STDIO_SERVERS:
        program, *arguments = server.command(folders[server.name], page)
        entries[server.name] = {"command": program, "args": arguments}
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": entries}))
    given = ("--store", asked.url, "--servers", str(file), "--drain", "0", "--ttl", "20")
    async with running(tmp_path, "sidecar", *given) as sidecar:

        async def offered() -> dict[str, str]:
            found = (await asked.servers("status=healthy")).values()
            urls = {each["name"]: each["url"] for each in found if each["name"] in entries}
            if missing := entries.keys() - urls.keys():
                raise NotYet(missing)
            return urls

        urls = await until(offered, timeout=120, what="all offered")
        process = psutil.Process(sidecar.pid)
        for number, server in enumerate(STDIO_SERVERS):
            call = server.call(folders[server.name], page)
            mode = MODERN if number % 2 else LEGACY
            assert (await gotten(urls[server.name], mode, server, call)).tools
        assert process.memory_info().rss < 90 * 2**20
        first, *others = process.children()
        first.kill()
        await until_holds(lambda: len(process.children()) < len(entries), timeout=5, what="its end")
        await until_holds(lambda: len(process.children()) == len(entries), timeout=5, what="anew")
        assert set(others) < set(process.children())
        await until(offered, timeout=60, what="all offered again")
        children = process.children()
        assert await sidecar.stop() == 0
        assert not [each for each in children if each.is_running()]


async def _as_straight_and_after_its_end(
    server: StdioServer, asked: AskedFacade, page: str, tmp_path: Path
) -> None:
    folder = furnished(tmp_path / "own")
    command, arguments = server.command(folder, page), server.call(folder, page)
    expected = await gotten(straight(command), LEGACY, server, arguments)
    modern = expected
    if server.modern:
        modern = await gotten(straight(command), MODERN, server, arguments)
    async with bridged(tmp_path, asked, server.name, command) as it:
        entry = await it.is_well()
        assert entry["capabilities"]["tools"] == expected.tools
        assert await gotten(entry["url"], LEGACY, server, arguments) == expected
        assert await gotten(entry["url"], MODERN, server, arguments) == modern
        await _killed_and_back(it, asked)
        assert await gotten(entry["url"], MODERN, server, arguments) == modern
        assert (await it.is_well())["capabilities"]["tools"] == expected.tools
        processes = it.children()
        assert await it.sidecar.stop() == 0, it.sidecar.log
        assert not [each for each in processes if each.is_running()]
    await asked.until_status(server.name, None, timeout=10)


async def _killed_and_back(it: Bridged, asked: AskedFacade) -> None:
    """SIGKILL for its only process: it is shown as down, with the reason, and then well again."""
    await until_holds(lambda: len(it.children()) == 1, timeout=10, what="one process")
    (child,) = it.children()
    child.send_signal(signal.SIGKILL)
    down = await asked.until_status(it.id, "down", timeout=2 * INTERVAL)
    assert "SIGKILL" in down["reason"], down
    await it.is_well()
    (again,) = it.children()
    assert again.pid != child.pid


@pytest.mark.parametrize(
    ("before", "after", "tool"),
    [("filesystem-before", "filesystem", "read_media_file"), ("time-before", "time", "")],
)
async def test_upgraded(
    before: str, after: str, tool: str, asked: AskedFacade, page: str, tmp_path: Path
) -> None:
    """Another version behind the same command shows what it offers once it was started again, in
    the second case in another era."""
    folder, program = furnished(tmp_path / "own"), tmp_path / "program"

    def install(server: StdioServer) -> None:
        words = shlex.join(server.command(folder, page))
        fresh = tmp_path / "fresh"
        fresh.write_text(f"#!/bin/sh\nexec {words}\n")
        fresh.chmod(0o755)
        fresh.rename(program)

    async def offered(it: Bridged, server: StdioServer) -> bool:
        """Whether its tools are listed, and called, as it has them straight."""
        command, arguments = server.command(folder, page), server.call(folder, page)
        mode = MODERN if server.modern else LEGACY
        expected = await gotten(straight(command), mode, server, arguments)
        entry = await it.is_well()
        if entry["capabilities"]["tools"] != expected.tools:
            return False
        return await gotten(entry["url"], mode, server, arguments) == expected

    install(named(before))
    async with bridged(tmp_path, asked, f"{after}-upgraded", [str(program)]) as it:
        assert await offered(it, named(before))
        entry = await it.is_well()
        assert tool not in entry["capabilities"]["tools"]
        install(named(after))
        it.children()[0].terminate()

        async def changed() -> bool:
            now = await it.is_well()
            return now["version"] != entry["version"] or tool in now["capabilities"]["tools"]

        await until(changed, timeout=30, what=f"{after} being listed")
        assert await offered(it, named(after))
