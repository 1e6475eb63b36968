"""What crosses from one era to the other, by the SDK's client in both modes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.subscriptions import SubscriptionLost
from mcp_types import ElicitResult, InputRequiredResult

from tests.sidecar.bridge.served import called, served
from tests.stores.waiting import bounded, until

pytestmark = pytest.mark.slow

ONE_ERA = (sys.executable, "-m", "tests.sidecar.bridge.one_era_server")
LEGACY, MODERN = (*ONE_ERA, "legacy"), (*ONE_ERA, "modern")
ERAS = ("legacy", "modern")
MODES: tuple[ConnectMode, ...] = ("auto", "legacy")


def asking(message: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    question = {"message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": question}


async def elicited(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": params.message})


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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_answers_what_the_server_asks(era: str, mode: ConnectMode) -> None:
    async with (
        served(*ONE_ERA, era) as one,
        Client(one.url, mode=mode, elicitation_callback=elicited) as client,
    ):
        found = await bounded(called(client, "ask", **asking("Who?")), 10)
        answer = {"action": "accept", "content": {"name": "Who?"}}
        if era == "modern":
            assert found == {"state": "state-1", "given": {"q": answer}}
        else:
            assert found == answer


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_be_asked(era: str, mode: ConnectMode) -> None:
    given = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}
    async with served(*ONE_ERA, era) as one, Client(one.url, mode=mode) as client:
        if era == "legacy":
            found = await called(client, "ask", **given)
            assert found["message"].startswith("sampling/createMessage: this client ")
        elif mode == "legacy":
            with pytest.raises(MCPError, match="sampling/createMessage: this client has not said"):
                await client.call_tool("ask", given)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
async def test_each_client_is_asked_its_own(era: str, mode: ConnectMode) -> None:
    async def one_of_many(url: str, name: str) -> None:
        heard: list[str] = []

        async def slowly(context: Any, params: Any) -> ElicitResult:
            heard.append(params.message)
            await asyncio.sleep(0.1)
            return ElicitResult(action="accept", content={"name": name})

        async with Client(url, mode=mode, elicitation_callback=slowly) as client:
            for turn in range(2):
                found = await called(client, "ask", **asking(f"{name} {turn}"))
                assert name in str(found)
        assert heard == [f"{name} 0", f"{name} 1"]

    async with served(*ONE_ERA, era) as one:
        await bounded(asyncio.gather(*(one_of_many(one.url, f"c{n}") for n in range(6))), 40)


async def test_a_modern_client_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_discovery.sidecar.bridge.questions._PATIENCE", 0.3)
    async with (
        served(*LEGACY) as one,
        Client(one.url, elicitation_callback=elicited) as client,
    ):
        first = await client.session.call_tool("ask", asking("Who?"), allow_input_required=True)
        assert isinstance(first, InputRequiredResult) and first.input_requests
        (key,) = first.input_requests
        answers: dict[str, Any] = {key: ElicitResult(action="decline")}

        async def cancelled() -> bool:
            return "notifications/cancelled" in str(await called(client, "seen"))

        await until(cancelled, timeout=5, what="the cancellation at the process")
        with pytest.raises(MCPError, match="requestState is not of this request, or too old"):
            await client.session.call_tool(
                "ask",
                asking("Who?"),
                input_responses=answers,
                request_state=first.request_state,
            )


async def test_an_answer_is_for_the_request_that_was_asked() -> None:
    async with (
        served(*LEGACY) as one,
        Client(one.url, elicitation_callback=elicited) as client,
    ):
        ask = client.session.call_tool
        first = await ask("ask", asking("Who?"), allow_input_required=True)
        assert isinstance(first, InputRequiredResult) and first.input_requests
        (key,) = first.input_requests
        answers: dict[str, Any] = {key: ElicitResult(action="decline")}
        more: dict[str, Any] = {"input_responses": answers, "request_state": first.request_state}
        with pytest.raises(MCPError, match="requestState is not of this request"):
            await ask("ask", asking("Whom?"), **more)
        again = await ask(
            "ask", asking("Who?"), request_state=first.request_state, allow_input_required=True
        )
        assert (
            isinstance(again, InputRequiredResult) and again.input_requests == first.input_requests
        )
        more["request_state"] = again.request_state
        found = await ask("ask", asking("Who?"), **more)
        assert "decline" in str(found)
        with pytest.raises(MCPError, match="requestState is not of this request"):
            await ask("ask", asking("Who?"), **more)


@pytest.mark.parametrize("mode", MODES)
async def test_a_shared_legacy_process_asks_where_it_is_known_whom(mode: ConnectMode) -> None:
    async def slowly(context: Any, params: Any) -> ElicitResult:
        await asyncio.sleep(0.5)
        return ElicitResult(action="decline")

    async with (
        served(*LEGACY, sessions="shared") as one,
        Client(one.url, mode=mode, elicitation_callback=slowly) as client,
        Client(one.url, mode=mode, elicitation_callback=slowly) as other,
    ):
        assert await bounded(called(client, "ask", **asking("Who?")), 10) == {"action": "decline"}
        two = (called(each, "ask", **asking("Who?")) for each in (client, other))
        answers = await bounded(asyncio.gather(*two), 10)
        refusals = [each["message"] for each in answers if each != {"action": "decline"}]
        assert refusals
        assert all("requests of 2 clients are under way" in each for each in refusals)
        assert len(one.bridge.audience.listeners) == (2 if mode == "legacy" else 0)


async def test_a_stream_ends_with_the_process_that_a_client_has() -> None:
    async with (
        served(*LEGACY) as one,
        Client(one.url, elicitation_callback=elicited) as client,
        client.listen(tools_list_changed=True) as changes,
    ):
        await client.call_tool("change", {})
        assert type(await bounded(anext(changes), 5)).__name__ == "ToolsListChanged"
        one.bridge.signal(9)
        with pytest.raises(SubscriptionLost):
            await bounded(anext(changes), 10)
