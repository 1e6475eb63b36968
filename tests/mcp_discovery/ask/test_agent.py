"""The agent over each of the three APIs: real servers, a real facade, fakes of the models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mcp_discovery import Discovery
from mcp_discovery.ask import (
    PROVIDERS,
    Answer,
    AskError,
    AskLimitError,
    AskLimits,
    DiscoveryToolbox,
    ModelError,
    ModelRefusedError,
    Step,
    answer,
)
from mcp_discovery.errors import InvalidInputError
from tests.mcp_discovery.ask.fake_anthropic import FakeAnthropic
from tests.mcp_discovery.ask.fake_gemini import FakeGemini
from tests.mcp_discovery.ask.fake_models import (
    SEARCH,
    Breaks,
    Calls,
    Fails,
    FailsLate,
    FakeModelServer,
    Hangs,
    Planned,
    Says,
)
from tests.mcp_discovery.ask.fake_openai import FakeOpenAI
from tests.stores.waiting import bounded

QUESTION = "Search the products for a kettle, check the stock, and get the product."
ANSWER = "Yes: 15 kettles can be shipped today."
FAKES: Sequence[type[FakeModelServer]] = (FakeOpenAI, FakeAnthropic, FakeGemini)
#: Two calls at once in the second turn, one of them in vain.
CALLS: Calls = (
    ("check_stock", {"sku": "KET-100"}),
    ("get_product", {"sku": "NONE-1"}),
    ("no_such_tool", {}),
)
#: Retries do not have to wait in tests.
LIMITS = AskLimits(seconds=30, call_seconds=10)

Asked = Callable[..., Awaitable[Answer]]


class Asking:
    """A fake with a script, and the agent that asks it."""

    def __init__(self, fake: FakeModelServer, facade: str) -> None:
        self.fake = fake
        self.steps: list[Step] = []
        self._facade = facade

    async def __call__(self, question: str = QUESTION, **more: Any) -> Answer:
        async def on_step(step: Step) -> None:
            self.steps.append(step)

        provider = PROVIDERS[self.fake.provider]  # type: ignore[index]
        more = {"limits": LIMITS, **more}
        async with Discovery(self._facade) as discovery, provider.client() as client:
            return await answer(
                question,
                toolbox=DiscoveryToolbox(discovery),
                client=client,
                provider=provider.name,
                on_step=on_step,
                **more,
            )

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The steps of one kind, as JSON."""
        return [each.json() for each in self.steps if each.kind == kind]

    @property
    def last_request(self) -> str:
        """The last request to the model, as text."""
        return json.dumps(self.fake.requests[-1])


Plan = Callable[..., Any]


@pytest.fixture
def plan(facade: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Starts a fake with a script."""

    @asynccontextmanager
    async def start(fake: type[FakeModelServer], *script: Planned) -> AsyncIterator[Asking]:
        async with fake(*script).running() as server:
            server.use(monkeypatch)
            yield Asking(server, facade)

    return start


@pytest.mark.parametrize("fake", FAKES)
async def test_a_question_is_answered_with_tools(plan: Plan, fake: type[FakeModelServer]) -> None:
    script = (
        Says("Let me look.", (("search_products", {"query": "kettle"}),)),
        Says(calls=CALLS),
        Says(ANSWER),
    )
    async with plan(fake, *script) as ask:
        found = await ask()
        assert (found.text, found.turns, found.calls) == (ANSWER, 3, 3)
        assert (found.usage.input, found.usage.output) == (3000, 150)
        assert found.model == PROVIDERS[found.provider].model

        assert "".join(each["text"] for each in ask.told("text")) == f"Let me look.{ANSWER}"
        (search,) = ask.told("search")
        assert {"server": "products", "tool": "search_products"} in search["tools"]
        begun = {each["number"]: each for each in ask.told("call")}
        assert begun[1]["arguments"] == {"query": "kettle"}
        ended = {each["tool"]: each for each in ask.told("result")}
        assert "KET-100" in ended["search_products"]["text"]
        assert '"available"' in ended["check_stock"]["text"] and ended["check_stock"]["success"]
        assert not ended["get_product"]["success"] and "NONE-1" in ended["get_product"]["text"]
        assert ended.keys() == {"search_products", "check_stock", "get_product"}
        assert "there is no tool 'no_such_tool'" in ask.last_request
        assert [each["calls"] for each in ask.told("usage")] == [1, 3, 0]


@pytest.mark.parametrize("fake", FAKES)
@pytest.mark.parametrize("model", [None, "an-older-one"])
async def test_the_model_searches_for_more(
    plan: Plan, fake: type[FakeModelServer], model: str | None
) -> None:
    script = (
        Says(calls=((SEARCH, {"query": "which pages are read most"}),)),
        Says(calls=(("top_pages", {"period": "day", "limit": 1}),)),
        Says("The one on kettles."),
    )
    async with plan(fake, *script) as ask:
        # It has no word of the tools that are needed.
        found = await ask("Was ist heute los?", model=model)
        assert (found.text, found.calls) == ("The one on kettles.", 1)
        first, second = ask.told("search")
        assert not first["tools"] and {"server": "figures", "tool": "top_pages"} in second["tools"]
        (result,) = ask.told("result")
        assert "views" in result["text"]
        told = json.dumps(ask.fake.requests[0])
        assert "All about products." in told and "top_pages" not in told
        assert ("defer" in ask.last_request) is (model is None and fake is not FakeGemini)
        if model is not None or fake is FakeGemini:
            assert "find_tools" in told


@pytest.mark.parametrize("fake", FAKES)
async def test_a_fault_that_passes_is_tried_again(plan: Plan, fake: type[FakeModelServer]) -> None:
    script = (
        Fails(429, "rate_limit_error", {"Retry-After": "0"}),
        FailsLate("Two text"),
        Breaks("Half an ans"),
        Says(ANSWER),
    )
    async with plan(fake, *script) as ask:
        found = await ask(limits=replace(LIMITS, seconds=20))
        assert found.text == ANSWER and found.turns == 1
        limited, late, broken = ask.told("retry")
        assert limited["seconds"] == 0 and "429" in limited["why"]
        assert late["seconds"] > 0.5 and broken["seconds"] > 1
        assert len({json.dumps(each) for each in ask.fake.requests}) == 1


@pytest.mark.parametrize("fake", FAKES)
async def test_what_does_not_pass_is_told_at_once(plan: Plan, fake: type[FakeModelServer]) -> None:
    async with plan(fake, Fails(401, "authentication_error")) as ask:
        with pytest.raises(ModelError, match=r"401.*check its key") as caught:
            await ask()
        assert caught.value.status == 401 and len(ask.fake.requests) == 1
    async with plan(fake, Fails(503, headers={"Retry-After": "3600"})) as ask:
        with pytest.raises(ModelError) as caught:
            await ask()
        assert caught.value.retry_after == 3600 and len(ask.fake.requests) == 1


@pytest.mark.parametrize("fake", FAKES)
async def test_turns_are_bounded(plan: Plan, fake: type[FakeModelServer]) -> None:
    script = [Says(calls=(("check_stock", {"sku": "KET-100"}),)) for _ in range(3)]
    async with plan(fake, *script) as ask:
        with pytest.raises(AskLimitError, match="no answer after 3 turns"):
            await ask(limits=replace(LIMITS, turns=3))
        told = [json.dumps(each).lower() for each in ask.fake.requests]
        none = ['"none"' in each for each in told]
        assert none == [False, False, True]  # in the last turn it may not call


@pytest.mark.parametrize("fake", FAKES)
async def test_tokens_are_bounded(plan: Plan, fake: type[FakeModelServer]) -> None:
    call = (("check_stock", {"sku": "KET-100"}),)
    script = (Says(calls=call, usage=(4000, 100)), Says(ANSWER, usage=(4200, 100)))
    async with plan(fake, *script) as ask:
        found = await ask(limits=replace(LIMITS, tokens=10_000))
        assert found.text == ANSWER
        # What is left is no room for a call and an answer.
        assert '"none"' in ask.last_request.lower()
    script = (Says(calls=call, usage=(9900, 50)), Says(ANSWER))
    async with plan(fake, *script) as ask:
        with pytest.raises(AskLimitError, match="no answer within 10,000 tokens"):
            await ask(limits=replace(LIMITS, tokens=10_000))
        assert len(ask.fake.requests) == 1


@pytest.mark.parametrize("fake", FAKES)
async def test_time_is_bounded_and_the_stream_is_closed(
    plan: Plan, fake: type[FakeModelServer]
) -> None:
    async with plan(fake, Hangs()) as ask:
        with pytest.raises(AskLimitError, match=r"no answer after 0\.5 s"):
            await ask(limits=replace(LIMITS, seconds=0.5))
        await bounded(ask.fake.left.wait(), 10)


@pytest.mark.parametrize("fake", FAKES)
async def test_cancelling_closes_the_stream(plan: Plan, fake: type[FakeModelServer]) -> None:
    async with plan(fake, Hangs()) as ask:
        task = asyncio.create_task(ask())
        async with asyncio.timeout(20):
            while not ask.told("text"):
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bounded(ask.fake.left.wait(), 10)


#: Of each API: how it says that there was no room, and that it refuses.
LENGTH = {FakeOpenAI: "max_output_tokens", FakeAnthropic: "max_tokens", FakeGemini: "MAX_TOKENS"}
REFUSALS = [
    (FakeOpenAI, Says("I", stop="refusal", why="I cannot help with that.")),
    (FakeOpenAI, Says("I", stop="content_filter")),
    (FakeAnthropic, Says("I", stop="refusal", why="I cannot help with that.")),
    (FakeGemini, Says("I", stop="SAFETY")),
    (FakeGemini, Says(stop="blocked", why="It is not safe.")),
]


@pytest.mark.parametrize("fake", FAKES)
async def test_an_answer_without_room_says_so(plan: Plan, fake: type[FakeModelServer]) -> None:
    async with plan(fake, Says("It is", stop=LENGTH[fake])) as ask:
        found = await ask()
        assert found.text == "It is" and found.is_cut and found.json()["cut"] is True
    call = (("check_stock", {"sku": "KET-100"}),)
    async with plan(fake, Says(calls=call, stop=LENGTH[fake])) as ask:
        with pytest.raises(AskLimitError):  # half a call is never made
            await ask()
        assert not ask.told("call")


@pytest.mark.parametrize(("fake", "says"), REFUSALS)
async def test_a_refusal_is_told(plan: Plan, fake: type[FakeModelServer], says: Says) -> None:
    async with plan(fake, says) as ask:
        with pytest.raises(ModelRefusedError, match=says.why or "content filter|SAFETY"):
            await ask()


@pytest.mark.parametrize("fake", FAKES)
async def test_a_model_that_says_nothing_has_no_answer(
    plan: Plan, fake: type[FakeModelServer]
) -> None:
    async with plan(fake, Says()) as ask:
        with pytest.raises(AskError, match="it said nothing"):
            await ask()


async def test_malformed_arguments_go_back_to_the_model(plan: Plan) -> None:
    call: Calls = (("check_stock", {}),)
    async with plan(FakeOpenAI, Says(calls=call, raw='{"sku": '), Says(ANSWER)) as ask:
        assert (await ask()).text == ANSWER
        assert "not JSON" in ask.last_request and not ask.told("call")
    async with plan(FakeOpenAI, Says(calls=call, raw="[1]"), Says(ANSWER)) as ask:
        assert (await ask()).text == ANSWER
        assert "not a JSON object" in ask.last_request
    async with plan(FakeAnthropic, Says(calls=call, raw='{"sku": }'), Says(ANSWER)) as ask:
        assert (await ask()).text == ANSWER
        (retry,) = ask.told("retry")
        assert "malformed" in retry["why"]
    script = (Says(stop="MALFORMED_FUNCTION_CALL"), Says(ANSWER))
    async with plan(FakeGemini, *script) as ask:
        assert (await ask()).text == ANSWER
        (retry,) = ask.told("retry")
        assert "MALFORMED_FUNCTION_CALL" in retry["why"]


async def test_a_turn_that_was_paused_goes_on(plan: Plan) -> None:
    script = (Says("I look.", stop="pause_turn"), Says(ANSWER))
    async with plan(FakeAnthropic, *script) as ask:
        found = await ask()
        assert (found.text, found.turns) == (ANSWER, 2)
        assert ask.fake.requests[1]["messages"][-1]["role"] == "assistant"


async def test_results_are_cut_and_calls_are_bounded(plan: Plan) -> None:
    calls = tuple(("check_stock", {"sku": f"KET-{number}"}) for number in range(5))
    script = (Says(calls=(("search_products", {"query": "e"}),)), Says(calls=calls), Says(ANSWER))
    async with plan(FakeOpenAI, *script) as ask:
        found = await ask(limits=replace(LIMITS, result=60, calls=3))
        assert found.calls == 3
        outputs = [
            each["output"]
            for each in ask.fake.requests[-1]["input"]
            if each.get("type") == "function_call_output"
        ]
        assert (
            outputs[0].endswith("\n[cut: more than is read of a result]") and len(outputs[0]) < 120
        )
        assert ["no more are allowed" in each for each in outputs[1:]] == [False] * 2 + [True] * 3


async def test_results_of_calls_at_once_fit_into_the_tokens(plan: Plan) -> None:
    """However many there are, and however much each says."""
    calls = tuple(("search_products", {"query": letter}) for letter in "eaioutrnsl")
    script = (Says(calls=calls[:1]), Says(calls=calls), Says(ANSWER))
    async with plan(FakeOpenAI, *script) as ask:
        await ask(limits=replace(LIMITS, tokens=5_000))
        outputs = [
            each["output"]
            for each in ask.fake.requests[-1]["input"]
            if each.get("type") == "function_call_output"
        ]
    # Two turns took 1,050 each, and what was said so far is read once more.
    left = 5_000 - 2 * 1_050 - 1_050
    assert len(outputs) == 11
    assert sum(map(len, outputs[1:])) < 2 * left + 10 * 60
    assert any("[cut: more" in each for each in outputs[1:])


@pytest.mark.parametrize("fake", FAKES)
async def test_searches_are_bounded(plan: Plan, fake: type[FakeModelServer]) -> None:
    searches = tuple((SEARCH, {"query": f"stock {number}"}) for number in range(6))
    async with plan(fake, Says(calls=searches), Says(ANSWER)) as ask:
        await ask(limits=replace(LIMITS, calls=3))
        assert len(ask.told("search")) == 1 + 3
        if fake is not FakeOpenAI:  # its searches have no words to fail with
            assert ask.last_request.count("3 searches were made, and no more are allowed") == 3


async def test_a_question_that_cannot_be_asked(plan: Plan) -> None:
    async with plan(FakeOpenAI) as ask:
        with pytest.raises(InvalidInputError, match="empty"):
            await ask(" \n")
        with pytest.raises(InvalidInputError, match="at most 32,000"):
            await ask("x" * 32_001)
        assert not ask.fake.requests


async def test_nothing_is_stored_and_the_key_is_in_no_error(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-proj-Abcdefghijklmnopqrstuvwxyz0123456789"
    async with plan(FakeOpenAI, Fails(400, f"Incorrect API key provided: {key}")) as ask:
        with pytest.raises(ModelError) as caught:
            await ask()
        assert key not in str(caught.value)
        assert ask.fake.requests[0]["store"] is False


@pytest.mark.parametrize("fake", FAKES)
@pytest.mark.parametrize("odd", ["{}\n", "{}\r\nX-Evil: 1", "{} {}", "\u00fc{}", "{}\u2028"])
async def test_an_odd_key_is_told_of_and_not_shown(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, fake: type[FakeModelServer], odd: str
) -> None:
    secret, variable = "Abcdefghijklmnop", fake.variables[1]
    async with plan(fake) as ask:
        monkeypatch.setenv(variable, odd.format(secret, secret))
        with pytest.raises(InvalidInputError, match=variable) as caught:
            await ask()
        assert secret not in str(caught.value)
        assert not ask.fake.requests
