"""Results of tools, cut to what a model is to read and a person is shown."""

from __future__ import annotations

import orjson
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

#: The largest image or file that a model is given, in characters of base64.
_LARGEST_FILE = 4 * 2**20


def cut(result: CallToolResult, most: int) -> CallToolResult:
    """``result`` with at most ``most`` characters of text, and with no large file."""
    left = most  # -1 from where it was cut on
    content = []
    if result.structured_content is not None and not any(
        isinstance(each, TextContent) for each in result.content
    ):
        text = orjson.dumps(
            result.structured_content, default=str, option=orjson.OPT_NON_STR_KEYS
        ).decode()
        result = result.model_copy(
            update={"content": [TextContent(type="text", text=text), *result.content]}
        )
    for block in result.content:
        match block:
            case TextContent() | EmbeddedResource(resource=TextResourceContents()) if left < 0:
                continue
            case TextContent():
                shown, left = _shortened(block.text, left)
                block = TextContent(type="text", text=shown)
            case EmbeddedResource(resource=TextResourceContents() as resource):
                shown, left = _shortened(resource.text, left)
                kept = resource.model_copy(update={"text": shown})
                block = block.model_copy(update={"resource": kept})
            case ImageContent(data=data) | AudioContent(data=data) if len(data) > _LARGEST_FILE:
                block = _left_out(len(data))
            case EmbeddedResource(resource=BlobResourceContents(blob=data)) if (
                len(data) > _LARGEST_FILE
            ):
                block = _left_out(len(data))
        content.append(block)
    return result.model_copy(update={"content": content, "structured_content": None})


def text_of(result: CallToolResult, most: int) -> str:
    """The beginning of what ``result`` says, for people, of at most ``most`` characters."""
    texts = []
    for block in result.content:
        match block:
            case TextContent():
                texts.append(block.text)
            case EmbeddedResource(resource=TextResourceContents() as resource):
                texts.append(resource.text)
            case _:
                texts.append(f"[{block.type}]")
    text = "\n".join(texts)
    return text if len(text) <= most else text[: most - 1] + "…"


def _shortened(text: str, left: int) -> tuple[str, int]:
    if len(text) <= left:
        return text, left - len(text)
    return f"{text[:left]}\n[cut: more than is read of a result]", -1


def _left_out(size: int) -> TextContent:
    said = f"[a file of {size * 3 // 4:,} bytes, which is too large to be shown]"
    return TextContent(type="text", text=said)
