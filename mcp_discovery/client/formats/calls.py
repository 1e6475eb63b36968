"""A tool call as a model made it, read from whatever its API's answer holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mcp_discovery.client.formats.dialects import Format
from mcp_discovery.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: which API it came from, its id there, the name that the model said, its arguments.

    ``id`` is ``None`` where the API gave none (Gemini). ``responses`` says that it came from
    OpenAI's Responses API, to which the result goes back in another form.
    """

    format: Format
    id: str | None
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    responses: bool = False


class UnreadableCallError(InvalidInputError):
    """A tool call whose arguments are no JSON object.

    ``call`` is the call with no arguments, so that the model can be told with
    :func:`~mcp_discovery.client.formats.render_error`.
    """

    def __init__(self, call: ToolCall, problem: str) -> None:
        super().__init__(f"the arguments of the call of {call.name[:200]!r} are {problem}")
        self.call = call


def parse_call(call: object) -> ToolCall:
    """The tool call that ``call`` is: a dict, or an object of an API's SDK.

    Takes an element of ``message.tool_calls`` (OpenAI Chat Completions), an item of type
    ``function_call`` (OpenAI Responses), a ``tool_use`` block (Anthropic), a part with a
    ``functionCall`` or that itself (Gemini). Raises :class:`InvalidInputError` when it is none of
    these, and :class:`UnreadableCallError` when its arguments are no JSON object.
    """
    if isinstance(call, ToolCall):
        return call
    kind = _get(call, "type")
    function = _get(call, "function")
    if function is not None and kind in (None, "function"):
        return _read("openai", _get(call, "id"), function, "arguments")
    if kind == "function_call":
        return _read("openai", _get(call, "call_id"), call, "arguments", responses=True)
    if kind == "tool_use":
        return _read("anthropic", _get(call, "id"), call, "input")
    part = _get(call, "functionCall", "function_call")
    if part is not None:
        return _read("gemini", _get(part, "id"), part, "args")
    if kind is None and _has(call, "args") and _has(call, "name"):
        return _read("gemini", _get(call, "id"), call, "args")
    raise InvalidInputError(
        f"{_described(call)} is no tool call; give an element of OpenAI's tool_calls, an item of "
        "type function_call, Anthropic's tool_use block or Gemini's functionCall"
    )


def _read(
    format: Format, id: object, source: object, member: str, *, responses: bool = False
) -> ToolCall:
    name = _get(source, "name")
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"{_described(source)} names no tool; a tool call has a name")
    if format != "gemini" and (not isinstance(id, str) or not id):
        raise InvalidInputError(
            f"the call of {name[:200]!r} has no id, without which it has no answer"
        )
    call = ToolCall(format, id if isinstance(id, str) and id else None, name, {}, responses)
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
    return ToolCall(format, call.id, name, {str(k): v for k, v in given.items()}, responses)


def _has(source: object, name: str) -> bool:
    return name in source if isinstance(source, Mapping) else hasattr(source, name)


def _get(source: object, *names: str) -> Any:
    for name in names:
        found = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if found is not None:
            return found
    return None


def _described(thing: object) -> str:
    if isinstance(thing, Mapping):
        kind = thing.get("type")
        return f"a dict of type {kind[:50]!r}" if isinstance(kind, str) else "this dict"
    return f"this {type(thing).__name__}"
