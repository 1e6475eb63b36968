"""What is left of a tool's result for a model and for people."""

from __future__ import annotations

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

from mcp_discovery.ask.results import cut, text_of

LARGE = "A" * (4 * 2**20 + 4)


def _texts(result: CallToolResult) -> list[str]:
    return [each.text for each in result.content if isinstance(each, TextContent)]


def test_what_fits_stays_as_it_is() -> None:
    image = ImageContent(type="image", data="AAAA", mime_type="image/png")
    result = CallToolResult(content=[TextContent(type="text", text="abc"), image], is_error=True)
    assert cut(result, 3) == result
    assert text_of(result, 100) == "abc\n[image]" and text_of(result, 5) == "abc\n…"


def test_text_is_cut_once_and_what_comes_after_is_left_out() -> None:
    resource = TextResourceContents(uri="x://y", text="z" * 9)
    embedded = EmbeddedResource(type="resource", resource=resource)
    texts = [TextContent(type="text", text="a" * 9) for _ in range(2)]
    found = cut(CallToolResult(content=[*texts, embedded]), 12)
    assert _texts(found) == ["a" * 9, "aaa\n[cut: more than is read of a result]"]
    assert len(found.content) == 2
    (kept,) = cut(CallToolResult(content=[embedded]), 4).content
    assert isinstance(kept, EmbeddedResource) and isinstance(kept.resource, TextResourceContents)
    assert kept.resource.text == "zzzz\n[cut: more than is read of a result]"


def test_structured_content_is_text_where_there_is_none() -> None:
    found = cut(CallToolResult(content=[], structured_content={"n": 1}), 100)
    assert _texts(found) == ['{"n":1}'] and found.structured_content is None


def test_large_files_are_told_and_not_sent() -> None:
    blob = BlobResourceContents(uri="x://y", blob=LARGE)
    content = [
        ImageContent(type="image", data=LARGE, mime_type="image/png"),
        AudioContent(type="audio", data=LARGE, mime_type="audio/wav"),
        EmbeddedResource(type="resource", resource=blob),
    ]
    found = cut(CallToolResult(content=content), 1000)
    assert _texts(found) == ["[a file of 3,145,731 bytes, which is too large to be shown]"] * 3
