"""A sidecar runs beside every MCP server, so it loads nothing that it does not use."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.servers.process import odd
from tests.stores import ConsulServer, EtcdServer, StoreServer

#: What no sidecar uses: packages of this project and of others, whole or in part.
NEVER = {
    *("mcp_discovery.facade", "mcp", "httpx2", "uvicorn", "starlette", "rich", "prometheus_client"),
    *("mcp_discovery.client", "mcp_discovery.cli.facade", "mcp_discovery.cli.tables"),
    *(
        "mcp_discovery.adapters.catalog",
        "mcp_discovery.query.index",
        "Stemmer",
        "mcp_discovery.adapters.embedded",
        "mcp_discovery.adapters.remote",
        "sqlite3",
    ),
    *("pydantic_settings", "jwt", "opentelemetry", "limits", "yaml"),
}
#: What it uses where it is told to: the health port, a child.
ON_DEMAND = {"aiohttp.web", "aiohttp.web_app", "ctypes"}


async def loaded(*arguments: str, until: str) -> set[str]:
    """The modules that ``mcp-discovery sidecar`` has imported when its log says ``until``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-v", "-m", "mcp_discovery.cli", "sidecar", *arguments),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    modules, said = set(), []
    try:
        async with asyncio.timeout(30):
            async for line in process.stderr:
                text = line.decode()
                if text.startswith("import '"):
                    modules.add(text.split("'")[1])
                elif not text.startswith("#"):
                    said.append(text)
                    if until in text:
                        return modules
        raise AssertionError(f"it ended: {said[-20:]}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def among(modules: set[str], names: set[str]) -> set[str]:
    """Which of ``names`` were imported, themselves or a part of them."""
    return {name for name in names for each in modules if f"{each}.".startswith(f"{name}.")}


@pytest.mark.parametrize("kind", [ConsulServer, EtcdServer])
async def test_a_sidecar_loads_what_it_uses(kind: type[StoreServer]) -> None:
    async with kind("node") as node, odd() as server:
        given = ("--store", node.store_url, "--url", server.url)
        modules = await loaded(*given, until="registered odd-")
    assert {"mcp_discovery.sidecar.run", "aiohttp", "mcp_discovery.cli.sidecar"} <= modules
    assert not among(modules, NEVER)
    assert not among(modules, ON_DEMAND)
    other = {
        ConsulServer: "mcp_discovery.adapters.etcd",
        EtcdServer: "mcp_discovery.adapters.consul",
    }[kind]
    assert not among(modules, {other})


async def test_what_is_asked_for_is_loaded() -> None:
    """The same look finds modules where they are used, so it would find the others, too."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(odd())
        given = ("--store", "consul://127.0.0.1:1", "--url", server.url, "--health-port", "0")
        child = ("--", sys.executable, "-c", "import time; time.sleep(60)")
        modules = await loaded(
            *("--advertise-url", server.url, *given, *child), until="the store is away"
        )
    assert among(modules, ON_DEMAND) == ON_DEMAND
    assert not among(modules, NEVER)
