"""The way back: arguments as a model gave them for a cut schema → as the server wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

_DEEPEST = 200


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What was changed in one part of a schema; where nothing was, there is no shape.

    ``names``: a member as the model names it → as the server does. ``members``, ``items`` and
    ``rest``: the shapes of named members (as the model names them), of items, of other members.
    ``optional``: members in which ``null`` says that they are left out. ``texts``: a text that
    stands for a value of an enum. ``coding``: the value is JSON in a string (``json``), or a list
    of ``{"key", "value"}`` (``pairs``). ``branches``: a cut schema and its shape, for unions.
    ``reference``: the name of a definition, whose shape it is.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Shape] = field(default_factory=dict)
    items: Shape | None = None
    rest: Shape | None = None
    optional: frozenset[str] = frozenset()
    texts: Mapping[str, Any] = field(default_factory=dict)
    coding: Literal["json", "pairs"] | None = None
    branches: tuple[tuple[dict[str, Any], Shape | None], ...] = ()
    reference: str | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return any(
            (
                *(self.names, self.members, self.items, self.rest, self.optional, self.texts),
                *(self.coding, self.reference, any(shape for _, shape in self.branches)),
            )
        )


def restored(value: Any, shape: Shape | None, definitions: Mapping[str, Shape | None]) -> Any:
    """``value`` as the server wants it; what does not fit ``shape`` stays as it is."""
    return _restored(value, shape, definitions, 0)


def _restored(
    value: Any, shape: Shape | None, definitions: Mapping[str, Shape | None], depth: int
) -> Any:
    if shape is None or depth > _DEEPEST:
        return value
    if shape.reference is not None:
        return _restored(value, definitions.get(shape.reference), definitions, depth + 1)
    meant = [branch for schema, branch in shape.branches if fits(value, schema)]
    if meant:
        # A text that looks like an object was asked for as JSON text, not as a text.
        coded = isinstance(value, str) and value.lstrip()[:1] in ("{", "[")
        told = [each for each in meant if coded and each is not None and each.coding == "json"]
        value = _restored(value, (told or meant)[0], definitions, depth + 1)
    if isinstance(value, str):
        if shape.coding == "json":
            return _read(value)
        return shape.texts.get(value, value)
    if isinstance(value, list):
        if shape.coding == "pairs":
            return _from_pairs(value, shape.items, definitions, depth)
        return [_restored(each, shape.items, definitions, depth + 1) for each in value]
    if isinstance(value, dict):
        return {
            shape.names.get(name, name): _restored(
                each, shape.members.get(name, shape.rest), definitions, depth + 1
            )
            for name, each in value.items()
            if each is not None or name not in shape.optional
        }
    return value


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Models write a bare word where JSON text of a string was asked for.
        return text


def _from_pairs(
    value: list[Any], shape: Shape | None, definitions: Mapping[str, Shape | None], depth: int
) -> Any:
    if not all(isinstance(each, dict) and isinstance(each.get("key"), str) for each in value):
        return value
    return {
        each["key"]: _restored(each.get("value"), shape, definitions, depth + 1) for each in value
    }


_PYTHON = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
}


def fits(value: Any, schema: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether ``value`` may be meant by a cut ``schema``: by type, enums and required members."""
    if value is None and schema.get("nullable"):
        return True
    if "anyOf" in schema and not any(fits(value, each, depth + 1) for each in schema["anyOf"]):
        return False
    given = schema.get("type", ())
    kinds = [each.lower() for each in ([given] if isinstance(given, str) else given)]
    if kinds and not any(_is(value, kind) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if not isinstance(value, dict) or depth > _DEEPEST:
        return True
    members = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False
    return all(name in value for name in schema.get("required", ())) and all(
        fits(each, members[name], depth + 1) if name in members else not closed
        for name, each in value.items()
    )


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _PYTHON[kind])  # type: ignore[arg-type]
