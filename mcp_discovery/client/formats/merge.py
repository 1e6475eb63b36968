"""Two schemas that must both hold, as one; what cannot be said in one is handed back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_discovery.client.formats.dialects import ANNOTATIONS
from mcp_discovery.client.formats.modern import LONGEST, kinds
from mcp_discovery.client.formats.values import same

_HIGHEST = frozenset(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"))
_LOWEST = frozenset(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"))
_BY_NAME = frozenset(("properties", "patternProperties", "dependentSchemas"))
_BOTH = frozenset(
    ("items", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties")
)
#: Keywords that only together say something.
_TOGETHER = (("if", "then", "else"), ("contains", "minContains", "maxContains"))


def merged(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """``one`` and ``other``, both without ``$ref`` and ``allOf``: what both say together, what of
    ``other`` could not be said beside ``one``, and whether the former is weaker than the two.

    Annotations of ``one`` stand before those of ``other``. Subschemas are joined with ``allOf``.
    """
    both = dict(one)
    rest: dict[str, Any] = {}
    for group in _TOGETHER:
        mine = {name: one[name] for name in group if name in one}
        theirs = {name: other[name] for name in group if name in other}
        if mine and theirs and not same(mine, theirs):
            rest |= theirs
    for name, value in other.items():
        if name in rest:
            continue
        if name not in both:
            both[name] = value
        elif name in ANNOTATIONS or same(both[name], value):
            continue
        elif name == "type":
            common = _common_types(both, other)
            if common:
                both["type"] = list(common) if len(common) > 1 else common[0]
            else:
                rest[name] = value
        elif name == "enum":
            _join_enums(both, value, rest)
        elif name == "required":
            both[name] = list(dict.fromkeys((*both[name], *value)))
        elif name in _HIGHEST:
            both[name] = max(both[name], value)
        elif name in _LOWEST:
            both[name] = min(both[name], value)
        elif name == "uniqueItems":
            both[name] = True
        elif name in _BOTH:
            both[name] = {"allOf": [both[name], value]}
        elif name in _BY_NAME:
            both[name] = _join_named(both[name], value)
        else:
            rest[name] = value
    return both, rest, _weaker(one, other) or _weaker(other, one)


def _common_types(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, ...]:
    mine, theirs = kinds(one) or (), kinds(other) or ()
    common = [each for each in mine if each in theirs]
    common += [
        "integer"
        for left, right in ((mine, theirs), (theirs, mine))
        if "integer" in left and "number" in right
    ]
    return tuple(dict.fromkeys(common))


def _join_enums(both: dict[str, Any], value: list[Any], rest: dict[str, Any]) -> None:
    mine = both["enum"]
    if len(mine) * len(value) > LONGEST * LONGEST:
        rest["enum"] = value
        return
    common = [each for each in mine if any(same(each, theirs) for theirs in value)]
    if common:
        both["enum"] = common
    else:
        rest["enum"] = value


def _join_named(mine: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> dict[Any, Any]:
    joined = dict(mine)
    for name, schema in theirs.items():
        if name in joined and not same(joined[name], schema):
            joined[name] = {"allOf": [joined[name], schema]}
        else:
            joined[name] = schema
    return joined


def _weaker(closed: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether ``closed`` forbids or constrains members or items that only ``other`` names."""
    if {"unevaluatedProperties", "unevaluatedItems"} & closed.keys():
        return bool(other.keys() - ANNOTATIONS)
    if closed.get("items", True) is not True and "prefixItems" in other:
        return len(other["prefixItems"]) > len(closed.get("prefixItems", ()))
    if closed.get("additionalProperties", True) is True:
        return False
    return any(
        set(other.get(named, ())) - set(closed.get(named, ()))
        for named in ("properties", "patternProperties")
    )
