"""The tools as one model API wants them, with the way back to each tool and its arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from mcp_discovery.client.formats import dialects
from mcp_discovery.client.formats.arguments import Restoration, restored
from mcp_discovery.client.formats.conversion import (
    InexpressibleSchemaError,
    Note,
    SchemaConversion,
    UnusableSchemaError,
)
from mcp_discovery.client.formats.dialects import Dialect, Format
from mcp_discovery.client.formats.json_schema import JsonSchemaConversion
from mcp_discovery.client.formats.plain_types import PlainTypeConversion
from mcp_discovery.client.formats.schema import Schema
from mcp_discovery.client.settings import require_choice
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import InvalidInputError, UnknownToolError
from mcp_discovery.nearest import all_nearest

#: The options of each format, with their defaults.
_OPTIONS: Mapping[Format, Mapping[str, Any]] = MappingProxyType(
    {
        "openai": {"api": "chat", "strict": False},
        "anthropic": {},
        "gemini": {"json_schema": False},
    }
)
_LONGEST_DESCRIPTION = 16_384


class _Conversion(NamedTuple):
    """A tool, its converted schema, and what restores the arguments of its calls."""

    tool: Tool
    schema: Schema
    strict: bool
    arguments: Restoration | None
    definitions: Mapping[str, Restoration | None]


class ExportedTool(NamedTuple):
    """A tool's entry in the payload, and what restores the arguments of its calls."""

    entry: dict[str, Any]
    tool: Tool
    arguments: Restoration | None
    definitions: Mapping[str, Restoration | None]


class ToolList(list[dict[str, Any]]):
    """The payload for a model API, to be handed to it as it is (``tools=…``).

    ``names`` are the names that the model sees → the tools; ``notes`` say what could not be said in
    this format. A part of the list may be sent; the notes stay, and every name still leads back.
    """

    def __init__(
        self,
        payload: Iterable[dict[str, Any]],
        *,
        format: Format,
        exported: Mapping[str, ExportedTool],
        notes: Sequence[Note],
    ) -> None:
        super().__init__(payload)
        self.format: Format = format
        self.names: Mapping[str, Tool] = MappingProxyType(
            {name: each.tool for name, each in exported.items()}
        )
        self.notes: tuple[Note, ...] = tuple(notes)
        self._exported = dict(exported)

    def tool(self, name: str) -> Tool:
        """The tool that the model calls ``name``; raises :class:`UnknownToolError`."""
        if name not in self.names:
            near = all_nearest(name, self.names, most=2)
            raise UnknownToolError(name[:200], "no tool of this list has that name", near)
        return self.names[name]

    def restore(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """``arguments`` as the model gave them for the tool that it calls ``name`` → as the server
        expects them.

        Members get their own names, encoded parts their values, and ``null`` for an optional member
        that is never null is left out. What does not fit the schema stays, for the server to
        judge. Raises :class:`UnknownToolError`.
        """
        self.tool(name)
        found = self._exported[name]
        result: dict[str, Any] = restored(dict(arguments), found.arguments, found.definitions)
        return result


def export(tools: Sequence[Tool], format: Format, **options: Any) -> ToolList:
    """``tools`` as ``format`` wants them: ``"openai"``, ``"anthropic"`` or ``"gemini"``.

    For OpenAI ``api="responses"`` writes them for the Responses API instead of Chat Completions,
    and ``strict=True`` asks for strict schemas wherever a tool's schema can be said so without
    loss; the others stay as they are, with a note. For Gemini ``json_schema=True`` uses
    ``parametersJsonSchema``, which newer models and SDKs take, instead of ``parameters``.

    A tool whose schema cannot be used at all is left out, with a note. Raises
    :class:`InvalidInputError` for an unknown format or option, with the nearest.
    """
    exporter = Exporter(format, options)
    payload: list[dict[str, Any]] = []
    exported: dict[str, ExportedTool] = {}
    for name, tool in exporter.names(tools).items():
        if (found := exporter.exported(name, tool)) is not None:
            exported[name] = found
            payload.append(found.entry)
    limit = dialects.COUNT_LIMITS.get(format, len(payload))
    if len(payload) > limit:
        message = f"{format} takes at most {limit} tools in one request, and these are"
        message = f"{message} {len(payload)}; choose by tags, or send a part"
        exporter.notes.append(Note("", "tools", message))
    if format == "gemini" and payload:
        payload = [{"functionDeclarations": payload}]
    return ToolList(payload, format=format, exported=exported, notes=exporter.notes)


class Exporter:
    """Exports tools one by one; ``notes`` say what cannot be said.

    Raises :class:`InvalidInputError` for an unknown format or option, with the nearest.
    """

    def __init__(self, format: Format, options: Mapping[str, Any]) -> None:
        require_choice("format", format, get_args(Format))
        self._format = format
        self._options = {**_OPTIONS[format]}
        for option, value in options.items():
            require_choice(f"option of format {format!r}:", option, tuple(self._options))
            if option == "api":
                require_choice("api", value, ("chat", "responses"))
            elif not isinstance(value, bool):
                raise InvalidInputError(f"{option}={value!r} is neither True nor False")
            self._options[option] = value
        self.notes: list[Note] = []

    def names(self, tools: Sequence[Tool], *, taken: Collection[str] = ()) -> dict[str, Tool]:
        """The name by which the model calls each tool; none of ``taken``."""
        form = dialects.NAME if self._format == "gemini" else dialects.NAME_ANY_START
        found = dialects.tool_names(tools, form, taken)
        self.notes += [
            Note(tool.name, "name", f"the model sees it as {name}")
            for name, tool in found.items()
            if name != tool.name
        ]
        return found

    def exported(self, name: str, tool: Tool) -> ExportedTool | None:
        """``tool`` as the model is given it under ``name``; ``None`` where it cannot be used."""
        try:
            conversion = self._converted(tool)
        except UnusableSchemaError as why:
            self.notes.append(Note(tool.name, "", f"it was left out: {why}", narrows=True))
            return None
        entry = _entry(name, conversion, self._format, self._options, self.notes)
        return ExportedTool(entry, tool, conversion.arguments, conversion.definitions)

    def _converted(self, tool: Tool) -> _Conversion:
        if self._options.get("strict"):
            try:
                return _convert(tool, dialects.OPENAI_STRICT, self.notes)
            except InexpressibleSchemaError as what:
                message = f"strict mode cannot say {what}, so this tool is not strict"
                self.notes.append(Note(tool.name, "", message))
        if self._format == "gemini":
            dialect = dialects.GEMINI_JSON if self._options["json_schema"] else dialects.GEMINI
        else:
            dialect = dialects.OPENAI if self._format == "openai" else dialects.ANTHROPIC
        return _convert(tool, dialect, self.notes)


def _convert(tool: Tool, dialect: Dialect, notes: list[Note]) -> _Conversion:
    kind = PlainTypeConversion if dialect.plain else JsonSchemaConversion
    conversion: SchemaConversion = kind(tool.name, tool.input_schema, dialect)
    schema, arguments = conversion.arguments()
    notes += conversion.notes
    return _Conversion(tool, schema, dialect.strict, arguments, conversion.definitions)


def _entry(
    name: str,
    exported: _Conversion,
    format: Format,
    options: Mapping[str, Any],
    notes: list[Note],
) -> dict[str, Any]:
    tool, schema = exported.tool, exported.schema
    description = tool.description or tool.title or ""
    if len(description) > _LONGEST_DESCRIPTION:
        description = description[: _LONGEST_DESCRIPTION - 1] + "…"
        message = f"it was cut after {_LONGEST_DESCRIPTION:,} characters"
        notes.append(Note(tool.name, "description", message))
    # Models read a description of the arguments as a whole only here.
    whole = schema.pop("description", None)
    if whole and whole not in description:
        description = f"{description}\n\nArguments: {whole}".strip()
    entry: dict[str, Any] = {"name": name, "description": description or tool.own_name}
    if format == "anthropic":
        return entry | {"input_schema": schema}
    if format == "gemini":
        if schema.get("properties") or "additionalProperties" in schema:
            entry["parametersJsonSchema" if options["json_schema"] else "parameters"] = schema
        elif lost := ", ".join(sorted(schema.keys() - {"type", "title", "properties"})):
            message = f"without named members it is a function without parameters; lost: {lost}"
            notes.append(Note(tool.name, "", message, narrows=True))
        return entry
    entry["parameters"] = schema
    if options["api"] == "responses":
        # Left out, the Responses API takes a function to be strict.
        return {"type": "function"} | entry | {"strict": exported.strict}
    if exported.strict:
        entry["strict"] = True
    return {"type": "function", "function": entry}
