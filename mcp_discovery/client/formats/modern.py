"""One schema of any draft as JSON Schema 2020-12 spells it, without what has the wrong type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mcp_discovery.client.formats.dialects import NAMED, SEVERAL, SINGLE

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
#: A list longer than this is none that a model could use.
LONGEST = 1_000


def _schema(value: object) -> bool:
    return isinstance(value, Mapping | bool)


def _schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: object) -> bool:
    return _number(value) and value >= 0 and value == int(value)  # type: ignore[operator, call-overload]


def _text(value: object) -> bool:
    return isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value[: LONGEST + 1])


def _mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _type(value: object) -> bool:
    if isinstance(value, list):
        return 0 < len(value) <= len(TYPES) and all(each in TYPES for each in value)
    return isinstance(value, str) and value in TYPES


_FORMS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(SINGLE, _schema),
    **dict.fromkeys(SEVERAL, _schemas),
    **dict.fromkeys(NAMED, _mapping),
    **dict.fromkeys(
        ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number
    ),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count),
    **dict.fromkeys(("minContains", "maxContains", "minProperties", "maxProperties"), _count),
    **dict.fromkeys(("pattern", "format", "title", "description", "$ref"), _text),
    **dict.fromkeys(("contentEncoding", "contentMediaType"), _text),
    **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), _flag),
    **dict.fromkeys(("enum", "examples"), lambda value: isinstance(value, list) and bool(value)),
    **dict.fromkeys(("default", "const"), lambda _: True),
    "dependentRequired": _mapping,
    "required": _names,
    "type": _type,
}
#: Keywords that say nothing without the one that they belong to.
_COMPANIONS = {"if": ("then", "else"), "contains": ("minContains", "maxContains")}
#: Other references: what they mean is only known to who has all the documents.
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")


def modern(schema: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """A new dict with the known keywords of ``schema``, and the known ones that say nothing valid.

    Draft 4 to 7 are renewed: ``items`` as a list and ``additionalItems``, ``dependencies``, boolean
    ``exclusiveMinimum``. Keywords that no draft knows constrain nothing and are left out.
    """
    new: dict[str, Any] = {}
    wrong = [name for name in _ELSEWHERE if name in schema]
    given: dict[str, Any] = {name: schema[name] for name in _FORMS if name in schema}
    for name, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(given.get(name), bool) and given.pop(name) and _number(given.get(limit)):
            given[name] = given.pop(limit)
    if isinstance(given.get("items"), list):
        given["prefixItems"] = given.pop("items")
        if "additionalItems" in schema:
            given["items"] = schema["additionalItems"]
        if not given["prefixItems"]:
            del given["prefixItems"]
    if isinstance(dependencies := schema.get("dependencies"), Mapping):
        if len(dependencies) > LONGEST:
            wrong.append("dependencies")
        else:
            _split(dependencies, given)
    for name, value in given.items():
        if not _FORMS[name](value):
            wrong.append(name)
        elif name in ("required", "type") and isinstance(value, list):
            if len(value) > LONGEST:
                wrong.append(name)
            else:
                new[name] = list(dict.fromkeys(value))
        elif _FORMS[name] is _count:
            new[name] = int(value)
        else:
            new[name] = value
    for leading, following in _COMPANIONS.items():
        if leading not in new:
            for name in following:
                new.pop(name, None)
    return new, wrong


def _split(dependencies: Mapping[Any, Any], given: dict[str, Any]) -> None:
    """Draft 7's one keyword into the two that follow it."""
    for keyword, form in (("dependentRequired", _names), ("dependentSchemas", _schema)):
        found = {name: value for name, value in dependencies.items() if form(value)}
        if found:
            known = given.get(keyword)
            given[keyword] = found | dict(known if isinstance(known, Mapping) else {})


def kinds(schema: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The types that ``type`` names, or ``None``; of ``integer`` and ``number`` only the latter."""
    given = schema.get("type")
    if given is None:
        return None
    listed = (given,) if isinstance(given, str) else tuple(given)
    return tuple(each for each in listed if each != "integer" or "number" not in listed)
