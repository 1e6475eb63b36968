"""Anthropic's models over its own SDK: the Messages API, streamed.

https://platform.claude.com/docs/en/build-with-claude/streaming and the types
``RawMessageStreamEvent``, ``Message`` and ``StopReason`` of its library. The SDK takes its address
from ``ANTHROPIC_BASE_URL``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import httpx2
from anthropic import AnthropicError, AsyncAnthropic
from anthropic.types import Message

from mcp_discovery.ask.model import ModelError, OnText, Stop, TokenUsage, Turn, error_of
from mcp_discovery.ask.providers import Client
from mcp_discovery.client.formats import Format

_TITLE: Final = "Anthropic"
#: Why a model stops, where it has not said all.
_STOPS: Final[Mapping[str, Stop]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "paused",
    "refusal": "refused",
}
#: Models without deferred tools, by how their names begin.
_OLD = ("claude-2", "claude-3", "claude-instant")


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """The SDK's client. The agent retries itself, by one rule for all models."""
    # In a thread: it reads the CAs of this machine.
    async with await asyncio.to_thread(AsyncAnthropic, max_retries=0) as opened:
        yield partial(AnthropicModel, opened)


class AnthropicModel:
    """See :class:`mcp_discovery.ask.model.Model`."""

    format: Final[Format] = "anthropic"
    options: Final[Mapping[str, Any]] = {}

    def __init__(self, sdk: AsyncAnthropic, name: str, instructions: str) -> None:
        self._sdk = sdk
        self._name = name
        self._instructions = instructions
        self._messages: list[Any] = []

    @property
    def defers(self) -> bool:
        """See :class:`mcp_discovery.ask.model.Model`."""
        return self._name.startswith("claude-") and not self._name.startswith(_OLD)

    def ask(self, question: str) -> None:
        """See :class:`mcp_discovery.ask.model.Model`."""
        self._messages.append({"role": "user", "content": question})

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        """See :class:`mcp_discovery.ask.model.Model`."""
        # All results go into one message: it has to answer each call of the turn before.
        self._messages.append({"role": "user", "content": list(results)})

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
            "system": self._instructions,
            "messages": self._messages,
            "tools": list(tools),
            "tool_choice": {"type": "auto" if may_call else "none"},
            "max_tokens": most_tokens,
            "cache_control": {"type": "ephemeral"},
        }
        try:
            async with self._sdk.messages.stream(**request) as stream:
                async for event in stream:
                    if event.type == "text":
                        await on_text(event.text)
                message = await stream.get_final_message()
        except (AnthropicError, httpx2.HTTPError) as error:
            raise error_of(_TITLE, error, kind=getattr(error, "type", None)) from error
        except (ValueError, RuntimeError, AssertionError) as error:
            # Arguments that are no JSON, or events out of order: of the SDK's own reading.
            raise ModelError(
                _TITLE, f"its answer is malformed: {error}", is_passing=True
            ) from error
        if message.stop_reason is None:
            raise ModelError(_TITLE, "its answer broke off", is_passing=True)
        turn = _turn(message)
        self._messages.append(message.to_param())
        return turn


def _turn(message: Message) -> Turn:
    texts = [block.text for block in message.content if block.type == "text"]
    calls = [block for block in message.content if block.type == "tool_use"]
    used = message.usage
    cached = (used.cache_creation_input_tokens or 0) + (used.cache_read_input_tokens or 0)
    usage = TokenUsage(used.input_tokens + cached, used.output_tokens)
    stop = _STOPS.get(message.stop_reason or "", "done")
    details = message.stop_details
    why = (details.explanation or "") if stop == "refused" and details is not None else ""
    return Turn("".join(texts), () if stop == "refused" else calls, usage, stop, why)
