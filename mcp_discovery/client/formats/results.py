"""A tool's result as the message or part that goes back to the model."""

from __future__ import annotations

from typing import Any

import orjson
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from mcp_discovery.client.formats.calls import ToolCall

#: What each API takes beside text in a tool's result. OpenAI: text parts only in a ``tool``
#: message; ``input_image`` and ``input_file`` in a ``function_call_output``. Anthropic: ``image``
#: and ``document`` blocks in a ``tool_result``. Gemini: ``parts`` with ``inlineData`` in a
#: ``functionResponse``, from Gemini 3 on; older models refuse them.
_IMAGES = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
_GEMINI_MEDIA = frozenset(
    ("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain")
)
_PDF = "application/pdf"
_NOTHING = "The tool answered without content."


def render_result(call: ToolCall, result: CallToolResult, *, media: bool = False) -> dict[str, Any]:
    """What tells the model the ``result`` of ``call``.

    OpenAI: a message with the role ``tool``, or an item ``function_call_output``. Anthropic: a
    ``tool_result`` block for a user message. Gemini: a part with a ``functionResponse``. Images and
    files go along where the API takes them (to Gemini with ``media=True``, which its models take
    from version 3 on); elsewhere a sentence says that there was one. Structured content stands in
    where there is no text.
    """
    parts = [part for block in result.content for part in _parts(call, block, media)]
    if not any(isinstance(part, str) for part in parts) and result.structured_content is not None:
        said = orjson.dumps(result.structured_content, default=str, option=orjson.OPT_NON_STR_KEYS)
        parts.insert(0, said.decode())
    return _message(call, parts or [_NOTHING], failed=bool(result.is_error))


def render_error(call: ToolCall, message: str) -> dict[str, Any]:
    """What tells the model in words that ``call`` could not be made; ``message`` says why."""
    return _message(call, [message], failed=True)


def _parts(call: ToolCall, block: object, media: bool) -> list[str | dict[str, Any]]:
    """Texts, and what stands for the rest in the API of ``call``."""
    if isinstance(block, TextContent):
        return [block.text] if block.text else []
    if isinstance(block, ImageContent):
        return [_file(call, block.mime_type, block.data, "an image", media)]
    if isinstance(block, AudioContent):
        return [_told("audio", block.mime_type, block.data)]
    if isinstance(block, ResourceLink):
        about = f" ({block.description})" if block.description else ""
        kind = f", {block.mime_type}" if block.mime_type else ""
        return [f"[resource {block.title or block.name}: {block.uri}{kind}{about}]"]
    if isinstance(block, EmbeddedResource):
        resource = block.resource
        if isinstance(resource, BlobResourceContents):
            kind = resource.mime_type or "application/octet-stream"
            return [_file(call, kind, resource.blob, f"the file {resource.uri}", media)]
        return [f"[{resource.uri}]\n{resource.text}"]
    return [f"[content of the unknown type {type(block).__name__}]"]


def _file(
    call: ToolCall, mime_type: str, data: str, what: str, media: bool
) -> str | dict[str, Any]:
    if call.format == "anthropic" and mime_type in (*_IMAGES, _PDF):
        source = {"type": "base64", "media_type": mime_type, "data": data}
        return {"type": "image" if mime_type in _IMAGES else "document", "source": source}
    if call.responses and mime_type in _IMAGES:
        url = f"data:{mime_type};base64,{data}"
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    if call.responses and mime_type == _PDF:
        url = f"data:{mime_type};base64,{data}"
        return {"type": "input_file", "filename": "result.pdf", "file_data": url}
    if call.format == "gemini" and media and mime_type in _GEMINI_MEDIA:
        return {"inlineData": {"mimeType": mime_type, "data": data}}
    return _told(what, mime_type, data)


def _told(what: str, mime_type: str, data: str) -> str:
    size = len(data) * 3 // 4
    return f"[{what} ({mime_type}, {size:,} bytes), which cannot be shown here]"


def _message(call: ToolCall, parts: list[str | dict[str, Any]], *, failed: bool) -> dict[str, Any]:
    texts = [part for part in parts if isinstance(part, str)]
    text = "\n".join(texts)
    if call.format == "anthropic":
        content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
        return {
            "type": "tool_result",
            "tool_use_id": call.id,
            "content": content,
            "is_error": failed,
        }
    if call.format == "gemini":
        answer: dict[str, Any] = {"name": call.name}
        if call.id is not None:
            answer["id"] = call.id
        answer["response"] = {"error" if failed else "output": text or _NOTHING}
        files = [part for part in parts if not isinstance(part, str)]
        if files:
            answer["response"] = {"error" if failed else "output": text or "see the parts"}
            answer["parts"] = files
        return {"functionResponse": answer}
    if failed:
        # These have no other place for it.
        text = f"Error: {text}"
    if not call.responses:
        return {"role": "tool", "tool_call_id": call.id, "content": text}
    output: str | list[dict[str, Any]] = text
    if len(texts) < len(parts):
        output = [{"type": "input_text", "text": p} if isinstance(p, str) else p for p in parts]
        if failed:
            output.insert(0, {"type": "input_text", "text": "Error:"})
    return {"type": "function_call_output", "call_id": call.id, "output": output}
