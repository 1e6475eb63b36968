"""Servers of one process, as tests of agents have them."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import ConnectMode
from mcp.server import MCPServer, Server
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent
from mcp_types import Tool as McpTool

from mcp_discovery.errors import CallLostError, InvalidInputError, NoReplicaError
from mcp_discovery.testing import InProcessDiscovery, in_process
from tests.stores.waiting import bounded

ROOT = Path(__file__).parents[2]
ERAS: tuple[ConnectMode, ...] = ("auto", "legacy")


def shop(name: str = "products", *, says: str = "") -> MCPServer:
    server = MCPServer(name, version="1.2.0")

    @server.tool()
    async def search_products(query: str) -> str:
        """Searches the products of the shop."""
        return says or f"1 {query}"

    @server.tool()
    async def wait() -> str:
        """Never answers."""
        await asyncio.Event().wait()
        return ""

    @server.resource("shop://prices")
    async def prices() -> str:
        """All prices."""
        return "kettle: 20"

    return server


async def search(discovery: InProcessDiscovery, **more: Any) -> str:
    result = await discovery.call("search_products", {"query": "kettle"}, **more)
    told: str = result.content[0].text  # type: ignore[union-attr]
    return told


@pytest.mark.parametrize("mode", ERAS)
async def test_a_server_is_found_and_called(mode: ConnectMode) -> None:
    async with in_process(shop(), mode=mode, tags=["products"], zone="here") as discovery:
        assert [each.id for each in await discovery.connect(tags=["products"])] == ["products"]
        assert await discovery.servers(tags=["orders"]) == []
        record = (await discovery.servers(zone="here"))[0].record
        assert record.version == "1.2.0"
        assert record.capabilities.resources == ("prices",)
        assert record.protocol.era == ("legacy" if mode == "legacy" else "modern")
        assert await search(discovery) == "1 kettle"
        found = await discovery.find("what does the shop have")
        assert (found[0].own_name, found[0].server) == ("search_products", "products")
        async with discovery.session("products") as client:
            read = await client.read_resource("shop://prices")
            assert read.contents[0].text == "kettle: 20"  # type: ignore[union-attr]


async def test_a_low_level_server() -> None:
    async def listed(
        ctx: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        second = params is not None and params.cursor == "2"
        tool = McpTool(name="b" if second else "a", input_schema={"type": "object"})
        return ListToolsResult(tools=[tool], next_cursor=None if second else "2")

    async def called(ctx: ServerRequestContext[Any], params: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=params.name)])

    server = Server("plain", on_list_tools=listed, on_call_tool=called)
    async with in_process(server, version="3.0.0") as discovery:
        assert [each.name for each in await discovery.tools()] == ["a", "b"]
        result = await discovery.call("b")
        assert result.content[0].text == "b"  # type: ignore[union-attr]
        assert (await discovery.servers())[0].record.version == "3.0.0"


@pytest.mark.parametrize("mode", ERAS)
async def test_a_server_that_goes_down_and_comes_back(mode: ConnectMode) -> None:
    async with in_process(shop(), mode=mode) as discovery:
        one = discovery.registered["products"]
        waiting = asyncio.create_task(discovery.call("wait"))
        assert await search(discovery) == "1 kettle"
        await one.down("the disk is full")
        with pytest.raises(CallLostError):
            await bounded(waiting, 5)
        with pytest.raises(NoReplicaError, match="the disk is full"):
            await search(discovery, timeout=0.05)
        listed = (await discovery.servers(status="down"))[0]
        assert listed.health.reason == "the disk is full"
        await one.up()
        assert await search(discovery) == "1 kettle"
        await one.degraded("slow today")
        assert await search(discovery) == "1 kettle"
        await one.remove()
        assert discovery.registered == {}
        assert await discovery.servers(status="all") == []


@pytest.mark.parametrize("mode", ERAS)
async def test_what_is_drained_gets_no_more_calls_and_finishes_those_it_has(
    mode: ConnectMode,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    first = shop(says="first")

    @first.tool()
    async def slow() -> str:
        """Takes its time."""
        begun.set()
        await go_on.wait()
        return "done"

    async with in_process(first, mode=mode, tags=["products"]) as discovery:
        await discovery.connect(tags=["products"])
        under_way = asyncio.create_task(discovery.call("slow"))
        await bounded(begun.wait(), 5)
        second = await discovery.add(shop(says="second"), mode=mode, tags=["products"])
        assert second.id == "products-2"
        await discovery.registered["products"].drain()
        assert {await search(discovery) for _ in range(10)} == {"second"}
        go_on.set()
        assert not (await bounded(under_way, 5)).is_error


async def test_a_crash_that_the_list_does_not_know_of() -> None:
    async with in_process(shop(says="first"), shop(says="second")) as discovery:
        assert {await search(discovery) for _ in range(20)} == {"first", "second"}
        discovery.registered["products"].crash()
        assert [each.id for each in await discovery.servers()] == ["products", "products-2"]
        told = []
        for _ in range(20):
            with suppress(CallLostError):  # by a session that was open, once
                told.append(await search(discovery))
        assert set(told) == {"second"}
        assert len(told) >= 19


async def test_a_tool_that_came_later() -> None:
    server = shop()
    async with in_process(server) as discovery:
        changes = discovery.watch()
        assert (await anext(changes)).kind == "added"

        @server.tool()
        async def order(product: str) -> str:
            """Orders a product."""
            return f"ordered {product}"

        await discovery.registered["products"].refresh()
        changed = await bounded(anext(changes), 5)
        assert changed.kind == "changed"
        assert "order" in [each.name for each in await discovery.tools()]
        assert not (await discovery.call("order", {"product": "kettle"})).is_error
        await changes.aclose()


@pytest.mark.parametrize("mode", ERAS)
async def test_what_a_server_asks_its_client(mode: ConnectMode) -> None:
    server, steps = shop(), []

    @server.tool()
    async def count(ctx: Context[Any, Any]) -> str:
        """Reports progress."""
        for step in range(3):
            await ctx.report_progress(step, 3)
        return "counted"

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with in_process(server, mode=mode) as discovery:
        await discovery.call("count", on_progress=progress)
    assert steps == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tag": ["x"]}, "did you mean 'tags'"),
        ({"endpoint": {}}, "field 'endpoint' is none of"),
        ({"tags": ["Not A Label"]}, "not a DNS label"),
        ({"id": "products"}, "give another id"),
    ],
)
async def test_fields_that_no_record_has(fields: dict[str, Any], sentence: str) -> None:
    async with in_process(shop()) as discovery:
        with pytest.raises(InvalidInputError, match=re.escape(sentence)):
            await discovery.add(shop(), **fields)
        assert list(discovery.registered) == ["products"]
        with pytest.raises(InvalidInputError, match="no server object"):
            await discovery.add("http://127.0.0.1:1/mcp")  # type: ignore[arg-type]
        assert await search(discovery) == "1 kettle"


async def test_no_socket_and_less_than_20_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was made")

    async def once() -> float:
        began = time.perf_counter()
        async with in_process(shop(), tags=["products"]) as discovery:
            took = time.perf_counter() - began
            assert await search(discovery) == "1 kettle"
        return took

    tasks = asyncio.all_tasks()
    await once()  # what is imported at the first use
    monkeypatch.setattr(socket, "socket", no_socket)
    assert min([await once() for _ in range(20)]) < 0.02
    assert asyncio.all_tasks() == tasks


def test_the_example_of_the_page_passes(tmp_path: Path) -> None:
    page = (ROOT / "docs/testing.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_agent.py").write_text(example)
    given = ("-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider")
    ran = subprocess.run(
        (sys.executable, *given, "--rootdir", tmp_path, "test_agent.py"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout
