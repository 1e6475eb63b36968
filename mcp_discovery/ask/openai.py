"""OpenAI's models over its own SDK: the Responses API, streamed, with nothing stored there.

https://developers.openai.com/api/docs/guides/streaming-responses and the types
``ResponseStreamEvent``, ``Response`` and ``ResponseInputItemParam`` of its library. Since nothing
is stored, each request has the whole conversation, the model's reasoning encrypted in it. The SDK
takes its address from ``OPENAI_BASE_URL``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import httpx2
from openai import AsyncOpenAI, OpenAIError
from openai.types.responses import Response

from mcp_discovery.ask.model import ModelError, OnText, TokenUsage, Turn, error_of
from mcp_discovery.ask.providers import Client
from mcp_discovery.client.formats import Format

_TITLE: Final = "OpenAI"
#: Deferred tools are of GPT-5.4 and later.
_DEFERS_FROM = (5, 4)


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """The SDK's client. The agent retries itself, by one rule for all models."""
    # In a thread: it reads the CAs of this machine.
    async with await asyncio.to_thread(AsyncOpenAI, max_retries=0) as opened:
        yield partial(OpenAIModel, opened)


class OpenAIModel:
    """See :class:`mcp_discovery.ask.model.Model`."""

    format: Final[Format] = "openai"
    options: Final[Mapping[str, Any]] = {"api": "responses"}

    def __init__(self, sdk: AsyncOpenAI, name: str, instructions: str) -> None:
        self._sdk = sdk
        self._name = name
        self._instructions = instructions
        self._items: list[Any] = []

    @property
    def defers(self) -> bool:
        """See :class:`mcp_discovery.ask.model.Model`."""
        found = re.match(r"gpt-(\d+)(?:\.(\d+))?", self._name)
        return found is not None and (int(found[1]), int(found[2] or 0)) >= _DEFERS_FROM

    def ask(self, question: str) -> None:
        """See :class:`mcp_discovery.ask.model.Model`."""
        self._items.append({"role": "user", "content": question})

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        """See :class:`mcp_discovery.ask.model.Model`."""
        self._items.extend(results)

    async def turn(
        self,
        tools: Sequence[dict[str, Any]],
        *,
        on_text: OnText,
        most_tokens: int,
        may_call: bool,
    ) -> Turn:
        """See :class:`mcp_discovery.ask.model.Model`."""
        request: Any = {
            "model": self._name,
            "instructions": self._instructions,
            "input": self._items,
            "tools": list(tools),
            "tool_choice": "auto" if may_call else "none",
            "max_output_tokens": most_tokens,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "stream": True,
        }
        response: Response | None = None
        try:
            async with await self._sdk.responses.create(**request) as events:
                async for event in events:
                    match event.type:
                        case "response.output_text.delta" | "response.refusal.delta":
                            await on_text(event.delta)
                        case "response.completed" | "response.incomplete" | "response.failed":
                            response = event.response
                        case "error":
                            raise ModelError(_TITLE, event.message, is_passing=True)
        except (OpenAIError, httpx2.HTTPError) as error:
            raise error_of(_TITLE, error, kind=getattr(error, "code", None)) from error
        if response is None:
            raise ModelError(_TITLE, "its answer broke off", is_passing=True)
        if response.status == "failed":
            code = response.error.code if response.error is not None else "server_error"
            said = response.error.message if response.error is not None else "it failed"
            raise ModelError(
                _TITLE, said, is_passing=code in ("server_error", "rate_limit_exceeded")
            )
        turn = _turn(response)
        self._items.extend(response.output)
        return turn


def _turn(response: Response) -> Turn:
    texts, refusals, calls = [], [], []
    for item in response.output:
        if item.type == "message":
            for part in item.content:
                if part.type == "output_text":
                    texts.append(part.text)
                else:
                    refusals.append(part.refusal)
        elif item.type == "function_call" or (
            item.type == "tool_search_call" and item.execution == "client"
        ):
            calls.append(item)
    used = response.usage
    usage = TokenUsage() if used is None else TokenUsage(used.input_tokens, used.output_tokens)
    text = "".join(texts)
    if refusals:
        return Turn(text, (), usage, "refused", "".join(refusals))
    if response.status == "incomplete":
        details = response.incomplete_details
        if details is not None and details.reason == "content_filter":
            return Turn(text, (), usage, "refused", "its content filter stopped the answer")
        return Turn(text, calls, usage, "length")
    return Turn(text, calls, usage)
