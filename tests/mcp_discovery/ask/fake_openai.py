"""A fake of OpenAI's Responses API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
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

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_REQUEST: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)


class FakeOpenAI(FakeModelServer):
    """See :mod:`tests.mcp_discovery.ask.fake_models`."""

    path = "/v1/responses"
    variables = "OPENAI_BASE_URL", "OPENAI_API_KEY"
    provider = "openai"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def check(self, request: dict[str, Any]) -> str | None:
        consumed(_REQUEST.validate_python(request))
        wanted = [
            (item["type"].removesuffix("_call"), item["call_id"])
            for item in request["input"]
            if str(item.get("type")).endswith("_call")
        ]
        given = [
            (item["type"].removesuffix("_call_output").removesuffix("_output"), item["call_id"])
            for item in request["input"]
            if str(item.get("type")).endswith("_output")
        ]
        return None if wanted == given else f"calls {wanted} are answered by {given}"

    def fault(self, planned: Fails | str) -> dict[str, Any]:
        kind = planned if isinstance(planned, str) else planned.kind
        error = {"message": f"{kind} says the fake", "type": kind, "param": None, "code": kind}
        return {"error": error}

    def events(self, planned: Says | FailsLate | Breaks | Hangs) -> Iterator[tuple[str, Any]]:
        for number, (name, data) in enumerate(self._events(planned)):
            event = {"type": name, "sequence_number": number, **data}
            yield name, checked(_EVENT.validate_python(event))

    def _events(
        self, planned: Says | FailsLate | Breaks | Hangs
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "response.created", {"response": self._response("in_progress", [])}
        output: list[dict[str, Any]] = []
        if planned.text:
            yield from self._text(planned.text, output)
        match planned:
            case FailsLate(kind=kind):
                error = {"code": kind, "message": "it failed in the middle"}
                response = self._response("failed", output) | {"error": error}
                yield "response.failed", {"response": response}
            case Says():
                yield from self._calls(planned, output)
                yield self._end(planned, output)

    def _text(
        self, text: str, output: list[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
        at = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
        started = {"output_index": 0, "item": item | {"status": "in_progress"}}
        yield "response.output_item.added", started
        part = {"type": "output_text", "text": "", "annotations": []}
        yield "response.content_part.added", {**at, "part": part}
        for piece in pieces(text):
            yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**at, "text": text, "logprobs": []}
        part = part | {"text": text}
        yield "response.content_part.done", {**at, "part": part}
        done = item | {"status": "completed", "content": [part]}
        output.append(done)
        yield "response.output_item.done", {"output_index": 0, "item": done}

    def _calls(
        self, says: Says, output: list[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        turn = len(self.requests)
        for number, (name, arguments) in enumerate(says.calls):
            id, index = f"{turn}_{number}", len(output)
            if name == SEARCH and self._has_search:
                item: dict[str, Any] = {
                    "type": "tool_search_call",
                    "id": f"ts_{id}",
                    "call_id": f"call_{id}",
                }
                item |= {"execution": "client", "status": "completed", "arguments": arguments}
                yield "response.output_item.added", {"output_index": index, "item": item}
            else:
                name = "find_tools" if name == SEARCH else name
                text = json.dumps(arguments) if says.raw is None else says.raw
                item = {"type": "function_call", "id": f"fc_{id}", "call_id": f"call_{id}"}
                item |= {"name": name, "arguments": "", "status": "in_progress"}
                yield "response.output_item.added", {"output_index": index, "item": item}
                at = {"output_index": index, "item_id": f"fc_{id}"}
                for piece in pieces(text):
                    yield "response.function_call_arguments.delta", {**at, "delta": piece}
                yield "response.function_call_arguments.done", {**at, "arguments": text}
                item = item | {"arguments": text, "status": "completed"}
            output.append(item)
            yield "response.output_item.done", {"output_index": index, "item": item}

    @property
    def _has_search(self) -> bool:
        return any(each["type"] == "tool_search" for each in self.requests[-1]["tools"])

    def _end(self, says: Says, output: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        read, wrote = says.usage
        usage = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": wrote,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + wrote,
        }
        if says.stop == "refusal":
            part = {"type": "refusal", "refusal": says.why}
            item = {"type": "message", "id": "msg_2", "role": "assistant", "content": [part]}
            output = [*output, item | {"status": "completed"}]
        elif says.stop is not None:
            response = self._response("incomplete", output) | {"usage": usage}
            response |= {"incomplete_details": {"reason": says.stop}}
            return "response.incomplete", {"response": response}
        response = self._response("completed", output) | {"usage": usage}
        return "response.completed", {"response": response}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"resp_{len(self.requests)}",
            "object": "response",
            "created_at": 1,
            "status": status,
            "model": self.requests[-1]["model"],
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
