"""A whole agent: finds MCP servers through a facade, gives their tools to a model, makes its calls.

    python examples/agent.py --scripted "Can a kettle be shipped today?"
    python examples/agent.py --scripted --model anthropic --defer "Can a kettle be shipped today?"
    python examples/agent.py --model anthropic --model-name MODEL "Can a kettle be shipped today?"

The first needs no key: a script stands in for the model. In the second, the model is given a search
and no tools; it finds those that it calls (openai-responses and anthropic). The third needs the
package of that model API (openai, anthropic or google-genai) and its key in the environment. All
need a facade with the servers product-catalog and analytics: ``mcp-discovery demo`` starts them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mcp_discovery import Discovery
from mcp_discovery.errors import DiscoveryError

Format = Literal["openai", "anthropic", "gemini"]


@dataclass(frozen=True)
class Turn:
    """What a model said: tool calls in its API's own objects, or, where there are none, a text."""

    text: str
    calls: Sequence[object] = ()


class Model(Protocol):
    """One conversation with a model."""

    options: Mapping[str, Any]

    @property
    def format(self) -> Format:
        """Which format of tools its API takes."""

    def ask(self, question: str) -> None:
        """Adds what the user says."""

    async def turn(self, tools: list[dict[str, Any]]) -> Turn:
        """Lets the model speak, and remembers what it said."""

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        """Adds the results of its calls, in the order of the calls."""


async def run(
    question: str,
    *,
    facade: str,
    model: Model,
    tags: str | Iterable[str] | None = None,
    max_turns: int = 10,
) -> str:
    """The model's answer to ``question``, with the tools of the servers that have one of ``tags``.

    The tools are read anew in each turn, so servers may come, go and change on the way. A call that
    fails is told to the model in words. Raises RuntimeError when there is no answer after
    ``max_turns``, and what :class:`Discovery` raises when the facade is not to be had.
    """
    async with Discovery(facade) as discovery:
        await discovery.connect(tags)
        model.ask(question)
        for _ in range(max_turns):
            tools = await discovery.tools(format=model.format, **model.options)
            turn = await model.turn(tools)
            if not turn.calls:
                return turn.text
            model.answer(await asyncio.gather(*map(discovery.dispatch, turn.calls)))
    raise RuntimeError(f"no answer after {max_turns} turns")


@dataclass
class OpenAIModel:
    """OpenAI's Chat Completions, and whatever speaks them.

    ::

        from openai import AsyncOpenAI

        client = AsyncOpenAI()  # OPENAI_API_KEY
        model = OpenAIModel(client, "gpt-…")
    """

    client: Any
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    format: Format = "openai"
    messages: list[Any] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.messages.append({"role": "user", "content": question})

    async def turn(self, tools: list[dict[str, Any]]) -> Turn:
        # The API refuses an empty list of tools.
        more = {"tools": tools} if tools else {}
        response = await self.client.chat.completions.create(
            model=self.name, messages=self.messages, **more
        )
        message = get(get(response, "choices")[0], "message")
        self.messages.append(message)
        return Turn(get(message, "content") or "", get(message, "tool_calls") or ())

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        self.messages.extend(results)


@dataclass
class OpenAIResponsesModel:
    """OpenAI's Responses API; with the option ``defer`` its model searches for the tools.

    ::

        from openai import AsyncOpenAI

        client = AsyncOpenAI()  # OPENAI_API_KEY
        model = OpenAIResponsesModel(client, "gpt-…")
    """

    client: Any
    name: str
    options: Mapping[str, Any] = field(default_factory=lambda: {"api": "responses"})
    format: Format = "openai"
    items: list[Any] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.items.append({"role": "user", "content": question})

    async def turn(self, tools: list[dict[str, Any]]) -> Turn:
        response = await self.client.responses.create(
            model=self.name, input=self.items, tools=tools
        )
        output = get(response, "output")
        self.items.extend(output)
        calls = [
            item
            for item in output
            if get(item, "type") == "function_call"
            or (get(item, "type"), get(item, "execution")) == ("tool_search_call", "client")
        ]
        parts = [part for item in output for part in get(item, "content") or ()]
        return Turn("".join(get(part, "text") or "" for part in parts), calls)

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        self.items.extend(results)


@dataclass
class AnthropicModel:
    """Anthropic's Messages API; with the option ``defer`` its model searches for the tools.

    ::

        from anthropic import AsyncAnthropic

        client = AsyncAnthropic()  # ANTHROPIC_API_KEY
        model = AnthropicModel(client, "claude-…")
    """

    client: Any
    name: str
    max_tokens: int = 4096
    options: Mapping[str, Any] = field(default_factory=dict)
    format: Format = "anthropic"
    messages: list[Any] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.messages.append({"role": "user", "content": question})

    async def turn(self, tools: list[dict[str, Any]]) -> Turn:
        response = await self.client.messages.create(
            model=self.name, max_tokens=self.max_tokens, messages=self.messages, tools=tools
        )
        blocks = get(response, "content")
        self.messages.append({"role": "assistant", "content": blocks})
        calls = [block for block in blocks if get(block, "type") == "tool_use"]
        texts = [get(block, "text") for block in blocks if get(block, "type") == "text"]
        return Turn("".join(texts), calls)

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        # All results go into one message: it has to answer each call of the turn before.
        self.messages.append({"role": "user", "content": list(results)})


@dataclass
class GeminiModel:
    """Google's Gemini API.

    ::

        from google import genai

        client = genai.Client()  # GEMINI_API_KEY
        model = GeminiModel(client, "gemini-…")
    """

    client: Any
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    format: Format = "gemini"
    contents: list[Any] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.contents.append({"role": "user", "parts": [{"text": question}]})

    async def turn(self, tools: list[dict[str, Any]]) -> Turn:
        response = await self.client.aio.models.generate_content(
            model=self.name,
            contents=self.contents,
            config={"tools": list(tools), "automatic_function_calling": {"disable": True}},
        )
        content = get(get(response, "candidates")[0], "content")
        # Whole, with the thought signatures that the model wants to see again.
        self.contents.append(content)
        parts = get(content, "parts") or ()
        calls = [part for part in parts if get(part, "function_call", "functionCall")]
        texts = [get(part, "text") or "" for part in parts if not get(part, "thought")]
        return Turn("".join(texts), calls)

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        self.contents.append({"role": "user", "parts": list(results)})


@dataclass
class ScriptedModel:
    """Stands in for a model of ``api``: says ``steps`` one by one, then repeats what it was told.

    A step is the calls of one turn, each a tool's name and its arguments; the name ``search_tools``
    stands for the search for deferred tools.
    """

    steps: list[list[tuple[str, dict[str, Any]]]]
    api: str = "openai"
    options: Mapping[str, Any] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)

    @property
    def format(self) -> Format:
        return "anthropic" if self.api == "anthropic" else "openai"  # Gemini's script is OpenAI's

    def ask(self, question: str) -> None:
        self.heard.append(question)

    async def turn(self, tools: list[dict[str, Any]]) -> Turn:
        if not self.steps:
            return Turn("\n".join(self.heard[1:]))
        step = enumerate(self.steps.pop(0))
        return Turn("", [self.call(f"call_{n}", name, given) for n, (name, given) in step])

    def call(self, id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The call as the API has it."""
        if self.api == "anthropic":
            return {"type": "tool_use", "id": id, "name": name, "input": arguments}
        if name == "search_tools":
            call = {"type": "tool_search_call", "call_id": id, "execution": "client"}
            return call | {"arguments": arguments}
        function = {"name": name, "arguments": json.dumps(arguments)}
        if self.api == "openai-responses":
            return {"type": "function_call", "call_id": id} | function
        return {"id": id, "type": "function", "function": function}

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        answers = [get(each, "content", "output", "tools") for each in results]
        self.heard += [each if isinstance(each, str) else json.dumps(each) for each in answers]


def get(thing: object, *names: str) -> Any:
    """The first of ``names`` that ``thing`` has, an SDK's object or a dict; ``None`` if none."""
    for name in names:
        found = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
        if found is not None:
            return found
    return None


SCRIPT: list[list[tuple[str, dict[str, Any]]]] = [
    [("search_products", {"query": "kettle"})],
    [("check_stock", {"sku": "KET-100"}), ("top_pages", {"period": "day", "limit": 1})],
]
#: The same where the tools have to be found first.
SEARCHES = ["find products in the catalog", "what is in stock", "the pages that are read most"]
#: Which package has the client of an API, how it is called, and what speaks with it.
CLIENTS: Mapping[str, tuple[str, str, Any]] = {
    "openai": ("openai", "AsyncOpenAI", OpenAIModel),
    "openai-responses": ("openai", "AsyncOpenAI", OpenAIResponsesModel),
    "anthropic": ("anthropic", "AsyncAnthropic", AnthropicModel),
    "gemini": ("google.genai", "Client", GeminiModel),
}


def main() -> int:
    """Ask and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("MCP_DISCOVERY_FACADE", "http://127.0.0.1:4000")
    parser.add_argument("question", help="what to ask the model")
    parser.add_argument("--facade", default=default, help=f"the facade's URL ({default})")
    parser.add_argument("--tag", action="append", help="only servers with this tag; repeatable")
    parser.add_argument("--model", choices=CLIENTS, default="openai", help="the model API (openai)")
    parser.add_argument("--model-name", metavar="NAME", help="the model, as its API calls it")
    parser.add_argument("--defer", action="store_true", help="the model searches for the tools")
    parser.add_argument("--max-turns", type=int, default=10, help="give up after so many (10)")
    parser.add_argument("--scripted", action="store_true", help="a script instead of a model")
    given = parser.parse_args()
    options = {"defer": True} if given.defer else {}
    if given.defer and given.model not in ("openai-responses", "anthropic"):
        parser.error("--defer wants --model openai-responses or anthropic: others have no search")
    if given.scripted:
        steps = [list(step) for step in SCRIPT]
        if given.defer:
            steps.insert(0, [("search_tools", {"query": each}) for each in SEARCHES])
        model: Model = ScriptedModel(steps, given.model, options)
    elif given.model_name is None:
        parser.error("which model? say --model-name, or --scripted to try without one")
    else:
        package, client, adapter = CLIENTS[given.model]
        try:
            model = adapter(getattr(importlib.import_module(package), client)(), given.model_name)
            model.options = {**model.options, **options}
        except ImportError:
            needed = "google-genai" if given.model == "gemini" else package
            parser.error(f"--model {given.model} needs its package: pip install {needed}")
    try:
        answer = run(
            given.question,
            facade=given.facade,
            model=model,
            tags=given.tag,
            max_turns=given.max_turns,
        )
        print(asyncio.run(answer))
    except (DiscoveryError, RuntimeError) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
