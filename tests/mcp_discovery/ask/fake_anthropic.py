"""A fake of Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

from tests.mcp_discovery.ask.fake_models import (
    SEARCH,
    Breaks,
    Fails,
    FailsLate,
    FakeModelServer,
    Hangs,
    Says,
    checked,
    consumed,
    pieces,
)

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)


class FakeAnthropic(FakeModelServer):
    """See :mod:`tests.mcp_discovery.ask.fake_models`."""

    path = "/v1/messages"
    variables = "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"
    provider = "anthropic"

    def check(self, request: dict[str, Any]) -> str | None:
        consumed(_REQUEST.validate_python(request))
        tools = {each["name"] for each in request["tools"]}
        wanted: list[str] = []
        for message in request["messages"]:
            blocks = message["content"] if isinstance(message["content"], list) else []
            if message["role"] == "assistant":
                wanted = [each["id"] for each in blocks if each["type"] == "tool_use"]
                continue
            given = [each["tool_use_id"] for each in blocks if each["type"] == "tool_result"]
            if given != wanted:
                return f"calls {wanted} are answered by {given}"
            for each in blocks:
                for part in each.get("content", ()):
                    if part["type"] == "tool_reference" and part["tool_name"] not in tools:
                        return f"there is no tool {part['tool_name']}"
        if all(each.get("defer_loading") for each in request["tools"]):
            return "at least one tool must not be deferred"
        return None

    def fault(self, planned: Fails | str) -> dict[str, Any]:
        kind = planned if isinstance(planned, str) else planned.kind
        error = {"type": kind, "message": f"{kind} says the fake"}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def events(self, planned: Says | FailsLate | Breaks | Hangs) -> Iterator[tuple[str, Any]]:
        for event in self._events(planned):
            yield event["type"], checked(_EVENT.validate_python(event))
        if isinstance(planned, FailsLate):
            yield "error", self.fault(Fails(200, planned.kind))

    def _events(self, planned: Says | FailsLate | Breaks | Hangs) -> Iterator[dict[str, Any]]:
        read, wrote = planned.usage if isinstance(planned, Says) else (0, 0)
        message = {
            "id": f"msg_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self.requests[-1]["model"],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": read - 400 if read else 0, "output_tokens": 1}
            | ({"cache_read_input_tokens": 400} if read else {}),
        }
        yield {"type": "message_start", "message": message}
        index = 0
        if planned.text:
            first = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": each} for each in pieces(planned.text)]
            yield from self._block(index, first, deltas)
            index += 1
        if not isinstance(planned, Says):
            return
        names = {each["name"] for each in self.requests[-1]["tools"]}
        search = "search_tools" if "search_tools" in names else "find_tools"
        for number, (name, arguments) in enumerate(planned.calls):
            start: dict[str, Any] = {
                "type": "tool_use",
                "id": f"toolu_{len(self.requests)}_{number}",
            }
            start["name"] = search if name == SEARCH else name
            start["input"] = {}
            text = json.dumps(arguments) if planned.raw is None else planned.raw
            parts = [{"type": "input_json_delta", "partial_json": each} for each in pieces(text)]
            yield from self._block(index, start, parts)
            index += 1
        stop = planned.stop or ("tool_use" if planned.calls else "end_turn")
        details = {"type": "refusal", "category": None, "explanation": planned.why}
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None}
            | ({"stop_details": details} if planned.why else {}),
            "usage": {"output_tokens": wrote},
        }
        yield {"type": "message_stop"}

    def _block(
        self, index: int, start: dict[str, Any], deltas: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for each in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": each}
        yield {"type": "content_block_stop", "index": index}
