"""Tool calls as models make them, and the results and errors that go back to the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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

from mcp_discovery.client.formats.dialects import Format
from mcp_discovery.errors import InvalidInputError

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


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: the API that it came from, its id there, and the name and arguments that the model
    gave.

    ``id`` is ``None`` where the API gave none (Gemini). ``responses`` says that it came from
    OpenAI's Responses API, to which the result goes back in another form, ``search`` that it is
    that API's search for deferred tools.
    """

    format: Format
    id: str | None
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    responses: bool = False
    search: bool = False


class UnreadableCallError(InvalidInputError):
    """A tool call whose arguments are no JSON object.

    ``call`` is the call without its arguments: given to
    :func:`~mcp_discovery.client.formats.render_error`, it makes the model try again.
    """

    def __init__(self, call: ToolCall, problem: str) -> None:
        super().__init__(f"the arguments of the call of {call.name[:200]!r} are {problem}")
        self.call = call


def parse_call(call: object) -> ToolCall:
    """The tool call that ``call`` is: a dict, or an object of an API's SDK.

    Takes an element of ``message.tool_calls`` (OpenAI Chat Completions), an item of type
    ``function_call`` or ``tool_search_call`` (OpenAI Responses), a ``tool_use`` block (Anthropic),
    a part with a ``functionCall`` or that itself (Gemini). Raises :class:`InvalidInputError` when
    it is none of these, or a search that OpenAI makes itself, and :class:`UnreadableCallError` when
    its arguments are no JSON object.
    """
    if isinstance(call, ToolCall):
        return call
    kind = _get(call, "type")
    function = _get(call, "function")
    if function is not None and kind in (None, "function"):
        return _read("openai", _get(call, "id"), function, "arguments")
    if kind == "function_call":
        return _read("openai", _get(call, "call_id"), call, "arguments", responses=True)
    if kind == "tool_search_call":
        if _get(call, "execution") == "server":
            raise InvalidInputError(
                "OpenAI makes this search itself; give calls with execution 'client' alone"
            )
        found = {"name": "tool_search", "arguments": _get(call, "arguments")}
        return _read("openai", _get(call, "call_id"), found, "arguments", search=True)
    if kind == "tool_use":
        return _read("anthropic", _get(call, "id"), call, "input")
    part = _get(call, "functionCall", "function_call")
    if part is not None:
        return _read("gemini", _get(part, "id"), part, "args")
    if kind is None and _has(call, "args") and _has(call, "name"):
        return _read("gemini", _get(call, "id"), call, "args")
    raise InvalidInputError(
        f"{_description(call)} is no tool call; give an element of OpenAI's tool_calls, an item of "
        "type function_call, Anthropic's tool_use block or Gemini's functionCall"
    )


def _read(
    format: Format,
    id: object,
    source: object,
    member: str,
    *,
    responses: bool = False,
    search: bool = False,
) -> ToolCall:
    name = _get(source, "name")
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"{_description(source)} names no tool; a tool call has a name")
    if format != "gemini" and (not isinstance(id, str) or not id):
        raise InvalidInputError(
            f"the call of {name[:200]!r} has no id, without which it has no answer"
        )
    known = id if isinstance(id, str) and id else None
    call = ToolCall(format, known, name, {}, responses or search, search)
    given = _get(source, member)
    if isinstance(given, str):
        try:
            # A function without parameters is called with an empty string by some models.
            given = orjson.loads(given) if given.strip() else {}
        except orjson.JSONDecodeError as error:
            raise UnreadableCallError(call, f"not JSON: {error}") from error
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise UnreadableCallError(call, f"{type(given).__name__}, not a JSON object")
    return replace(call, arguments={str(k): v for k, v in given.items()})


def _has(source: object, name: str) -> bool:
    return name in source if isinstance(source, Mapping) else hasattr(source, name)


def _get(source: object, *names: str) -> Any:
    for name in names:
        found = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if found is not None:
            return found
    return None


def _description(thing: object) -> str:
    if isinstance(thing, Mapping):
        kind = thing.get("type")
        return f"a dict of type {kind[:50]!r}" if isinstance(kind, str) else "this dict"
    return f"this {type(thing).__name__}"


def render_result(call: ToolCall, result: CallToolResult, *, media: bool = False) -> dict[str, Any]:
    """The message that gives the model the ``result`` of ``call``.

    OpenAI: a message with the role ``tool``, or an item ``function_call_output``. Anthropic: a
    ``tool_result`` block for a user message. Gemini: a part with a ``functionResponse``. Images and
    files go along where the API takes them (to Gemini with ``media=True``, which its models take
    from version 3 on); elsewhere a sentence says that there was one. Structured content stands in
    where there is no text.
    """
    parts = [part for block in result.content for part in _parts(call, block, media)]
    if not any(isinstance(part, str) for part in parts) and result.structured_content is not None:
        text = orjson.dumps(result.structured_content, default=str, option=orjson.OPT_NON_STR_KEYS)
        parts.insert(0, text.decode())
    return _message(call, parts or [_NOTHING], failed=bool(result.is_error))


def render_error(call: ToolCall, message: str) -> dict[str, Any]:
    """The message that says to the model that ``call`` could not be made; ``message`` says why."""
    return _message(call, [message], failed=True)


def _parts(call: ToolCall, block: object, media: bool) -> list[str | dict[str, Any]]:
    """The content as texts, and as parts of the API of ``call`` where it takes others."""
    if isinstance(block, TextContent):
        return [block.text] if block.text else []
    if isinstance(block, ImageContent):
        return [_file(call, block.mime_type, block.data, "an image", media)]
    if isinstance(block, AudioContent):
        return [_omission("audio", block.mime_type, block.data)]
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
    return _omission(what, mime_type, data)


def _omission(what: str, mime_type: str, data: str) -> str:
    size = len(data) * 3 // 4
    return f"[{what} ({mime_type}, {size:,} bytes), which cannot be shown here]"


def _message(call: ToolCall, parts: list[str | dict[str, Any]], *, failed: bool) -> dict[str, Any]:
    texts = [part for part in parts if isinstance(part, str)]
    text = "\n".join(texts)
    if call.search:  # whose answer has no place for words
        return search_output(call, ())
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


def search_output(call: ToolCall, tools: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The item that gives OpenAI's model the ``tools`` that its search ``call`` has found."""
    return {
        "type": "tool_search_output",
        "call_id": call.id,
        "execution": "client",
        "status": "completed",
        "tools": list(tools),
    }
