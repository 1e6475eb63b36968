"""The base of the facade's own MCP tools: definition, arguments and filters, results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

import orjson

from mcp_discovery.adapters.view import View
from mcp_discovery.disconnects import ClientGoneError
from mcp_discovery.errors import DiscoveryError, Remedy
from mcp_discovery.facade.access.caller import Caller
from mcp_discovery.facade.access.rights import Verb
from mcp_discovery.facade.servers.unmatched import of_other_status, unknown_values
from mcp_discovery.mcp_messages import JsonRpcError
from mcp_discovery.nearest import nearest
from mcp_discovery.plural import counted
from mcp_discovery.query.filters import FILTERS, Filter, InvalidFilterValueError
from mcp_discovery.query.query import Query
from mcp_discovery.query.question import MAX_TEXT, Question
from mcp_discovery.query.versions import MAX_RANGE

_TYPES: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": ("a whole number", lambda value: type(value) is int),
    "number": ("a number", lambda value: type(value) in (int, float)),
    "array": ("an array", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, dict)),
}


#: What would help, as a client of ``/mcp`` can do it.
_REMEDIES: Final[Mapping[Remedy, str]] = {
    Remedy.CREDENTIALS: (
        "this facade has none for it; connect to it directly, at the url that find_servers tells"
    ),
    Remedy.ALLOW_COMMAND: "a facade starts none; run it where you are",
    Remedy.OTHER_SERVERS: "find_servers tells which there are",
    Remedy.LARGER_ANSWERS: (
        "ask for less, or connect to it directly, at the url that find_servers tells"
    ),
}


class InvalidArgumentsError(DiscoveryError):
    """Invalid arguments; ``str()`` is one sentence that says what to do."""


def read_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` with the defaults of ``schema``; ``null`` counts as absent.

    ``schema`` is an object's JSON Schema with the keywords that the facade's own tools use.
    Raises :class:`InvalidArgumentsError`.
    """
    properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
    for name in arguments:
        if name not in properties:
            problem = f"there is no argument {name[:100]!r}"
            raise InvalidArgumentsError(f"{problem}; {_suggestion(name, properties)}")
    for name in schema.get("required", ()):
        if arguments.get(name) is None:
            about = properties[name]["description"].rstrip(".")
            raise InvalidArgumentsError(f"the argument {name!r} is missing; it is needed ({about})")
    checked = {}
    for name, spec in properties.items():
        value = arguments.get(name)
        if value is None:
            value = spec.get("default")
        else:
            _check(name, value, spec)
        checked[name] = value
    return checked


def _check(name: str, value: Any, spec: Mapping[str, Any]) -> None:
    kind, fits = _TYPES[spec["type"]]
    if not fits(value):
        raise InvalidArgumentsError(f"{name} must be {kind}, not {_described(value)}")
    match spec["type"]:
        case "string":
            allowed = spec.get("enum")
            if allowed is not None and value not in allowed:
                raise InvalidArgumentsError(
                    f"{name} cannot be {value[:100]!r}; {_suggestion(value, allowed)}"
                )
            longest = spec.get("maxLength", 1000)
            if not spec.get("minLength", 0) <= len(value) <= longest:
                problem = "is empty" if not value else f"is over {longest:,} characters"
                raise InvalidArgumentsError(
                    f"{name} {problem}; leave it out or write something else"
                )
        case "integer" | "number":
            least, most = spec["minimum"], spec["maximum"]
            if not least <= value <= most:
                raise InvalidArgumentsError(
                    f"{name} must be from {least:,} to {most:,}, not {value}"
                )
        case "array":
            if len(value) > spec["maxItems"]:
                raise InvalidArgumentsError(f"{name} may have {spec['maxItems']} items at most")
            for number, item in enumerate(value):
                _check(f"{name}[{number}]", item, spec["items"])


def _suggestion(name: str, known: Collection[str]) -> str:
    near = nearest(name, known)
    hint = f"did you mean {near!r}? " if near else ""
    return f"{hint}use {', '.join(known)}"


def _described(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value[:50])
        case list():
            return "an array"
        case dict():
            return "an object"
    return str(value)[:50]


class OnProgress(Protocol):
    """Receives the progress of a call: how far it is, out of how much, and a message.

    The last two are ``None`` where they are not known.
    """

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


#: The annotations of a tool that changes nothing and reads only this facade's list.
READ_ONLY: Final = {
    "readOnlyHint": True,
    "destructiveHint": False,
    "idempotentHint": True,
    "openWorldHint": False,
}


class McpTool(ABC):
    """One tool; its arguments are validated against ``input_schema``.

    ``output_schema`` is ``None`` where the result is another tool's. A ``long_running`` tool can
    report progress and be cancelled.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    input_schema: Mapping[str, Any]
    output_schema: ClassVar[Mapping[str, Any] | None] = None
    annotations: ClassVar[Mapping[str, Any]] = READ_ONLY
    #: The right without which the tool does not exist for a caller.
    needs: ClassVar[Verb] = "read"
    long_running: ClassVar[bool] = False

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as ``tools/list`` returns it."""
        definition: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
        }
        if self.output_schema is not None:
            definition["outputSchema"] = self.output_schema
        return definition | {"annotations": {"title": self.title, **self.annotations}}

    async def call(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        """The result of one call by ``caller``; a failed call returns a result with ``isError``.

        Raises :class:`JsonRpcError` where the tool of another server was called, and it says so.
        """
        try:
            read = read_arguments(self.input_schema, arguments)
            return await self.run(read, on_progress, caller)
        except (ClientGoneError, JsonRpcError):
            raise
        except DiscoveryError as error:
            return tool_error(error.sentence(_REMEDIES))

    @abstractmethod
    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None, caller: Caller
    ) -> Mapping[str, Any]:
        """The result for validated arguments.

        Raises :class:`DiscoveryError`; its sentence becomes the result.
        """


def tool_result(content: Mapping[str, Any]) -> dict[str, Any]:
    """A result with ``content``, structured and as text for clients that read only text."""
    text = orjson.dumps(content, default=dict).decode()
    return {"content": [{"type": "text", "text": text}], "structuredContent": content}


def tool_error(sentence: str) -> dict[str, Any]:
    """A failed call's result; ``sentence`` says why it failed."""
    return {"content": [{"type": "text", "text": sentence}], "isError": True}


def object_schema(required: Sequence[str], /, **properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needed}


def text(description: str | None = None, **more: Any) -> dict[str, Any]:
    """The schema of a string."""
    return {"type": "string", **more, **({"description": description} if description else {})}


def number(
    description: str, *, default: int, most: int, least: int = 1, type: str = "integer"
) -> dict[str, Any]:
    """The schema of an argument that is a number from ``least`` to ``most``."""
    bounds = {"minimum": least, "maximum": most, "default": default}
    return {"type": type, **bounds, "description": description}


def strings(description: str, **more: Any) -> dict[str, Any]:
    """The schema of a list of short strings."""
    items = text(**SHORT, **more)
    return {"type": "array", "items": items, "maxItems": 64, "description": description}


#: What every argument that names something has: one tool, or one server.
SHORT: Final[Mapping[str, Any]] = {"minLength": 1, "maxLength": 256}
#: The members that every tool's result has while the list may be out of date or lack something.
CAVEAT_PROPERTIES: Final[Mapping[str, Any]] = {
    "staleSince": text("The list may be out of date since then."),
    "problem": text("Why it may be."),
    "partial": text("What part of the list is hidden from the facade."),
}
#: The argument that names one tool.
TOOL_NAME: Final = text("The tool's exact name, as find_tools tells it.", **SHORT)
#: What the argument with the words to search for has.
WORDS: Final[Mapping[str, Any]] = {"minLength": 1, "maxLength": MAX_TEXT}
NAMES: Final = {"type": "array", "items": {"type": "string"}}


def filter_arguments(*, find_tools: bool = False) -> dict[str, Any]:
    """The JSON Schema of the arguments that set filters; for ``find_tools`` those that it has."""
    offered = [each for each in FILTERS.values() if each.argument is not None]
    found: dict[str, Any] = {}
    for each in sorted(offered, key=lambda each: not each.in_find_tools):
        if find_tools and not each.in_find_tools:
            continue
        found[each.name] = filter_argument(each)
        if (mode := each.mode) is not None:
            choices = {"enum": list(mode.choices), "default": mode.choices[0]}
            found[mode.name] = text(mode.argument, **choices)
    return found


def filter_argument(filter: Filter) -> dict[str, Any]:
    """The schema of the argument that sets one filter."""
    description = filter.argument or f"Only servers: {filter.help}"
    if filter.syntax is not None:
        return text(description, maxLength=MAX_RANGE)
    allowed: dict[str, Any] = {"enum": list(filter.allowed)} if filter.allowed else {}
    return strings(description, **allowed)


def query_of(given: Mapping[str, Any]) -> Query:
    """The query that checked arguments make; raises :class:`InvalidArgumentsError` for a bad
    range."""
    wanted: dict[str, Any] = {}
    for each in FILTERS.values():
        value = given.get(each.name)
        if not value:
            continue
        try:
            wanted[each.name] = each.values([value] if isinstance(value, str) else value)
        except InvalidFilterValueError as error:
            raise InvalidArgumentsError(
                f"{each.name} {error.text[:100]!r} is no {error.syntax.noun}; write for example "
                f"{error.syntax.examples[0]!r}"
            ) from error
    return Query(match=given.get("match") or "any", **wanted)


def question_of(given: Mapping[str, Any]) -> Question | None:
    """What is searched for, from checked arguments; ``None`` where nothing is. Raises
    :class:`InvalidArgumentsError` where there is no word in it."""
    text = given["q"]
    if text is None:
        return None
    question = Question(text, given.get("match") or "any")
    if not question.words:
        raise InvalidArgumentsError(
            f"q is {text[:50]!r}, which has no word; write letters or digits"
        )
    return question


def why_nothing(view: View, query: Query) -> str:
    """What to change where nothing matches: a value that no server has, or the status."""
    if not len(view):
        return "No server is registered at all."
    for each in unknown_values(view, query):
        noun = FILTERS[each.filter].noun or each.filter
        hint = f"; did you mean {each.nearest[0]!r}?" if each.nearest else "."
        return f"No server has the {noun} {each.value!r}{hint}"
    if not view.select(query) and (others := of_other_status(view, query)):
        counts = " and ".join(f"{number} {status}" for status, number in sorted(others.items()))
        number = sum(others.values())
        return (
            f"{counted(number, 'server')} that {'fits' if number == 1 else 'fit'} cannot be used "
            f"now ({counts}); status ['all'] shows why."
        )
    return "Nothing matches. Use fewer filters or words."
