"""The facade's own MCP tools: their definition, arguments and results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, ClassVar, Final, TypeAlias

import orjson

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.disconnects import ClientGoneError
from mcp_discovery.facade.http.parameters import nearest
from mcp_discovery.facade.http.problems import ProblemError

_TYPES: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "string": ("a string", lambda value: isinstance(value, str)),
    "integer": (
        "a whole number",
        lambda value: isinstance(value, int) and not isinstance(value, bool),
    ),
    "number": (
        "a number",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    ),
    "array": ("an array", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, dict)),
}


class InvalidArgumentsError(DiscoveryError):
    """Arguments that cannot be used; ``str()`` is one sentence that says what to do."""


def read(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the defaults of ``schema``; what is ``null`` counts as left out.

    ``schema`` is an object's JSON Schema with the keywords that the facade's own tools use.
    Raises :class:`InvalidArgumentsError`.
    """
    properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
    for name in given:
        if name not in properties:
            what = f"there is no argument {name[:100]!r}"
            raise InvalidArgumentsError(f"{what}; {_instead(name, properties)}")
    for name in schema.get("required", ()):
        if given.get(name) is None:
            told = properties[name]["description"].rstrip(".")
            raise InvalidArgumentsError(f"the argument {name!r} is missing; it is needed ({told})")
    found = {}
    for name, rule in properties.items():
        value = given.get(name)
        if value is None:
            value = rule.get("default")
        else:
            _check(name, value, rule)
        found[name] = value
    return found


def _check(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    kind, fits = _TYPES[rule["type"]]
    if not fits(value):
        raise InvalidArgumentsError(f"{name} must be {kind}, not {_shown(value)}")
    match rule["type"]:
        case "string":
            allowed = rule.get("enum")
            if allowed is not None and value not in allowed:
                raise InvalidArgumentsError(
                    f"{name} cannot be {value[:100]!r}; {_instead(value, allowed)}"
                )
            longest = rule.get("maxLength", 1000)
            if not rule.get("minLength", 0) <= len(value) <= longest:
                said = "is empty" if not value else f"is over {longest:,} characters"
                raise InvalidArgumentsError(f"{name} {said}; leave it out or write something else")
        case "integer" | "number":
            least, most = rule["minimum"], rule["maximum"]
            if not least <= value <= most:
                raise InvalidArgumentsError(
                    f"{name} must be from {least:,} to {most:,}, not {value}"
                )
        case "array":
            if len(value) > rule["maxItems"]:
                raise InvalidArgumentsError(f"{name} may have {rule['maxItems']} items at most")
            for number, item in enumerate(value):
                _check(f"{name}[{number}]", item, rule["items"])


def _instead(name: str, known: Collection[str]) -> str:
    near = nearest(name, known)
    hint = f"did you mean {near!r}? " if near else ""
    return f"{hint}use {', '.join(known)}"


def _shown(value: Any) -> str:
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


#: Receives the progress of a call: how far it is, out of how much, and a message; the last two
#: are ``None`` where they are not known.
OnProgress: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None]]

#: Tools that only look: they change nothing, may be asked again, and know one closed world.
READ_ONLY: Final = {
    "readOnlyHint": True,
    "destructiveHint": False,
    "idempotentHint": True,
    "openWorldHint": False,
}


class Tool(ABC):
    """One tool. ``input_schema`` is also what arguments are checked by.

    ``output_schema`` is ``None`` where an answer is another tool's; ``slow`` says that a call may
    take long, tell of its progress and be cancelled.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    input_schema: ClassVar[Mapping[str, Any]]
    output_schema: ClassVar[Mapping[str, Any] | None] = None
    annotations: ClassVar[Mapping[str, Any]] = READ_ONLY
    slow: ClassVar[bool] = False

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as ``tools/list`` tells it."""
        told: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
        }
        if self.output_schema is not None:
            told["outputSchema"] = self.output_schema
        return told | {"annotations": {"title": self.title, **self.annotations}}

    async def call(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
    ) -> Mapping[str, Any]:
        """The result of one call; what is wrong with it is told in it (``isError``)."""
        try:
            return await self.run(read(self.input_schema, arguments), on_progress)
        except ClientGoneError:
            raise
        except ProblemError as error:
            return failed(error.detail)
        except DiscoveryError as error:
            return failed(str(error))

    @abstractmethod
    async def run(
        self, arguments: Mapping[str, Any], on_progress: OnProgress | None
    ) -> Mapping[str, Any]:
        """The result for arguments that are right and whole.

        Raises :class:`InvalidArgumentsError`, :class:`ProblemError` or :class:`DiscoveryError`,
        whose sentence becomes the result.
        """


def answered(told: Mapping[str, Any]) -> dict[str, Any]:
    """A result that is ``told``, as structured content and as text for those who read only that."""
    text = orjson.dumps(told, default=dict).decode()
    return {"content": [{"type": "text", "text": text}], "structuredContent": told}


def failed(sentence: str) -> dict[str, Any]:
    """A result that says why there is none."""
    return {"content": [{"type": "text", "text": sentence}], "isError": True}


def strings(description: str, *, most: int = 64, **more: Any) -> dict[str, Any]:
    """The schema of a list of short strings."""
    items = {"type": "string", "minLength": 1, "maxLength": 256, **more}
    return {"type": "array", "items": items, "maxItems": most, "description": description}
