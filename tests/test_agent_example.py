"""The agent in examples/agent.py, with its script: real servers, a real facade, no key."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_discovery.ask import PROVIDERS
from tests.facade.harness import served
from tests.servers.process import example
from tests.stores.waiting import bounded

QUESTION = "Can a kettle be shipped today?"


@pytest.fixture(scope="module")
async def facade() -> AsyncIterator[str]:
    """A facade that knows both example servers."""
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(served())
        for name, tag in (("product_catalog", "products"), ("analytics", "figures")):
            server = await stack.enter_async_context(example(name))
            body = {"id": f"{tag}-1", "name": tag, "tags": [tag], "url": server.url}
            reply = await ask("POST", "/servers", body)
            assert reply.status in (200, 201), reply.body
            await ask.until_status(f"{tag}-1", "healthy")
        yield ask.url


async def command(*arguments: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error."""
    keys = {name for each in PROVIDERS.values() for name in each.variables}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "examples/agent.py", *arguments),
        cwd=Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if name not in keys},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await bounded(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


async def test_the_command(facade: str) -> None:
    code, out, err = await command("--scripted", "--facade", facade, QUESTION)
    assert (code, err) == (0, "")
    assert '"KET-100"' in out and '"available"' in out and '"views"' in out
    assert "search_products (of products): " in out  # it was found
    code, out, err = await command("--scripted", "--facade", "http://127.0.0.1:1", QUESTION)
    assert (code, out) == (1, "")
    assert err.startswith("agent: ") and err.count("\n") == 1
    code, out, err = await command("--facade", facade, QUESTION)
    assert (code, out) == (1, "") and "set OPENAI_API_KEY" in err
    code, out, err = await command("--help")
    assert code == 0 and "needs no key" in out
