"""Which types a schema and its values are of, and schemas that are nothing but values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_discovery.client.formats.dialects import ANNOTATIONS
from mcp_discovery.client.formats.modern import LONGEST, TYPES, kinds, modern
from mcp_discovery.client.formats.place import Schema
from mcp_discovery.client.formats.values import same

_LITERAL = frozenset(("const", "enum", "type")) | ANNOTATIONS
_OF_NUMBERS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"),
)
#: Keywords of which 0 and ``false`` allow everything.
_FROM_ZERO = frozenset(("minLength", "minItems", "minProperties", "uniqueItems"))
#: The constraints of each type; what belongs to another says nothing about a value of this one.
OF_TYPE: Mapping[str, tuple[str, ...]] = {
    "null": (),
    "boolean": (),
    "integer": _OF_NUMBERS,
    "number": _OF_NUMBERS,
    "string": (
        *("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"),
    ),
    "array": (
        *(
            "items",
            "prefixItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
            "minContains",
            "maxContains",
        ),
        *("unevaluatedItems",),
    ),
    "object": (
        *("properties", "required", "additionalProperties"),
        *("minProperties", "maxProperties", "propertyNames", "patternProperties"),
        *("dependentRequired", "dependentSchemas", "unevaluatedProperties"),
    ),
}
_TELLING = ("object", "array", "string", "number")


def is_of(value: Any, kind: str) -> bool:
    if value is None or isinstance(value, bool):
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and float(value).is_integer())
    if isinstance(value, str):
        return kind == "string"
    return kind == ("array" if isinstance(value, list) else "object")


def inferred(node: Schema) -> list[str]:
    """The types that a schema without ``type`` means, where its other keywords tell."""
    if "enum" in node:
        values = node["enum"]
        return [kind for kind in TYPES if kind != "integer" and any(is_of(v, kind) for v in values)]
    return [kind for kind in _TELLING if any(each in node for each in OF_TYPE[kind])][:1]


def constraints(node: Schema, kind: str) -> Schema:
    """The keywords of ``node`` that say which values of type ``kind`` are valid: all but
    annotations, ``type``, those of other types, and those whose value allows everything."""
    others = {each for keywords in OF_TYPE.values() for each in keywords} - set(OF_TYPE[kind])
    return {
        keyword: value
        for keyword, value in node.items()
        if keyword not in ANNOTATIONS | others | {"type"}
        and not (keyword in _FROM_ZERO and not value)
    }


def literals(branches: list[Any]) -> list[Any] | None:
    """The values of alternatives that are nothing but values."""
    values: list[Any] = []
    for each in branches:
        if not isinstance(each, Mapping) or each.keys() - _LITERAL:
            return None
        if not {"const", "enum"} & each.keys():
            listed: Any = [None] if each.get("type") == "null" else None
        else:
            listed = each.get("enum", [each.get("const")])
        if not isinstance(listed, list):
            return None
        named = kinds(modern(each)[0])
        values += (
            value for value in listed if named is None or any(is_of(value, n) for n in named)
        )
        if len(values) > LONGEST or any(
            not isinstance(value, str | int | float | None) for value in values
        ):
            return None
    return values if any(value is not None for value in values) else None


def explained(branches: list[Any]) -> list[str]:
    """What alternatives say of their values."""
    return [
        f"{each['const']}: {said}"
        for each in branches
        if "const" in each
        and isinstance(said := each.get("description") or each.get("title"), str)
        and len(said) <= 100
    ][:32]


def disjoint(branches: list[Any]) -> bool:
    """Whether no value is of two alternatives, by their types or because they are values."""
    values = literals(branches) or [None, None]
    if not any(same(one, other) for n, one in enumerate(values) for other in values[:n]):
        return True
    named: list[str] = []
    for each in branches:
        if not isinstance(each, Mapping) or not isinstance(each.get("type"), str):
            return False
        named.append("number" if each["type"] == "integer" else each["type"])
    return len(set(named)) == len(named)
