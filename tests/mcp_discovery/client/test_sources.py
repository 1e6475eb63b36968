"""The same client over a facade and over stores, by every transport, with credentials."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mcp import Client

from mcp_discovery import Credentials, Discovery
from mcp_discovery.adapters import open_store
from mcp_discovery.document import CapabilityDocument
from mcp_discovery.errors import (
    CallLostError,
    NoReplicaError,
    ServerRefusedError,
    StoreDeniedError,
    StoreUnavailableError,
)
from mcp_discovery.record import Record
from tests.mcp_discovery.client.cluster import TTL, cluster
from tests.programs import ROOT, facade, running
from tests.servers.process import McpServer, odd
from tests.stores import ConsulServer, EtcdServer
from tests.stores.waiting import until


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[McpServer]:
    """A server without a sidecar."""
    server = McpServer(("-m", "tests.servers.counting"), tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.close()


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_over_a_store_without_a_facade(
    kind: str, counting: McpServer, tmp_path: Path
) -> None:
    async with ConsulServer() if kind == "consul" else EtcdServer() as store:
        given = ("--url", counting.url, "--id", "a", "--name", "counting", "--tag", "tests")
        times = ("--ttl", f"{TTL:g}", "--drain", "0.5")
        async with (
            running(tmp_path, "sidecar", "--store", store.store_url, *given, *times) as sidecar,
            Discovery(store.store_url) as discovery,
        ):

            async def listed() -> bool:
                return bool(await discovery.connect("tests"))

            await until(listed, timeout=20, what="the server being listed")
            result = await discovery.call("read", {"key": "x"})
            assert not result.is_error
            assert [each.id for each in await discovery.servers("tests")] == ["a"]
            await store.kill()

            async def stale() -> bool:
                return discovery.stale_since is not None

            await until(stale, timeout=30, what="the list being stale")
            assert not (await discovery.call("read", {"key": "y"})).is_error
            await store.start()

            async def fresh() -> bool:
                return discovery.stale_since is None

            await until(fresh, timeout=30, what="the list being fresh again")
            await sidecar.stop()

            async def gone() -> bool:
                return not await discovery.servers("tests", status="all")

            await until(gone, timeout=15, what="the server being gone")


async def test_over_an_embedded_file(counting: McpServer, tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}/list.db"
    async with open_store(url) as store:
        endpoint = {"transport": "streamable-http", "url": counting.url}
        record = Record.parse({"id": "a", "name": "counting", "endpoint": endpoint})
        await store.register(record, CapabilityDocument(), ttl=30, reap_after=60)
    async with Discovery(url) as discovery:
        (found,) = await discovery.connect()
        assert found.id == "a"
        # Its document lists nothing, and so nothing is offered.
        assert await discovery.tools() == []


async def test_a_store_that_is_away_at_the_start() -> None:
    for url in ("consul://127.0.0.1:9", "etcd://127.0.0.1:9"):
        with pytest.raises(StoreUnavailableError):
            async with asyncio.timeout(30), Discovery(url):
                pass


async def test_what_was_posted_without_a_path_is_called_where_it_speaks(
    counting: McpServer, tmp_path: Path
) -> None:
    async with facade(tmp_path, "embedded:") as asked:
        entry = {"id": "a", "name": "counting", "url": counting.base_url}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{asked.url}/servers", json=entry) as response,
        ):
            assert response.status == 201
        await asked.until_status("a", "healthy", 10)
        async with Discovery(asked.url) as discovery:
            assert not (await discovery.call("read", {"key": "x"})).is_error


async def test_over_http_and_sse(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        server = await place.add("a", "--transport", "sse")
        await place.add("b", "--transport", "sse")
        async with Discovery(place.url) as discovery:
            assert not (await discovery.call("read", {"key": "x"}, server="a")).is_error
            await server.restart("--transport", "sse")
            assert not (await discovery.call("read", {"key": "y"}, server="a")).is_error
            await server.kill()
            assert not (await discovery.call("read", {"key": "z"})).is_error


async def test_over_a_websocket(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as asked, odd("--era", "legacy") as server:
        url = server.base_url.replace("http", "ws") + "/ws"
        given = ("--url", url, "--transport", "websocket", "--id", "a", "--name", "odd")
        async with running(tmp_path, "sidecar", "--store", asked.url, *given):
            await asked.until_status("a", "healthy", 20)
            async with Discovery(asked.url) as discovery:
                (tool, *_) = await discovery.tools()
                assert not (await discovery.call(tool, {})).is_error


async def test_a_command_is_started_only_where_its_name_was_allowed(tmp_path: Path) -> None:
    async with facade(tmp_path, "embedded:") as asked:
        args = ["-m", "tests.servers.counting", "--stdio", "--schema", "${COUNTING_SCHEMA}"]
        endpoint = {"command": sys.executable, "args": args}
        offered = [{"name": "write", "kind": "tool", "schema": {"type": "object"}}]
        entry = {
            "id": "local",
            "name": "local",
            "protocol": "stdio",
            "endpoint": endpoint,
            "capabilities": offered,
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{asked.url}/connections", json=entry) as response,
        ):
            assert response.status == 201, await response.text()
        async with Discovery(asked.url, patience=0.2) as discovery:
            with pytest.raises(NoReplicaError, match="allow it by its server's name"):
                await discovery.call("write", {"key": "x"})
        async with Discovery(asked.url, allow_stdio=["local"], patience=0.2) as discovery:
            with pytest.raises(NoReplicaError, match=r"\$\{COUNTING_SCHEMA\}, which is not set"):
                await discovery.call("write", {"key": "x"})
        environment = {"COUNTING_SCHEMA": "2", "PYTHONPATH": str(ROOT)}
        async with Discovery(
            asked.url, allow_stdio=["local"], environment=environment
        ) as discovery:
            result = await discovery.call("write", {"key": "x"})
            assert result.structured_content is not None
            pid = result.structured_content["pid"]
            assert result.structured_content["schema"] == 2
            assert pid != os.getpid()
            os.kill(pid, signal.SIGKILL)

            async def anew() -> int:
                try:  # until its end is noticed, a call may be given to the dead
                    result = await discovery.call("write", {"key": "y"})
                except CallLostError:
                    return 0
                assert result.structured_content is not None
                return int(result.structured_content["pid"])

            before, pid = pid, await until(anew, timeout=10, what="its being started anew")
            assert pid != before

        async def ended() -> bool:
            return not Path(f"/proc/{pid}").exists()

        await until(ended, timeout=10, what="the command's end")


async def test_credentials_go_to_the_server_they_are_for(tmp_path: Path) -> None:
    async with (
        facade(tmp_path, "embedded:") as asked,
        odd("--token", "sesame-opens-this") as server,
        odd() as other,
    ):
        environment = {"MCP_DISCOVERY_SERVER_TOKEN": "sesame-opens-this"}
        one = ("--url", server.url, "--id", "closed", "--name", "closed")
        two = ("--url", other.url, "--id", "open", "--name", "open")
        store = ("--store", asked.url)
        async with (
            running(tmp_path, "sidecar", *store, *one, **environment),
            running(tmp_path, "sidecar", *store, *two),
        ):
            await asked.until_status("closed", "healthy", 20)
            await asked.until_status("open", "healthy", 20)
            async with Discovery(asked.url) as discovery:
                tools = [tool for tool in await discovery.tools() if tool.server == "closed"]
                with pytest.raises(ServerRefusedError, match="see the auth option"):
                    await discovery.call(tools[0], {})
            auth = {"closed": Credentials("sesame-opens-this", server.url)}
            async with Discovery(asked.url, auth=auth) as discovery:
                for tool in await discovery.tools():
                    assert not (await discovery.call(tool, {})).is_error
            file = tmp_path / "token"
            file.write_text("sesame-opens-this\n")
            auth = {"closed": Credentials(file, server.url)}
            async with Discovery(
                asked.url, auth={"closed": Credentials(file, server.url)}
            ) as discovery:
                tools = [tool for tool in await discovery.tools() if tool.server == "closed"]
                assert not (await discovery.call(tools[0], {})).is_error
                await server.control(token="open-sesame")
                file.write_text("open-sesame\n")
                assert not (await discovery.call(tools[0], {})).is_error


async def test_a_facades_token_is_rotated(tmp_path: Path) -> None:
    """The proxy before a facade wants a token, and another one after a while."""
    wanted = ["first"]
    async with facade(tmp_path, "embedded:") as asked, aiohttp.ClientSession() as http:

        async def pass_on(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != f"Bearer {wanted[0]}":
                return web.Response(status=401)
            async with http.get(f"{asked.url}{request.path_qs}") as answer:
                return web.Response(body=await answer.read(), content_type=answer.content_type)

        app = web.Application()
        app.router.add_get("/servers", pass_on)
        async with TestServer(app) as proxy:
            url = str(proxy.make_url("/"))
            file = tmp_path / "token"
            file.write_text("first\n")
            async with Discovery(url, token_file=str(file), report=False) as discovery:
                assert await discovery.servers() == []
                wanted[0] = "other"
                file.write_text("other\n")
                assert await discovery.servers() == []
            with pytest.raises(StoreDeniedError):
                async with Discovery(url, token="first", report=False) as discovery:
                    await discovery.servers()


# -- what it costs, and what is imported -------------------------------------------------------


async def test_it_is_about_as_fast_as_the_sdk_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path) as place:
        server = await place.add("a")
        first: dict[str, list[float]] = {"sdk": [], "ours": []}
        warm: dict[str, list[float]] = {"sdk": [], "ours": []}
        for _ in range(15):
            began = time.perf_counter()
            async with Client(server.url) as client:
                await client.list_tools()
                await client.call_tool("read", {"key": "x"})
                first["sdk"].append(time.perf_counter() - began)
            began = time.perf_counter()
            async with Discovery(place.url) as discovery:
                await discovery.call("read", {"key": "x"})
                first["ours"].append(time.perf_counter() - began)
        async with Client(server.url) as client, Discovery(place.url) as discovery:
            await client.list_tools()
            await discovery.call("read", {"key": "x"})
            for _ in range(150):
                began = time.perf_counter()
                await client.call_tool("read", {"key": "x"})
                warm["sdk"].append(time.perf_counter() - began)
                began = time.perf_counter()
                await discovery.call("read", {"key": "x"})
                warm["ours"].append(time.perf_counter() - began)
    # Wide margins over what is measured (0.4 and 1.05): a collapse is meant, not noise.
    assert statistics.median(first["ours"]) < 1.5 * statistics.median(first["sdk"])
    assert statistics.median(warm["ours"]) < 1.4 * statistics.median(warm["sdk"])


def test_only_what_is_used_is_imported(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("raise ImportError('not yours')")
    program = (
        "import sys, mcp_discovery\n"
        "assert not {'mcp', 'aiohttp', 'adapters', 'mcp_discovery.adapters'} & set(sys.modules)\n"
        "from mcp_discovery import Discovery\n"
        "d = Discovery('http://127.0.0.1:9')\n"
        "assert not {'aiohttp', 'adapters', 'mcp_discovery.adapters'} & {*sys.modules}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
