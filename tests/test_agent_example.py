"""The agent in examples/agent.py: a scripted model of each API, real servers, a real facade."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples.agent import (
    AnthropicModel,
    GeminiModel,
    Model,
    OpenAIModel,
    OpenAIResponsesModel,
    run,
)
from mcp_discovery import Discovery
from tests.facade.harness import served
from tests.servers.process import example
from tests.stores.waiting import bounded

QUESTION = "Can a kettle be shipped today?"
#: What the model calls, turn by turn: two calls at once in the second, one of them in vain.
SCRIPT: list[list[tuple[str, dict[str, Any]]]] = [
    [("search_products", {"query": "kettle", "category": None, "max_price": None})],
    [
        ("check_stock", {"sku": "KET-100"}),
        ("get_product", {"sku": "NONE-1"}),
        ("top_pages", {"period": "day", "limit": 1}),
        ("no_such_tool", {}),
    ],
]
ANSWER = "Yes: 15 can be shipped today."


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


def plain(thing: Any) -> Any:
    """What an SDK would send: its own objects as JSON."""
    if isinstance(thing, SimpleNamespace):
        return {name: plain(each) for name, each in vars(thing).items()}
    if isinstance(thing, dict):
        return {name: plain(each) for name, each in thing.items()}
    return [plain(each) for each in thing] if isinstance(thing, list) else thing


def as_object(thing: Any, name: str = "") -> Any:
    """JSON as an SDK hands it out: attributes, but for the arguments of calls."""
    if isinstance(thing, dict) and name not in ("input", "args"):
        return SimpleNamespace(**{each: as_object(value, each) for each, value in thing.items()})
    return [as_object(each) for each in thing] if isinstance(thing, list) else thing


class Scripted:
    """Answers a request with the next turn of the script, and keeps what it was sent."""

    def __init__(self, spell: Callable[[list[tuple[str, dict[str, Any]]]], Any]) -> None:
        self._spell = spell
        self._turns = [*copy.deepcopy(SCRIPT), []]
        self.requests: list[dict[str, Any]] = []

    async def __call__(self, **request: Any) -> Any:
        self.requests.append(plain(json.loads(json.dumps(plain(request)))))
        return self._spell(self._turns.pop(0))


Calls = list[tuple[str, dict[str, Any]]]


def _chat(calls: Calls) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else ANSWER}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(calls)
        ]
    reason = "tool_calls" if calls else "stop"
    return {"id": "c", "choices": [{"index": 0, "finish_reason": reason, "message": message}]}


def _responses(calls: Calls) -> dict[str, Any]:
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
    output += [
        {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": name,
            "arguments": json.dumps(arguments),
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    if not calls:
        part = {"type": "output_text", "text": ANSWER, "annotations": []}
        output.append({"type": "message", "role": "assistant", "content": [part]})
    return {"id": "resp_1", "output": output}


def _messages(calls: Calls) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "Let me look." if calls else ANSWER},
        *(
            {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": arguments}
            for number, (name, arguments) in enumerate(calls)
        ),
    ]
    reason = "tool_use" if calls else "end_turn"
    return {"role": "assistant", "content": content, "stop_reason": reason}


def _contents(function_call: str) -> Callable[[Calls], dict[str, Any]]:
    def spell(calls: Calls) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [
            {function_call: {"name": name, "args": arguments}} for name, arguments in calls
        ]
        content = {"role": "model", "parts": parts or [{"text": ANSWER}]}
        return {"candidates": [{"content": content, "finish_reason": "STOP"}]}

    return spell


def openai(create: Scripted) -> Model:
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    return OpenAIModel(client, "scripted")


def openai_strict(create: Scripted) -> Model:
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    return OpenAIModel(client, "scripted", options={"strict": True})


def openai_responses(create: Scripted) -> Model:
    client = SimpleNamespace(responses=SimpleNamespace(create=create))
    return OpenAIResponsesModel(client, "scripted")


def anthropic(create: Scripted) -> Model:
    client = SimpleNamespace(messages=SimpleNamespace(create=create))
    return AnthropicModel(client, "scripted")


def gemini(create: Scripted) -> Model:
    models = SimpleNamespace(generate_content=create)
    return GeminiModel(SimpleNamespace(aio=SimpleNamespace(models=models)), "scripted")


#: Each API: what makes the model, how it spells a turn, and where a request has its results.
APIS: dict[str, tuple[Callable[[Scripted], Model], Callable[[Calls], Any]]] = {
    "openai": (openai, _chat),
    "openai-strict": (openai_strict, _chat),
    "openai-responses": (openai_responses, _responses),
    "anthropic": (anthropic, _messages),
    "gemini": (gemini, _contents("functionCall")),
}


def told(api: str, request: dict[str, Any], count: int) -> list[str]:
    """The last ``count`` results in a request, as the text that the model reads."""
    if api == "anthropic":
        (*_, message) = request["messages"]
        assert message["role"] == "user" and len(message["content"]) == count
        assert [each["tool_use_id"] for each in message["content"]] == [
            f"toolu_{number}" for number in range(count)
        ]
        return ["".join(part["text"] for part in each["content"]) for each in message["content"]]
    if api == "gemini":
        (*_, content) = request["contents"]
        assert content["role"] == "user" and len(content["parts"]) == count
        responses = [each["functionResponse"]["response"] for each in content["parts"]]
        return [each.get("output") or f"Error: {each['error']}" for each in responses]
    name, id, text = (
        ("input", "call_id", "output")
        if api == "openai-responses"
        else ("messages", "tool_call_id", "content")
    )
    results = request[name][-count:]
    assert [each[id] for each in results] == [f"call_{number}" for number in range(count)]
    return [each[text] for each in results]


@pytest.mark.parametrize("objects", [False, True], ids=["dicts", "objects"])
@pytest.mark.parametrize("api", APIS)
async def test_a_question_is_answered_with_tools(facade: str, api: str, objects: bool) -> None:
    make, spell = APIS[api]
    if objects:
        spelled = _contents("function_call") if api == "gemini" else spell
        scripted = Scripted(lambda calls: as_object(spelled(calls)))
    else:
        scripted = Scripted(spell)
    assert await run(QUESTION, facade=facade, model=make(scripted)) == ANSWER

    first, second, third = scripted.requests
    assert QUESTION in json.dumps(first)
    assert "search_products" in json.dumps(first["config" if api == "gemini" else "tools"])
    (found,) = told(api, second, 1)
    assert '"KET-100"' in found
    stock, missing, pages, unknown = told(api, third, 4)
    assert '"available": 15' in stock.replace('":15', '": 15')
    assert "NONE-1" in missing
    assert '"views": 1840' in pages.replace('":1840', '": 1840')
    assert "no_such_tool" in unknown


def _searching(spell: Callable[[Calls], dict[str, Any]]) -> Callable[[Calls], dict[str, Any]]:
    """The Responses API's turn, in which a search is an item of its own."""

    def respond(calls: Calls) -> dict[str, Any]:
        turn = spell(calls)
        for item in turn["output"]:
            if item.get("name") == "search_tools":
                arguments = json.loads(item.pop("arguments"))
                item |= {"type": "tool_search_call", "execution": "client", "arguments": arguments}
                del item["name"]
        return turn

    return respond


@pytest.mark.parametrize("api", ["openai-responses", "anthropic"])
async def test_a_question_is_answered_with_tools_that_are_found(facade: str, api: str) -> None:
    make, spell = APIS[api]
    scripted = Scripted(_searching(spell) if api == "openai-responses" else spell)
    searches = ("find products in the catalog", "what is in stock")
    scripted._turns = [
        [("search_tools", {"query": each}) for each in searches],
        [("search_products", {"query": "kettle"}), ("check_stock", {"sku": "KET-100"})],
        [],
    ]
    model = make(scripted)
    model.options = {**model.options, "defer": True}
    assert await run(QUESTION, facade=facade, model=model) == ANSWER

    first, second, third = scripted.requests
    if api == "anthropic":
        search, *deferred = first["tools"]
        assert search["name"] == "search_tools" and len(deferred) == 8
        assert all(each["defer_loading"] for each in deferred)
        results = second["messages"][-1]["content"]
        found = [part["tool_name"] for each in results for part in each["content"]]
    else:
        (search,) = first["tools"]
        assert search["type"] == "tool_search"
        outputs = second["input"][-2:]
        assert [each["call_id"] for each in outputs] == ["call_0", "call_1"]
        spaces = [space for each in outputs for space in each["tools"]]
        assert {each["name"] for each in spaces} <= {"products", "figures"}
        found = [tool["name"] for space in spaces for tool in space["tools"]]
    assert {"search_products", "check_stock"} <= set(found)
    products, stock = told(api, third, 2)
    assert '"KET-100"' in products and '"available": 15' in stock.replace('":15', '": 15')


async def test_only_servers_with_the_tag_are_offered(facade: str) -> None:
    scripted = Scripted(_messages)
    await run(QUESTION, facade=facade, model=anthropic(scripted), tags="figures")
    offered = {each["name"] for each in scripted.requests[0]["tools"]}
    assert offered == {"top_pages", "sales_report", "conversion_rate", "track_event"}
    (refused,) = told("anthropic", scripted.requests[1], 1)
    assert "search_products" in refused


async def test_a_model_that_never_answers_is_given_up(facade: str) -> None:
    class Endless(Scripted):
        async def __call__(self, **request: Any) -> Any:
            return self._spell(SCRIPT[0])

    with pytest.raises(RuntimeError, match="no answer after 2 turns"):
        await run(QUESTION, facade=facade, model=openai(Endless(_chat)), max_turns=2)


async def test_arguments_come_back_as_the_server_wants_them(facade: str) -> None:
    async with Discovery(facade) as discovery:
        tools = await discovery.tools(format="openai", strict=True)
        (top,) = (each for each in tools if each["function"]["name"] == "top_pages")
        assert set(top["function"]["parameters"]["required"]) == {"period", "limit"}
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "top_pages", "arguments": '{"period": null, "limit": 1}'},
        }
        answer = await discovery.dispatch(call)
    assert json.loads(answer["content"])["views"] == 1840 * 7


async def test_the_command(facade: str) -> None:
    async def command(*arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "examples/agent.py", *arguments),
            cwd=Path(__file__).parents[1],
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

    code, out, err = await command("--scripted", "--facade", facade, QUESTION)
    assert (code, err) == (0, "")
    assert '"KET-100"' in out and '"available"' in out and '"views"' in out
    for api in ("anthropic", "openai-responses"):
        given = ("--scripted", "--defer", "--model", api)
        code, out, err = await command(*given, "--facade", facade, QUESTION)
        assert (code, err) == (0, "")
        assert "search_products" in out and "KET-100" in out
    code, out, err = await command("--scripted", "--defer", "--facade", facade, QUESTION)
    assert code == 2 and "--defer wants --model openai-responses or anthropic" in err
    code, out, err = await command("--scripted", "--facade", "http://127.0.0.1:1", QUESTION)
    assert (code, out) == (1, "")
    assert err.startswith("agent: ") and err.count("\n") == 1
    code, out, err = await command(QUESTION)
    assert code == 2 and "say --model-name, or --scripted" in err
    code, out, err = await command("--help")
    assert code == 0 and "needs no key" in out
