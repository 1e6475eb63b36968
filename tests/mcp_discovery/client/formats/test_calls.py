"""Tool calls as each API and its SDK spell them, and the answers that go back."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel

from mcp_discovery.client.formats import (
    ToolCall,
    UnreadableCallError,
    parse_call,
    render_error,
    render_result,
)
from mcp_discovery.errors import InvalidInputError

CHAT = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": [1, 2]}'},
}
RESPONSES = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "look",
    "arguments": '{"at": [1, 2]}',
    "status": "completed",
}
ANTHROPIC = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, 2]}}
GEMINI = {"functionCall": {"name": "look", "args": {"at": [1, 2]}}, "thoughtSignature": "c2ln"}


def as_object(given: Any, keep: tuple[str, ...] = ("input", "args")) -> Any:
    """``given`` with attributes for keys, as an SDK has it; arguments stay dicts."""
    if not isinstance(given, dict):
        return given
    return SimpleNamespace(
        **{key: each if key in keep else as_object(each) for key, each in given.items()}
    )


class FunctionCall(BaseModel):
    """As google-genai has it."""

    id: str | None = None
    args: dict[str, Any] | None = None
    name: str | None = None


class Part(BaseModel):
    """A part of which only the call matters."""

    text: str | None = None
    function_call: FunctionCall | None = None


@pytest.mark.parametrize(
    ("call", "format", "id", "responses"),
    [
        (CHAT, "openai", "call_1", False),
        (as_object(CHAT), "openai", "call_1", False),
        (RESPONSES, "openai", "call_1", True),
        (as_object(RESPONSES), "openai", "call_1", True),
        (ANTHROPIC, "anthropic", "toolu_1", False),
        (as_object(ANTHROPIC), "anthropic", "toolu_1", False),
        (GEMINI, "gemini", None, False),
        (GEMINI["functionCall"], "gemini", None, False),
        (FunctionCall(id="f1", name="look", args={"at": [1, 2]}), "gemini", "f1", False),
        (
            Part(function_call=FunctionCall(name="look", args={"at": [1, 2]})),
            "gemini",
            None,
            False,
        ),
    ],
)
def test_every_spelling_is_read(call: Any, format: Any, id: str | None, responses: bool) -> None:
    parsed = parse_call(call)
    assert parsed == ToolCall(format, id, "look", {"at": [1, 2]}, responses)
    assert parse_call(parsed) is parsed


@pytest.mark.parametrize("nothing", ["", " ", "{}", None])
def test_a_call_without_arguments(nothing: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": nothing}}
    assert parse_call(call).arguments == {}
    assert parse_call(FunctionCall(name="look")).arguments == {}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (None, "this NoneType is no tool call"),
        ("look()", "this str is no tool call"),
        ({}, "this dict is no tool call"),
        ({"type": "text", "text": "hi"}, "a dict of type 'text' is no tool call"),
        ({"type": "server_tool_use", "id": "s", "name": "n", "input": {}}, "no tool call"),
        ({**ANTHROPIC, "name": ""}, "names no tool"),
        ({**ANTHROPIC, "id": None}, "the call of 'look' has no id"),
        (object(), "this object is no tool call"),
        (Part(text="hi"), "this Part is no tool call"),
    ],
)
def test_what_is_no_call_is_said_in_a_sentence(call: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        parse_call(call)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("{at: 1}", "not JSON"), ("[1]", "list, not a JSON object"), ("[" * 5000, "not JSON")],
)
def test_arguments_that_are_no_object_can_be_told_to_the_model(arguments: str, said: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    with pytest.raises(UnreadableCallError, match=said) as caught:
        parse_call(call)
    told = render_error(caught.value.call, str(caught.value))
    assert (told["role"], told["tool_call_id"]) == ("tool", "c1")
    assert "the arguments of the call of 'look' are" in told["content"]


CALLS = {
    "chat": parse_call(CHAT),
    "responses": parse_call(RESPONSES),
    "anthropic": parse_call(ANTHROPIC),
    "gemini": parse_call(GEMINI),
}


def test_text_in_each_api() -> None:
    result = CallToolResult(content=[TextContent(text="one"), TextContent(text="two")])
    assert {name: render_result(call, result) for name, call in CALLS.items()} == {
        "chat": {"role": "tool", "tool_call_id": "call_1", "content": "one\ntwo"},
        "responses": {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": "one\ntwo",
        },
        "anthropic": {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
            "is_error": False,
        },
        "gemini": {"functionResponse": {"name": "look", "response": {"output": "one\ntwo"}}},
    }


def test_an_error_in_each_api() -> None:
    failed = CallToolResult(content=[TextContent(text="no such thing")], is_error=True)
    for call in CALLS.values():
        assert render_result(call, failed) == render_error(call, "no such thing")
    assert render_error(CALLS["chat"], "gone")["content"] == "Error: gone"
    assert render_error(CALLS["responses"], "gone")["output"] == "Error: gone"
    assert render_error(CALLS["anthropic"], "gone")["is_error"] is True
    assert render_error(CALLS["gemini"], "gone") == {
        "functionResponse": {"name": "look", "response": {"error": "gone"}}
    }


def test_a_gemini_id_goes_back() -> None:
    call = parse_call({"functionCall": {"id": "f7", "name": "look", "args": {}}})
    assert render_error(call, "gone")["functionResponse"]["id"] == "f7"


def test_structured_content_stands_in_where_there_is_no_text() -> None:
    both = CallToolResult(content=[TextContent(text="2 pieces")], structured_content={"n": 2})
    alone = CallToolResult(content=[], structured_content={"n": 2})
    nothing = CallToolResult(content=[TextContent(text="")])
    chat = CALLS["chat"]
    assert render_result(chat, both)["content"] == "2 pieces"
    assert render_result(chat, alone)["content"] == '{"n":2}'
    assert render_result(chat, nothing)["content"] == "The tool answered without content."


PIXEL = base64.b64encode(b"\x89PNG pretend").decode()
MIXED = CallToolResult(
    content=[
        TextContent(text="look:"),
        ImageContent(data=PIXEL, mime_type="image/png"),
        AudioContent(data=PIXEL, mime_type="audio/wav"),
        ResourceLink(name="manual", uri="file:///manual.pdf", mime_type="application/pdf"),
        EmbeddedResource(
            resource=BlobResourceContents(uri="x://a", mime_type="application/pdf", blob=PIXEL)
        ),
        EmbeddedResource(resource=TextResourceContents(uri="x://b", text="inside")),
    ]
)
AUDIO = "[audio (audio/wav, 12 bytes), which cannot be shown here]"
LINK = "[resource manual: file:///manual.pdf, application/pdf]"
INSIDE = "[x://b]\ninside"


def test_images_and_files_go_where_they_are_taken() -> None:
    url = f"base64,{PIXEL}"
    assert render_result(CALLS["anthropic"], MIXED)["content"] == [
        {"type": "text", "text": "look:"},
        {"type": "image", "source": _base64("image/png")},
        {"type": "text", "text": AUDIO},
        {"type": "text", "text": LINK},
        {"type": "document", "source": _base64("application/pdf")},
        {"type": "text", "text": INSIDE},
    ]
    assert render_result(CALLS["responses"], MIXED)["output"] == [
        {"type": "input_text", "text": "look:"},
        {"type": "input_image", "image_url": f"data:image/png;{url}", "detail": "auto"},
        {"type": "input_text", "text": AUDIO},
        {"type": "input_text", "text": LINK},
        {
            "type": "input_file",
            "filename": "result.pdf",
            "file_data": f"data:application/pdf;{url}",
        },
        {"type": "input_text", "text": INSIDE},
    ]


def test_elsewhere_a_sentence_says_that_there_was_one() -> None:
    image = "[an image (image/png, 12 bytes), which cannot be shown here]"
    file = "[the file x://a (application/pdf, 12 bytes), which cannot be shown here]"
    whole = "\n".join(("look:", image, AUDIO, LINK, file, INSIDE))
    assert render_result(CALLS["chat"], MIXED)["content"] == whole
    gemini = CALLS["gemini"]
    assert render_result(gemini, MIXED)["functionResponse"]["response"] == {"output": whole}
    shown = render_result(gemini, MIXED, media=True)["functionResponse"]
    assert shown["response"] == {"output": "\n".join(("look:", AUDIO, LINK, INSIDE))}
    assert shown["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}},
    ]


def _base64(mime_type: str) -> dict[str, str]:
    return {"type": "base64", "media_type": mime_type, "data": PIXEL}
