"""What servers ask their clients, across the eras, by the SDK's client in both modes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.subscriptions import SubscriptionLost
from mcp_types import ElicitResult, InputRequiredResult

from mcp_discovery.mcp_messages import INTERNAL_ERROR, METHOD_NOT_FOUND
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
            assert found["code"] == METHOD_NOT_FOUND  # as the client itself would say
        elif mode == "legacy":
            with pytest.raises(MCPError, match="sampling/createMessage: this client has") as raised:
                await client.call_tool("ask", given)
            assert raised.value.code == INTERNAL_ERROR


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
