"""Google's Gemini models over its own SDK: ``streamGenerateContent``.

https://ai.google.dev/api/generate-content and the types ``GenerateContentResponse`` and
``FinishReason`` of its library. The SDK takes its address from ``GOOGLE_GEMINI_BASE_URL``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import aiohttp
import httpx2
from google import genai
from google.genai import errors, types

from mcp_discovery.ask.model import ModelError, OnText, TokenUsage, Turn, error_of
from mcp_discovery.ask.providers import Client
from mcp_discovery.client.formats import Format

_TITLE: Final = "Gemini"
#: The model made a call that cannot be read; asked again, it may make one that can.
_MALFORMED: Final = frozenset(
    (
        types.FinishReason.MALFORMED_FUNCTION_CALL,
        types.FinishReason.UNEXPECTED_TOOL_CALL,
        types.FinishReason.MALFORMED_RESPONSE,
    )
)
_ENDED: Final = frozenset((types.FinishReason.STOP, types.FinishReason.MAX_TOKENS))


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """The SDK's client. The agent retries itself, by one rule for all models."""
    sdk = genai.Client(http_options={"retry_options": {"attempts": 1}})
    try:
        yield partial(GeminiModel, sdk)
    finally:
        await sdk.aio.aclose()


class GeminiModel:
    """See :class:`mcp_discovery.ask.model.Model`."""

    format: Final[Format] = "gemini"
    options: Final[Mapping[str, Any]] = {}
    defers: Final = False

    def __init__(self, sdk: genai.Client, name: str, instructions: str) -> None:
        self._sdk = sdk
        self._name = name
        self._instructions = instructions
        self._contents: list[Any] = []

    def ask(self, question: str) -> None:
        """See :class:`mcp_discovery.ask.model.Model`."""
        self._contents.append({"role": "user", "parts": [{"text": question}]})

    def answer(self, results: Sequence[dict[str, Any]]) -> None:
        """See :class:`mcp_discovery.ask.model.Model`."""
        self._contents.append({"role": "user", "parts": list(results)})

    async def turn(
        self,
        tools: Sequence[dict[str, Any]],
        *,
        on_text: OnText,
        most_tokens: int,
        may_call: bool,
    ) -> Turn:
        """See :class:`mcp_discovery.ask.model.Model`."""
        mode = "AUTO" if may_call else "NONE"
        config: Any = {
            "system_instruction": self._instructions,
            "tools": list(tools),
            "tool_config": {"function_calling_config": {"mode": mode}},
            "automatic_function_calling": {"disable": True},
            "max_output_tokens": most_tokens,
        }
        said = _Said()
        try:
            stream = await self._sdk.aio.models.generate_content_stream(
                model=self._name, contents=self._contents, config=config
            )
            async for chunk in stream:
                if text := said.take(chunk):
                    await on_text(text)
        except (errors.APIError, aiohttp.ClientError, httpx2.HTTPError, ValueError) as error:
            raise error_of(_TITLE, error) from error
        turn = said.turn()
        # Whole, with the thought signatures that the model wants to see again.
        self._contents.append(types.Content(role="model", parts=said.parts))
        return turn


class _Said:
    """What the chunks of one answer say together."""

    def __init__(self) -> None:
        self.parts: list[types.Part] = []
        self._finish: types.FinishReason | None = None
        self._why = ""
        self._usage = TokenUsage()

    def take(self, chunk: types.GenerateContentResponse) -> str:
        """Takes one chunk; returns the text in it."""
        if (used := chunk.usage_metadata) is not None:
            wrote = (used.candidates_token_count or 0) + (used.thoughts_token_count or 0)
            self._usage = TokenUsage(used.prompt_token_count or 0, wrote)
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            self._finish = types.FinishReason.PROHIBITED_CONTENT
            self._why = feedback.block_reason_message or feedback.block_reason.value
        text = ""
        for candidate in (chunk.candidates or ())[:1]:
            if candidate.finish_reason is not None:
                self._finish = candidate.finish_reason
                self._why = candidate.finish_message or self._why
            for part in (candidate.content.parts if candidate.content else None) or ():
                self._add(part)
                if part.text and not part.thought:
                    text += part.text
        return text

    def _add(self, part: types.Part) -> None:
        """Adds ``part``; a text that goes on is one part with what it goes on from."""
        last = self.parts[-1] if self.parts else None
        if last is not None and _is_plain(last) and _is_plain(part):
            last.text = (last.text or "") + (part.text or "")
        else:
            self.parts.append(part.model_copy())

    def turn(self) -> Turn:
        """The turn; raises :class:`ModelError` where it cannot be read, or has no end."""
        finish = self._finish
        if finish is None:
            raise ModelError(_TITLE, "its answer broke off", is_passing=True)
        if finish in _MALFORMED:
            why = self._why or f"it ended with {finish.value}"
            raise ModelError(_TITLE, f"its answer is malformed: {why}", is_passing=True)
        text = "".join(part.text or "" for part in self.parts if not part.thought)
        if finish not in _ENDED:
            return Turn(text, (), self._usage, "refused", self._why or finish.value)
        calls = [part for part in self.parts if part.function_call is not None]
        stop = "length" if finish is types.FinishReason.MAX_TOKENS else "done"
        return Turn(text, calls, self._usage, "length" if stop == "length" else "done")


def _is_plain(part: types.Part) -> bool:
    """Whether it is a text and nothing else."""
    return part.text is not None and not part.thought and part.thought_signature is None
