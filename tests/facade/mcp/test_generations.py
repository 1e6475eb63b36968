"""Clients written with either generation of the MCP SDK, as processes of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.facade.harness import Client, leased
from tests.facade.mcp.client_program import CHANGED, LIST, UPDATED, WATCHED
from tests.foreign.programs import SDK1
from tests.stores.waiting import bounded

PROGRAM = Path(__file__).with_name("client_program.py")
FIND = {
    "name": "find_product",
    "description": "Finds a product by its words.",
    "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}},
}


@asynccontextmanager
async def program(url: str, mode: str) -> AsyncIterator[asyncio.StreamReader]:
    """The client as a process, and what it says."""
    python = str(SDK1) if mode == "1.x" else sys.executable
    assert Path(python).exists(), "the MCP SDK 1.x is not there; run make stores"
    process = await asyncio.create_subprocess_exec(
        str(python), str(PROGRAM), url, mode, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process.stdout
        assert await bounded(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def lines(out: asyncio.StreamReader, until: str) -> dict[str, Any]:
    """What the program says, up to and with the line ``until``; what it heard is a list."""
    told: dict[str, Any] = {"heard": []}
    while until not in told:
        async with asyncio.timeout(30):
            line = json.loads(await out.readline() or b'{"what": "end"}')
        assert line["what"] != "end", f"it ended early, after {told}"
        if line["what"] == "heard":
            told["heard"].append(tuple(line["value"]))
        else:
            told[line["what"]] = line["value"]
    return told


@pytest.mark.parametrize(
    ("mode", "version"),
    [
        ("1.x", "2025-11-25"),
        ("legacy", "2025-11-25"),
        ("auto", "2026-07-28"),
        ("2026-07-28", "2026-07-28"),
    ],
)
async def test_a_client_finds_reads_subscribes_and_hears(
    ask: Client, mode: str, version: str
) -> None:
    posted = leased("a", document={"tools": [FIND]}, tags=["shop"])
    assert (await ask("POST", "/servers", posted)).status == 201
    async with program(f"{ask.url}/mcp", mode) as out:
        told = await lines(out, "ready")
        assert told["version"] == version
        # Whoever names the version does not ask who the server is.
        assert told["server"] == (None if mode == version else "mcp-discovery")
        assert told.get("session", True)
        assert told["tools"] == ["find_servers", "find_tools", "describe_tool"]
        assert told["found"]["matched"] == 1
        assert told["found"]["tools"] == [
            {
                "name": "find_product",
                "server": "products",
                "why": "matched: product (name); 1 of 1 word",
                "description": FIND["description"],
                "inputSchema": FIND["inputSchema"],
            }
        ]
        assert told["resources"][:2] == [LIST, f"{LIST}/a"]
        assert [each["id"] for each in json.loads(told["read"])["servers"]] == ["a"]
        assert (await ask("POST", "/servers", leased("watched"))).status == 201
        told = await lines(out, "closed")
        assert set(told["heard"]) == {(UPDATED, WATCHED), (CHANGED, None)}
