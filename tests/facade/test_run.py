"""Serving until told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import aiohttp
import pytest

from mcp_discovery.adapters.embedded import EmbeddedStore
from mcp_discovery.facade import ListenError, create_app, run, serving
from tests.programs import ROOT
from tests.stores.waiting import bounded


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mcp_discovery.facade")
    listening = asyncio.get_running_loop().create_future()
    async with EmbeddedStore() as store, aiohttp.ClientSession() as session:
        facade = asyncio.create_task(run(store, "127.0.0.1", 0, ready=listening.set_result))
        url = await bounded(listening, 5)
        async with session.get(f"{url}/health") as response:
            assert response.status == 200
        async with session.get(f"{url}/events") as stream:
            await stream.content.readuntil(b"\n\n")
            os.kill(os.getpid(), number)
            assert await bounded(facade, 3) == 0
    assert f"listening on {url} (store embedded:)" in caplog.text


async def test_a_port_in_use_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with EmbeddedStore() as store:
            with pytest.raises(ListenError) as caught:
                await run(store, "127.0.0.1", port)
            assert str(caught.value) == (
                f"127.0.0.1:{port} is in use; stop what listens there, or choose another port"
            )
            with pytest.raises(ListenError, match=r"^cannot listen on 192\.0\.2\.1:0: "):
                await run(store, "192.0.2.1", 0)


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    async with EmbeddedStore() as store, serving(create_app(store), "127.0.0.1", 0) as url:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as answer:
            assert answer.status == 200
        assert asyncio.all_tasks() - before
    assert not asyncio.all_tasks() - before


async def test_it_allows_itself_as_many_connections_as_the_system_does() -> None:
    """In a process of its own: a limit once lowered cannot always be raised again."""
    script = (
        "import resource as r\n"
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE)\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, hard))\n"
        "from mcp_discovery.facade.run import allow_many_connections\n"
        "allowed = allow_many_connections()\n"
        "assert allowed == r.getrlimit(r.RLIMIT_NOFILE)[0] > 256, allowed\n"
        "assert allow_many_connections() == allowed\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=ROOT)
    assert await bounded(process.wait(), 20) == 0
