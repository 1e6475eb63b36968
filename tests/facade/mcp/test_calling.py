"""``call_tool``: results, progress, cancellation; and that it is off unless it is wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from mcp import Client as McpClient

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.mcp.tool import OnProgress
from tests.facade.harness import Client, served
from tests.facade.mcp.wire import Legacy, enveloped, message, modern, told
from tests.servers.process import McpServer, running
from tests.stores.waiting import until

CALL = "call_tool"
MODES = ("legacy", "2026-07-28")


class Direct:
    """Calls tools of one server, over a connection for each call."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.servers: list[str | None] = []

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        server: str | None,
        timeout: float,
        on_progress: OnProgress | None,
        caller: Caller,
    ) -> Mapping[str, Any]:
        self.servers.append(server)
        if server == "nobody":
            raise InvalidInputError("no server is called 'nobody'; use 'slow'")
        told: Any = on_progress
        async with asyncio.timeout(timeout), McpClient(self._url) as client:
            result = await client.call_tool(name, dict(arguments), progress_callback=told)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.fixture(scope="module")
async def slow() -> AsyncIterator[McpServer]:
    async with running(("-m", "tests.facade.mcp.slow_server")) as server:
        yield server


@pytest.fixture
async def caller(slow: McpServer) -> Direct:
    return Direct(slow.url)


@pytest.fixture
async def ask(caller: Direct) -> AsyncIterator[Client]:
    async with served(caller=caller, mcp_call_tool=True, probe_interval=3600.0) as client:
        yield client


async def calls(slow: McpServer) -> dict[str, int]:
    """How its calls went so far."""
    async with aiohttp.ClientSession() as http, http.get(f"{slow.base_url}/calls") as response:
        found: dict[str, int] = await response.json()
        return found


async def until_more(slow: McpServer, what: str, before: dict[str, int]) -> None:
    """Waits until one more call has gone that way."""

    async def one_more() -> bool:
        return (await calls(slow))[what] == before[what] + 1

    await until(one_more, timeout=30, what=f"one more being {what}")


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_goes_through_with_its_progress(ask: Client, mode: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def on_progress(
        progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        heard.append((progress, total, message))

    async with McpClient(f"{ask.url}/mcp", mode=mode) as client:
        assert CALL in [tool.name for tool in (await client.list_tools()).tools]
        wanted = {"name": "count", "arguments": {"to": 3}}
        result = await client.call_tool(CALL, wanted, progress_callback=on_progress)
        assert not result.is_error
        assert result.structured_content == {"result": "counted to 3"}
        assert heard == [(1, 3, "at 1"), (2, 3, "at 2"), (3, 3, "at 3")]


async def test_without_a_token_there_is_one_json_answer(ask: Client) -> None:
    params = {"name": CALL, "arguments": {"name": "count", "arguments": {"to": 3}}}
    reply = await modern(ask, "tools/call", params)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.json["result"]["structuredContent"] == {"result": "counted to 3"}
    assert reply.json["result"]["resultType"] == "complete"


@pytest.mark.parametrize("mode", MODES)
async def test_what_the_tool_says_of_its_failure_is_told(ask: Client, mode: str) -> None:
    async with McpClient(f"{ask.url}/mcp", mode=mode) as client:
        result = await client.call_tool(CALL, {"name": "fail"})
        assert result.is_error
        assert "try count" in str(result.content[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "count", "server": "nobody"}, "use 'slow'"),
        ({"name": "hang", "timeout": 1}, "did not answer within 1 s; raise timeout"),
        ({"arguments": {}}, "'name' is missing"),
        ({"name": "count", "arguments": []}, "arguments must be an object, not an array"),
        ({"name": "count", "timeout": 0.5}, "from 1 to 600, not 0.5"),
        ({"tool": "count"}, "there is no argument 'tool'"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    ask: Client, arguments: dict[str, Any], words: str
) -> None:
    params = {"name": CALL, "arguments": arguments}
    # Without event streams, however long it takes.
    reply = await modern(ask, "tools/call", params, Accept="application/json")
    result = reply.json["result"]
    assert (reply.status, result["isError"]) == (200, True)
    assert words in result["content"][0]["text"]


async def test_a_call_that_says_nothing_is_kept_open(caller: Direct) -> None:
    async with served(caller=caller, mcp_call_tool=True, ping=0.2) as ask:
        params = {"name": CALL, "arguments": {"name": "hang", "timeout": 1}}
        body, headers = enveloped("tools/call", params)
        async with told(ask, "POST", body, headers) as stream:
            assert (await stream.next())["result"]["isError"] is True
            assert stream.comments > 1


async def test_the_server_that_is_named_is_asked(ask: Client, caller: Direct) -> None:
    for server in (None, "slow"):
        arguments = {"name": "count", "arguments": {"to": 1}, "server": server}
        await modern(ask, "tools/call", {"name": CALL, "arguments": arguments})
    assert caller.servers == [None, "slow"]


async def test_a_legacy_client_cancels_with_a_notification(ask: Client, slow: McpServer) -> None:
    before = await calls(slow)
    client = await Legacy.begun(ask)
    params = {"name": CALL, "arguments": {"name": "hang"}, "_meta": {"progressToken": "t"}}
    call = message("tools/call", params, id="long")
    async with told(ask, "POST", call, client.headers) as stream:
        assert await stream.next() == {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": "t", "progress": 0, "total": 1, "message": "begun"},
        }
        assert (await client.send(call)).status == 400  # the id is in use
        cancel = message("notifications/cancelled", {"requestId": "long"}, id=None)
        assert (await client.send(cancel)).status == 202
        answer = await stream.next()
        assert (answer["id"], answer["error"]["code"]) == ("long", -32800)
    await until_more(slow, "cancelled", before)


async def test_only_the_session_that_asked_can_cancel(ask: Client, slow: McpServer) -> None:
    client, other = await Legacy.begun(ask), await Legacy.begun(ask)
    params = {"name": CALL, "arguments": {"name": "hang"}, "_meta": {"progressToken": 1}}
    call = message("tools/call", params, id=7)
    async with told(ask, "POST", call, client.headers) as stream:
        await stream.next()
        cancel = message("notifications/cancelled", {"requestId": 7}, id=None)
        assert (await other.send(cancel)).status == 202
        with pytest.raises(TimeoutError):
            await stream.next(0.5)
        assert (await ask("DELETE", "/mcp", headers=client.headers)).status == 200
        assert (await stream.next())["error"]["code"] == -32800  # with its session


async def test_a_modern_client_cancels_by_leaving(ask: Client, slow: McpServer) -> None:
    before = await calls(slow)
    body, headers = enveloped(
        "tools/call", {"name": CALL, "arguments": {"name": "hang"}}, progressToken=1
    )
    async with told(ask, "POST", body, headers) as stream:
        assert (await stream.next())["method"] == "notifications/progress"
    await until_more(slow, "cancelled", before)


async def test_the_sdk_cancels_both_ways(ask: Client, slow: McpServer) -> None:
    for mode in MODES:
        before = await calls(slow)
        async with McpClient(f"{ask.url}/mcp", mode=mode) as client:
            call = asyncio.create_task(client.call_tool(CALL, {"name": "hang"}))
            await until_more(slow, "begun", before)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await until_more(slow, "cancelled", before)
            # The SDK's client breaks where the answer to what it cancelled comes while it closes.
            await client.list_tools()


async def test_a_legacy_connection_that_is_lost_means_nothing(ask: Client, slow: McpServer) -> None:
    before = await calls(slow)
    client = await Legacy.begun(ask)
    params = {"name": CALL, "arguments": {"name": "hang"}, "_meta": {"progressToken": 1}}
    async with told(ask, "POST", message("tools/call", params, id=9), client.headers) as stream:
        await stream.next()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await until_more(slow, "cancelled", before)
    cancel = message("notifications/cancelled", {"requestId": 9}, id=None)
    assert (await client.send(cancel)).status == 202
    await until_more(slow, "cancelled", before)


async def test_a_facade_that_stops_gives_calls_its_grace_and_no_more(
    caller: Direct, slow: McpServer
) -> None:
    before = await calls(slow)
    async with served(caller=caller, mcp_call_tool=True, shutdown_timeout=0.5) as ask:
        client = await Legacy.begun(ask)
        params = {"name": CALL, "arguments": {"name": "hang"}, "_meta": {"progressToken": 1}}
        call = told(ask, "POST", message("tools/call", params), client.headers)
        await (await call.__aenter__()).next()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    await until_more(slow, "cancelled", before)


@pytest.mark.parametrize("mode", MODES)
async def test_it_is_off_unless_it_is_wanted(caller: Direct, mode: str) -> None:
    async with served(caller=caller) as ask, McpClient(f"{ask.url}/mcp", mode=mode) as client:
        assert CALL not in [tool.name for tool in (await client.list_tools()).tools]
        assert "not called here" in (client.instructions or "not called here")
        with pytest.raises(Exception, match="Unknown tool: 'call_tool'"):
            await client.call_tool(CALL, {"name": "count"})


@pytest.mark.parametrize("mode", MODES)
async def test_the_facade_calls_what_is_in_its_list(slow: McpServer, mode: str) -> None:
    """From words to a result through one URL, with the client library in between."""
    async with served(mcp_call_tool=True) as ask, McpClient(f"{ask.url}/mcp", mode=mode) as client:
        body = {"id": "a", "name": "slow", "url": slow.url}
        assert (await ask("POST", "/servers", body)).status == 201
        await ask.until_status("a", "healthy")
        found = await client.call_tool("find_tools", {"q": "counts numbers"})
        (tool, *_) = (found.structured_content or {})["tools"]
        assert (tool["name"], tool["server"]) == ("count", "slow")
        heard: list[float] = []

        async def on_progress(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            heard.append(progress)

        result = await client.call_tool(
            CALL,
            {"name": tool["name"], "server": tool["server"], "arguments": {"to": 2}},
            progress_callback=on_progress,
        )
        assert result.structured_content == {"result": "counted to 2"}
        assert heard == [1, 2]
        result = await client.call_tool(CALL, {"name": "coumt"})
        assert result.is_error
        assert "count" in str(result.content[0])
