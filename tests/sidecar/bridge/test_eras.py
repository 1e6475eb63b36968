"""What crosses from one era to the other, by the SDK's client in both modes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode

from tests.sidecar.bridge.served import called, served
from tests.stores.waiting import bounded, until

pytestmark = pytest.mark.slow

ONE_ERA = (sys.executable, "-m", "tests.sidecar.bridge.one_era_server")
LEGACY, MODERN = (*ONE_ERA, "legacy"), (*ONE_ERA, "modern")
ERAS = ("legacy", "modern")
MODES: tuple[ConnectMode, ...] = ("auto", "legacy")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
async def test_what_both_eras_have(era: str, mode: ConnectMode) -> None:
    steps: list[float] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with served(*ONE_ERA, era) as one, Client(one.url, mode=mode) as client:
        assert client.server_info is not None and client.server_info.name == "one-era"
        assert client.instructions == "Be brief."
        capabilities = client.server_capabilities
        assert capabilities.resources is not None and capabilities.resources.subscribe
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"log", "array"}
        assert [each.uri for each in (await client.list_resources()).resources] == ["memo://a"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [each.uri_template for each in templates] == ["memo://{x}"]
        read = await client.read_resource("memo://a")
        assert read.contents[0].text == "hello"  # type: ignore[union-attr]
        assert [each.name for each in (await client.list_prompts()).prompts] == ["greet"]
        prompt = await client.get_prompt("greet", {"whom": "Ann"})
        assert prompt.messages[0].content.text == "Greet Ann"  # type: ignore[union-attr]
        await client.call_tool("steps", {"count": 3}, progress_callback=progress)
        assert steps == [1, 2, 3]
        array = await client.call_tool("array", {})
        if era == "modern" and mode == "auto":
            assert array.structured_content == [1, 2]
        elif era == "modern":
            assert (array.structured_content, array.content[0].text) == (None, "[1,2]")  # type: ignore[union-attr]
        with pytest.raises(MCPError) as error:
            await client.call_tool("fail", {})
        assert (error.value.error.code, error.value.error.data) == (-32050, {"why": "own"})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
async def test_the_code_for_a_resource_that_is_not_there(era: str, mode: ConnectMode) -> None:
    async with served(*ONE_ERA, era) as one, Client(one.url, mode=mode) as client:
        with pytest.raises(MCPError) as error:
            await client.read_resource("memo://none")
        assert error.value.error.code == (-32602 if mode == "auto" else -32002)
        assert error.value.error.data == {"uri": "memo://none"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_call_is_cancelled_at_the_process(era: str, mode: ConnectMode) -> None:
    async with served(*ONE_ERA, era) as one, Client(one.url, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("hang", {}))

        async def received() -> bool:
            return '"hang"' in str(await called(client, "seen")).replace("'", '"')

        async def cancelled() -> bool:
            return "notifications/cancelled" in str(await called(client, "seen"))

        await until(received, timeout=5, what="the call having come")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(cancelled, timeout=5, what="the cancellation at the process")


@pytest.mark.parametrize("era", ERAS)
async def test_a_modern_client_listens(era: str) -> None:
    async with (
        served(*ONE_ERA, era) as one,
        Client(one.url) as client,
        client.listen(tools_list_changed=True, resource_subscriptions=["memo://a"]) as lists,
        client.listen(resource_subscriptions=["memo://a", "memo://b"]) as both,
    ):
        assert lists.honored.tools_list_changed
        assert both.honored.resource_subscriptions == ["memo://a", "memo://b"]
        await client.call_tool("change", {})
        assert type(await bounded(anext(lists), 5)).__name__ == "ToolsListChanged"
        for uri, heard in (("memo://b", (both,)), ("memo://a", (lists, both))):
            await client.call_tool("touch", {"uri": uri})
            for each in heard:
                event = await bounded(anext(each), 5)
                assert event.uri == uri  # type: ignore[union-attr]


async def test_a_resource_is_watched_once_and_until_the_last_client_leaves() -> None:
    def asked(seen: Any) -> list[str]:
        return [method for method, _ in seen if "subscribe" in method]

    async with served(*LEGACY) as one, Client(one.url) as client:
        async with client.listen(resource_subscriptions=["memo://a"]):
            async with Client(one.url, mode="legacy") as other:
                await other.subscribe_resource("memo://a")
            assert asked(await called(client, "seen")) == ["resources/subscribe"]

        async def left() -> bool:
            return asked(await called(client, "seen")) == [
                "resources/subscribe",
                "resources/unsubscribe",
            ]

        await until(left, timeout=5, what="the process being asked no more")


async def test_what_a_process_was_asked_is_asked_of_the_next_one() -> None:
    changes: list[Any] = []

    async def handler(message: Any) -> None:
        changes.append(message)

    for era in ERAS:
        changes.clear()
        async with (
            served(*ONE_ERA, era) as one,
            Client(one.url, mode="legacy", message_handler=handler) as client,
        ):
            await client.subscribe_resource("memo://a")
            one.bridge.signal(9)

            async def another() -> bool:
                return one.bridge.restarts == 1 and one.bridge.why_not is None

            await until(another, timeout=10, what="another process")

            async def told() -> bool:
                await client.call_tool("touch", {"uri": "memo://a"})
                return any("updated" in str(type(each)).lower() for each in changes)

            await until(told, timeout=10, what="the resource's change")
            assert any("ToolListChanged" in str(type(each)) for each in changes)


@pytest.mark.parametrize("era", ERAS)
async def test_messages_of_the_log_come_by_their_level(era: str) -> None:
    said: list[str] = []

    async def logged(params: Any) -> None:
        said.append(f"{params.level}: {params.data}")

    async with served(*ONE_ERA, era) as one:
        async with Client(one.url, mode="legacy", logging_callback=logged) as client:
            await client.set_logging_level("warning")
            await client.call_tool("log", {"level": "info", "text": "not this"})
            await client.call_tool("log", {"level": "error", "text": "this"})
            assert said == ["error: this"]
        said.clear()
        async with Client(one.url, logging_callback=logged, log_level="notice") as client:
            await client.call_tool("log", {"level": "info", "text": "not this"})
            await client.call_tool("log", {"level": "warning", "text": "that"})
            assert said == ["warning: that"]


async def test_legacy_sessions_share_one_stream_of_list_changes() -> None:
    heard: dict[str, asyncio.Event] = {"one": asyncio.Event(), "two": asyncio.Event()}

    def handler(name: str) -> Any:
        async def handle(message: Any) -> None:
            if "ToolListChanged" in str(type(message)):
                heard[name].set()

        return handle

    async with (
        served(*MODERN) as bridge,
        Client(bridge.url, mode="legacy", message_handler=handler("one")) as one,
        Client(bridge.url, mode="legacy", message_handler=handler("two")) as two,
    ):
        await one.call_tool("change", {})
        await bounded(asyncio.gather(*(each.wait() for each in heard.values())), 5)
        seen = await called(two, "seen")
        assert [method for method, _ in seen].count("subscriptions/listen") == 1


async def test_a_modern_client_that_stops_listening_is_not_told_by_the_process() -> None:
    async with served(*MODERN) as one, Client(one.url) as client:
        async with client.listen(tools_list_changed=True) as changes:
            await client.call_tool("change", {})
            await bounded(anext(changes), 5)

        async def cancelled() -> bool:
            seen = await called(client, "seen")
            return [method for method, _ in seen].count("notifications/cancelled") == 1

        await until(cancelled, timeout=5, what="the end of the stream at the process")


async def test_clients_whose_messages_cannot_be_told_apart_get_none() -> None:
    said: list[str] = []

    async def logged(params: Any) -> None:
        said.append(params.data)

    async with (
        served(*MODERN) as bridge,
        Client(bridge.url, logging_callback=logged, log_level="info") as one,
        Client(bridge.url, logging_callback=logged, log_level="info") as two,
        Client(bridge.url, logging_callback=logged) as without,
    ):
        waiting = asyncio.create_task(without.call_tool("hang", {}))
        await one.call_tool("log", {"level": "info", "text": "of one"})
        assert said == ["of one"], "who wants none is no reason to doubt"
        other = asyncio.create_task(two.call_tool("hang", {}))
        await until(lambda: hung(one, 2), timeout=5, what="two requests under way")
        await one.call_tool("log", {"level": "info", "text": "of whom?"})
        assert said == ["of one"]
        for each in (waiting, other):
            each.cancel()
        await asyncio.gather(waiting, other, return_exceptions=True)


async def hung(client: Client, number: int) -> bool:
    calls = [params for method, params in await called(client, "seen") if method == "tools/call"]
    return [each["name"] for each in calls].count("hang") == number
