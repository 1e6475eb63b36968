"""Reads a tool's arguments by the very schema that is listed, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from mcp_discovery.errors import DiscoveryError
from mcp_discovery.facade.http.parameters import nearest

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
