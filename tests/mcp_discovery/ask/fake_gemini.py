"""A fake of Gemini's ``streamGenerateContent``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.genai import types

from tests.mcp_discovery.ask.fake_models import (
    SEARCH,
    Breaks,
    Fails,
    FailsLate,
    FakeModelServer,
    Hangs,
    Says,
    checked,
    pieces,
)


class FakeGemini(FakeModelServer):
    """See :mod:`tests.mcp_discovery.ask.fake_models`."""

    path = "/v1/models/{model:[^/:]+}:streamGenerateContent"
    variables = "GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"
    provider = "gemini"

    def check(self, request: dict[str, Any]) -> str | None:
        known = {"contents", "tools", "toolConfig", "systemInstruction", "generationConfig"}
        assert request.keys() <= known, request.keys() - known
        for each in request["contents"]:
            checked(types.Content.model_validate(each))
        for each in request["tools"]:
            checked(types.Tool.model_validate(each))
        checked(types.ToolConfig.model_validate(request["toolConfig"]))
        checked(types.Content.model_validate(request["systemInstruction"]))
        checked(types.GenerationConfig.model_validate(request["generationConfig"]))
        wanted: list[str] = []
        for content in request["contents"]:
            parts = content["parts"]
            if content["role"] == "model":
                wanted = [each["functionCall"]["name"] for each in parts if "functionCall" in each]
                unsigned = [each for each in parts[:1] if "functionCall" in each]
                if any("thoughtSignature" not in each for each in unsigned):
                    return "Function call is missing a thought_signature"
                continue
            given = [
                each["functionResponse"]["name"] for each in parts if "functionResponse" in each
            ]
            if given != wanted:
                return f"calls {wanted} are answered by {given}"
        return None

    def fault(self, planned: Fails | str) -> dict[str, Any]:
        status = 400 if isinstance(planned, str) else planned.status
        kind = planned if isinstance(planned, str) else planned.kind
        error = {"code": status, "message": f"{kind} says the fake", "status": kind.upper()}
        return {"error": error}

    def frame(self, name: str, data: Any) -> bytes:
        return f"data: {json.dumps(data)}\r\n\r\n".encode()

    def events(self, planned: Says | FailsLate | Breaks | Hangs) -> Iterator[tuple[str, Any]]:
        for chunk in self._chunks(planned):
            yield "", checked(types.GenerateContentResponse.model_validate(chunk))
        if isinstance(planned, FailsLate):
            yield "", self.fault(Fails(503, "unavailable"))

    def _chunks(self, planned: Says | FailsLate | Breaks | Hangs) -> Iterator[dict[str, Any]]:
        for piece in pieces(planned.text):
            yield self._chunk([{"text": piece}])
        if not isinstance(planned, Says):
            return
        read, wrote = planned.usage
        usage = {"promptTokenCount": read, "candidatesTokenCount": wrote}
        if planned.stop == "blocked":
            feedback = {"blockReason": "SAFETY", "blockReasonMessage": planned.why}
            yield {"promptFeedback": feedback, "usageMetadata": usage}
            return
        parts: list[dict[str, Any]] = []
        for number, (name, arguments) in enumerate(planned.calls):
            call = {"name": "find_tools" if name == SEARCH else name, "args": dict(arguments)}
            # Only the first of parallel calls is signed.
            parts.append({"functionCall": call} | ({} if number else {"thoughtSignature": "c2ln"}))
        last = self._chunk(parts)
        last["candidates"][0]["finishReason"] = planned.stop or "STOP"
        yield last | {"usageMetadata": usage}

    def _chunk(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
        return {"candidates": [candidate], "modelVersion": "gemini-fake"}
