"""A facade with real servers in it, for the tests of the commands that ask it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import ENVIRONMENT, ROOT, AskedFacade, Ended, command, facade
from tests.servers.process import McpServer, odd, running

INTERACTIVE_SERVER = ("-m", "tests.mcp_discovery.cli.interactive_server")


@dataclass(frozen=True)
class Cluster:
    """A facade, a talkative server with two instances of one URL, and an odd one."""

    facade: AskedFacade
    interactive_server: McpServer
    odd: McpServer

    async def ask(self, *arguments: str, timeout: float = 30, **environment: str) -> Ended:
        """Runs the command against the facade."""
        told = {"MCP_DISCOVERY_FACADE": self.facade.url} | environment
        return await command(*arguments, timeout=timeout, **told)

    async def asked(self, *arguments: str) -> list[Any]:
        """The JSON lines that the command answers with ``--json``."""
        ended = await self.ask(*arguments, "--json")
        assert ended.code == 0, ended
        return [json.loads(line) for line in ended.out.splitlines()]


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster with everybody registered and healthy."""
    async with (
        facade(folder, "embedded:") as asked,
        running(INTERACTIVE_SERVER) as interactive_server,
        odd("--tools", "2", "--skills", "2") as other,
    ):
        servers = [
            {
                "id": "talker-1",
                "name": "talker",
                "url": interactive_server.url,
                "tags": ["talk", "one"],
            },
            {
                "id": "talker-2",
                "name": "talker",
                "url": interactive_server.url,
                "tags": ["talk", "two"],
            },
            {
                "id": "odd-1",
                "name": "odd",
                "url": other.url,
                "tags": ["strange"],
                "zone": "attic",
                "owner": "nobody",
                "description": "See \x1b[31mred\x1b[0m \x9b5m and \u202ebackwards",
            },
        ]
        file = folder / "cluster.json"
        file.write_text(json.dumps(servers))
        ended = await command("register", str(file), "--facade", asked.url)
        assert ended.code == 0, ended
        for each in servers:
            await asked.until_status(str(each["id"]), "healthy", 15)
        yield Cluster(asked, interactive_server, other)


async def on_terminal(
    *arguments: str, environment: Mapping[str, str], columns: int = 80, types: str = ""
) -> str:
    """What the command shows on a terminal on which ``types`` is typed; it has to end well."""
    return await asyncio.to_thread(_on_terminal, arguments, columns, environment, types)


def _on_terminal(
    arguments: tuple[str, ...], columns: int, environment: Mapping[str, str], types: str
) -> str:
    ours, theirs = pty.openpty()
    told = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
    usual = {key: value for key, value in ENVIRONMENT.items() if key not in ("NO_COLOR", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mcp_discovery.cli", *arguments],
        cwd=ROOT,
        env={**usual, **told, **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, types.encode())
    shown = bytearray()
    try:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # what Linux says when the last process has closed its end
                break
            if not part:
                break
            shown += part
        assert process.wait(30) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown.decode()
