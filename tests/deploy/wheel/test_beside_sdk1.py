"""The wheel in the environment of a server that is written for the MCP SDK 1.x."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.wheel.environment import ROOT, Environment
from tests.programs import facade, running
from tests.stores import ports

# pip installs some twenty distributions: under load that takes its time.
pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(400)]

_SERVER = """
import sys
from mcp.server.fastmcp import FastMCP

server = FastMCP("old", host="127.0.0.1", port=int(sys.argv[1]))

@server.tool()
def find_product(query: str) -> str:
    "Finds a product by its words."
    return query

server.run(transport="streamable-http")
"""


async def test_its_sdk_stays_and_a_sidecar_starts_and_registers_it(
    wheel: Path, tmp_path: Path
) -> None:
    made = Environment.made(tmp_path / "sdk1")
    made.install("mcp", "--constraint", str(ROOT / "scripts/foreign/requirements-sdk1.txt"))
    before = made.versions()
    made.install(str(wheel))
    after = made.versions()
    assert after["mcp"].startswith("1.")
    assert {name: after[name] for name in before} == before
    made.check()

    program = tmp_path / "server.py"
    program.write_text(_SERVER)
    port = ports.draw()
    async with (
        facade(tmp_path, "embedded:") as asked,
        running(
            *(tmp_path, "sidecar", "--store", asked.url, "--name", "old", "--id", "old-1"),
            *("--url", f"http://127.0.0.1:{port.number}/mcp", "--drain", "0"),
            *("--", str(made.python), str(program), str(port.number)),
            program=made.program,
            cwd=tmp_path,
        ) as sidecar,
    ):
        entry = await asked.until_status("old-1", "healthy", 30)
        assert entry["capabilities"]["tools"] == ["find_product"], entry
        assert await sidecar.stop() == 0

    refused = made.run("-c", "from mcp_discovery import Discovery")
    assert "MissingExtraError" in refused.stderr.splitlines()[-1]
