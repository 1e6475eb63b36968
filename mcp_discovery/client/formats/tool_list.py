"""The tools as one model API wants them, with the way back to each tool and its arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args

from mcp_discovery.client.formats import dialects
from mcp_discovery.client.formats.cutter import Cutter
from mcp_discovery.client.formats.dialects import Dialect, Format
from mcp_discovery.client.formats.loose import LooseCutter
from mcp_discovery.client.formats.names import mangled
from mcp_discovery.client.formats.notes import Note
from mcp_discovery.client.formats.place import InexpressibleSchemaError, UnusableSchemaError
from mcp_discovery.client.formats.shape import Shape, restored
from mcp_discovery.client.formats.subset import SubsetCutter
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import InvalidInputError, UnknownToolError

#: What may be said of each format, with its usual value.
_OPTIONS: Mapping[Format, Mapping[str, Any]] = MappingProxyType(
    {
        "openai": {"api": "chat", "strict": False},
        "anthropic": {},
        "gemini": {"json_schema": False},
    }
)
_LONGEST_DESCRIPTION = 16_384

_Way = tuple[Shape | None, Mapping[str, Shape | None]]


class ToolList(list[dict[str, Any]]):
    """The payload for a model API, to be handed to it as it is (``tools=…``).

    ``names`` are the names that the model sees → the tools; ``notes`` say what could not be said in
    this format. Cut it and the notes stay; every name still leads back.
    """

    def __init__(
        self,
        payload: Iterable[dict[str, Any]],
        *,
        format: Format,
        names: Mapping[str, Tool],
        notes: Sequence[Note],
        ways: Mapping[str, _Way],
    ) -> None:
        super().__init__(payload)
        self.format: Format = format
        self.names: Mapping[str, Tool] = MappingProxyType(dict(names))
        self.notes: tuple[Note, ...] = tuple(notes)
        self._ways = dict(ways)

    def tool(self, name: str) -> Tool:
        """The tool that the model calls ``name``; raises :class:`UnknownToolError`."""
        if name not in self.names:
            near = difflib.get_close_matches(name[:200], self.names, n=2)
            raise UnknownToolError(name[:200], "no tool of this list has that name", tuple(near))
        return self.names[name]

    def restore(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """``arguments`` as the model gave them for the tool that it calls ``name`` → as the server
        wants them.

        Members get their own names, encoded parts their values, and ``null`` for an optional member
        that is never null is left out. What does not fit the schema stays, for the server to
        judge. Raises :class:`UnknownToolError`.
        """
        self.tool(name)
        shape, definitions = self._ways[name]
        back: dict[str, Any] = restored(dict(arguments), shape, definitions)
        return back


def export(tools: Sequence[Tool], format: Format, **options: Any) -> ToolList:
    """``tools`` as ``format`` wants them: ``"openai"``, ``"anthropic"`` or ``"gemini"``.

    For OpenAI ``api="responses"`` writes them for the Responses API instead of Chat Completions,
    and ``strict=True`` asks for strict schemas wherever a tool's schema can be said so without
    loss; the others stay as they are, with a note. For Gemini ``json_schema=True`` uses
    ``parametersJsonSchema``, which newer models and SDKs take, instead of ``parameters``.

    A tool whose schema cannot be used at all is left out, with a note. Raises
    :class:`InvalidInputError` for an unknown format or option, with the nearest.
    """
    _known("format", format, get_args(Format))
    given = {**_OPTIONS[format]}
    for option, value in options.items():
        _known(f"option of format {format!r}:", option, tuple(given))
        if option == "api":
            _known("api", value, ("chat", "responses"))
        elif not isinstance(value, bool):
            raise InvalidInputError(f"{option}={value!r} is neither True nor False")
        given[option] = value
    form = dialects.NAME if format == "gemini" else dialects.NAME_ANY_START
    names = mangled(tools, form, dialects.NAME_LIMIT)
    payload: list[dict[str, Any]] = []
    notes: list[Note] = []
    ways: dict[str, _Way] = {}
    kept: dict[str, Tool] = {}
    for name, tool in names.items():
        if name != tool.name:
            notes.append(Note(tool.name, "name", f"the model sees it as {name}"))
        try:
            cutter, schema, shape, strict = _cut(tool, format, given, notes)
        except UnusableSchemaError as why:
            notes.append(Note(tool.name, "", f"it was left out: {why}", narrows=True))
            continue
        notes += (Note(tool.name, each.path, each.said, each.narrows) for each in cutter.remarks)
        payload.append(_entry(name, tool, schema, format, given, strict, notes))
        kept[name], ways[name] = tool, (shape, cutter.shapes)
    limit = dialects.COUNT_LIMITS.get(format, len(payload))
    if len(payload) > limit:
        said = f"{format} takes at most {limit} tools in one request, and these are {len(payload)}"
        notes.append(Note("", "tools", f"{said}; choose by tags, or send a part"))
    if format == "gemini" and payload:
        payload = [{"functionDeclarations": payload}]
    return ToolList(payload, format=format, names=kept, notes=notes, ways=ways)


def _known(what: str, given: object, choices: Sequence[str]) -> None:
    if given in choices:
        return
    near = difflib.get_close_matches(str(given), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(choices) or "nothing, it takes no options"
    raise InvalidInputError(f"{what} {given!r} is none of {listed}{hint}")


def _cut(
    tool: Tool, format: Format, options: Mapping[str, Any], notes: list[Note]
) -> tuple[Cutter, dict[str, Any], Shape | None, bool]:
    if options.get("strict"):
        cutter: Cutter = SubsetCutter(tool.input_schema, dialects.OPENAI_STRICT)
        try:
            return cutter, *cutter.arguments(), True
        except InexpressibleSchemaError as what:
            said = f"strict mode cannot say {what}, so this tool is not strict"
            notes.append(Note(tool.name, "", said))
    if format == "gemini" and not options["json_schema"]:
        cutter = SubsetCutter(tool.input_schema, dialects.GEMINI)
    else:
        cutter = LooseCutter(tool.input_schema, _loose(format))
    return cutter, *cutter.arguments(), False


def _loose(format: Format) -> Dialect:
    if format == "openai":
        return dialects.OPENAI
    return dialects.ANTHROPIC if format == "anthropic" else dialects.GEMINI_JSON


def _entry(
    name: str,
    tool: Tool,
    schema: dict[str, Any],
    format: Format,
    options: Mapping[str, Any],
    strict: bool,
    notes: list[Note],
) -> dict[str, Any]:
    description = tool.description or tool.title or ""
    if len(description) > _LONGEST_DESCRIPTION:
        description = description[: _LONGEST_DESCRIPTION - 1] + "…"
        said = f"it was cut after {_LONGEST_DESCRIPTION:,} characters"
        notes.append(Note(tool.name, "description", said))
    # What is said of the arguments as a whole is read by every model only here.
    whole = schema.pop("description", None)
    if whole and whole not in description:
        description = f"{description}\n\nArguments: {whole}".strip()
    entry: dict[str, Any] = {"name": name, "description": description or tool.own_name}
    if format == "anthropic":
        return entry | {"input_schema": schema}
    if format == "gemini":
        if schema.get("properties") or "additionalProperties" in schema:
            key = "parametersJsonSchema" if options["json_schema"] else "parameters"
            entry[key] = schema
        elif lost := ", ".join(sorted(schema.keys() - {"type", "title", "properties"})):
            said = f"without named members it is a function without parameters; lost: {lost}"
            notes.append(Note(tool.name, "", said, narrows=True))
        return entry
    entry["parameters"] = schema
    if options["api"] == "responses":
        # Left out, the Responses API takes a function to be strict.
        return {"type": "function"} | entry | {"strict": strict}
    if strict:
        entry["strict"] = True
    return {"type": "function", "function": entry}
