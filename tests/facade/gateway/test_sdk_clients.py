"""The SDK's own clients through the gateway, in both eras."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest
from mcp import Client as McpClient
from mcp import MCPError
from mcp.client.client import ConnectMode

from tests.facade.gateway.conftest import list_it, replicas, seen
from tests.facade.harness import Client
from tests.servers.process import McpServer, sdk
from tests.stores.waiting import bounded, until

ERAS: tuple[ConnectMode, ...] = ("auto", "legacy")


async def who(mcp: McpClient) -> str:
    result = await mcp.call_tool("whoami", {})
    assert not result.is_error
    told: str = result.content[0].text  # type: ignore[union-attr]
    return told


@pytest.mark.parametrize("mode", ERAS)
async def test_tools_are_listed_and_called(gate: Client, mode: ConnectMode) -> None:
    async with replicas(gate, "a"), McpClient(f"{gate.url}/gateway/gate/mcp", mode=mode) as mcp:
        assert "whoami" in [each.name for each in (await mcp.list_tools()).tools]
        assert await who(mcp) == "a"
        text = "ü" * 150_000  # larger than what is kept to be sent again
        result = await mcp.call_tool("echo", {"text": text})
        assert result.content[0].text == text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_comes_as_it_is_made(gate: Client, mode: ConnectMode) -> None:
    told: list[float] = []
    at: list[float] = []
    clock = asyncio.get_running_loop().time

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)
        at.append(clock())

    async with replicas(gate, "a"), McpClient(f"{gate.url}/gateway/gate/mcp", mode=mode) as mcp:
        await mcp.call_tool("steps", {"count": 4, "pause": 0.2}, progress_callback=progress)
        ended = clock()
    assert told == [1, 2, 3, 4]
    # Each when it was made: the first long before the answer, and not all at once.
    assert ended - at[0] > 0.6
    assert all(later - earlier > 0.1 for earlier, later in pairwise(at))


async def _hanging(server: McpServer, key: str) -> None:
    async def so_far() -> bool:
        return key in (await seen(server))["counts"]

    await until(so_far, timeout=5, what=f"the call being {key}")


@pytest.mark.parametrize("mode", ERAS)
async def test_a_cancelled_call_is_cancelled_at_the_server(gate: Client, mode: ConnectMode) -> None:
    url = f"{gate.url}/gateway/gate/mcp"
    async with replicas(gate, "a") as servers, McpClient(url, mode=mode) as mcp:
        call = asyncio.create_task(mcp.call_tool("hang", {}))
        await _hanging(servers["a"], "hanging")
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await _hanging(servers["a"], "cancelled")
        assert await who(mcp) == "a"


async def test_modern_calls_outlive_a_replica(gate: Client) -> None:
    url = f"{gate.url}/gateway/gate/mcp"
    async with replicas(gate, "a", "b") as servers, McpClient(url) as mcp:
        assert {await who(mcp) for _ in range(40)} == {"a", "b"}
        await servers["a"].kill()
        # Listed as healthy all the while: nothing was sent to it, so another one is asked.
        assert {await who(mcp) for _ in range(20)} == {"b"}


async def test_a_legacy_session_stays_with_its_replica(gate: Client) -> None:
    url = f"{gate.url}/gateway/gate/mcp"
    async with replicas(gate, "a", "b") as servers:
        mcp = McpClient(url, mode="legacy")
        async with mcp:
            mine = await who(mcp)
            assert {await who(mcp) for _ in range(20)} == {mine}
            await gate("POST", f"/servers/{mine}/drain")
            assert await who(mcp) == mine  # what has begun there goes on
            async with McpClient(url, mode="legacy") as another:
                assert await who(another) == ({"a", "b"} - {mine}).pop()
            await servers[mine].kill()
            with pytest.raises(MCPError, match="cannot be reached now"):
                await who(mcp)
            assert (await gate("DELETE", f"/servers/{mine}")).status == 204
            with pytest.raises(MCPError, match="the session is over"):
                await who(mcp)


@pytest.mark.parametrize("mode", ERAS)
async def test_a_replica_that_dies_in_the_middle_of_a_call(gate: Client, mode: ConnectMode) -> None:
    begun = asyncio.Event()

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        begun.set()

    url = f"{gate.url}/gateway/gate/mcp"
    async with replicas(gate, "a") as servers, McpClient(url, mode=mode) as mcp:
        steps = {"count": 1000, "pause": 0.05}
        call = asyncio.create_task(mcp.call_tool("steps", steps, progress_callback=progress))
        await bounded(begun.wait(), 5)
        await servers["a"].kill()
        with pytest.raises(MCPError):
            await bounded(call, 20)


async def test_what_a_server_tells_its_listeners(gate: Client) -> None:
    async with sdk("--tools", "1") as server:
        await list_it(gate, "a", server.url)
        async with (
            McpClient(f"{gate.url}/gateway/gate/mcp") as mcp,
            mcp.listen(tools_list_changed=True) as changes,
        ):
            await server.offer_tools(2, notify=True)
            async with asyncio.timeout(5):
                async for _ in changes:
                    break
            assert len((await mcp.list_tools()).tools) == 2


async def test_fifty_at_once(gate: Client) -> None:
    url = f"{gate.url}/gateway/gate/mcp"
    async with replicas(gate, "a", "b") as servers, McpClient(url) as mcp:

        async def call(number: int) -> None:
            text = f"{number}-" * 2000
            result = await mcp.call_tool("echo", {"text": text})
            assert result.content[0].text == text  # type: ignore[union-attr]

        await asyncio.gather(*(call(number) for number in range(50)))
        counts = [(await seen(each))["counts"]["POST"] for each in servers.values()]
        assert min(counts) >= 15, counts
