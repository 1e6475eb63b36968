"""JSON Schema itself: one schema of any draft, read as 2020-12 and checked; types; two as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
ANNOTATIONS = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
)
#: The keywords that hold one schema, several, or several by name.
SINGLE = frozenset(
    (
        *("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
        *("propertyNames", "contains", "not", "if", "then", "else"),
    )
)
SEVERAL = frozenset(("prefixItems", "anyOf", "oneOf", "allOf"))
NAMED = frozenset(("properties", "patternProperties", "dependentSchemas"))
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_OF_NUMBERS = (*_BOUNDS, "multipleOf", "format")
#: The constraints that are texts.
TEXTS = ("pattern", "format", "contentEncoding", "contentMediaType")
#: The keywords that constrain values of each type; they say nothing about values of other types.
OF_TYPE: Mapping[str, tuple[str, ...]] = {
    "null": (),
    "boolean": (),
    "integer": _OF_NUMBERS,
    "number": _OF_NUMBERS,
    "string": ("minLength", "maxLength", *TEXTS),
    "array": (
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("contains", "minContains", "maxContains", "unevaluatedItems"),
    ),
    "object": (
        *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        *("propertyNames", "patternProperties", "dependentRequired", "dependentSchemas"),
        "unevaluatedProperties",
    ),
}
#: Every keyword that constrains values and holds no schema.
CONSTRAINTS = frozenset(
    ("type", "enum", "const", *(each for of in OF_TYPE.values() for each in of))
)
CONSTRAINTS -= SINGLE | SEVERAL | NAMED
#: Keywords whose value 0 or ``false`` allows everything.
_FROM_ZERO = frozenset(("minLength", "minItems", "minProperties", "uniqueItems"))
#: Keywords that only together say something; those after the first say nothing without it.
_GROUPS = (("if", "then", "else"), ("contains", "minContains", "maxContains"))
#: References into other documents or scopes: only a validator with all documents can follow them.
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
#: A list longer than this is none that a model could use.
LONGEST = 1_000
_DEEPEST = 64
#: The most subschemas that are looked at to learn whether ``null`` is valid.
_MOST_FOR_NULL = 64


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and bool(value == int(value))


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value[: LONGEST + 1])


def _is_type(value: object) -> bool:
    if isinstance(value, list):
        return 0 < len(value) <= len(TYPES) and all(each in TYPES for each in value)
    return isinstance(value, str) and value in TYPES


#: The form that the value of each known keyword has.
_FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(SINGLE, lambda value: isinstance(value, Mapping | bool)),
    **dict.fromkeys(
        (*SEVERAL, "enum", "examples"), lambda value: isinstance(value, list) and bool(value)
    ),
    **dict.fromkeys((*NAMED, "dependentRequired"), lambda value: isinstance(value, Mapping)),
    **dict.fromkeys(_OF_NUMBERS, _is_number),
    **dict.fromkeys(
        (
            each
            for kind in ("string", "array", "object")
            for each in OF_TYPE[kind]
            if each.startswith(("min", "max"))
        ),
        _is_count,
    ),
    **dict.fromkeys((*TEXTS, "title", "description", "$ref"), lambda value: isinstance(value, str)),
    **dict.fromkeys(
        ("uniqueItems", "deprecated", "readOnly", "writeOnly"),
        lambda value: isinstance(value, bool),
    ),
    **dict.fromkeys(("default", "const"), lambda _: True),
    "required": _is_names,
    "type": _is_type,
}


def normalized(schema: Mapping[Any, Any]) -> tuple[Schema, list[str]]:
    """The known keywords of ``schema`` as 2020-12 has them, and the names of those with a value of
    the wrong form.

    Drafts 4 to 7 are renewed: ``items`` as a list with ``additionalItems``, ``dependencies``,
    boolean ``exclusiveMinimum``. Keywords that no draft knows constrain nothing and are dropped.
    """
    wrong = [name for name in _DYNAMIC if name in schema]
    # In their own order, in which a model reads them; a hostile schema has a million others.
    names = [*schema] if len(schema) <= LONGEST else sorted(_FORMS)
    given: Schema = {name: schema[name] for name in names if name in _FORMS and name in schema}
    for name, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(given.get(name), bool) and given.pop(name) and _is_number(given.get(limit)):
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
            dependencies = {}
        # One keyword of draft 7 became two.
        for keyword, form in (("dependentRequired", _is_names), ("dependentSchemas", _FORMS["if"])):
            found = {name: value for name, value in dependencies.items() if form(value)}
            known = given.get(keyword)
            if found:
                given[keyword] = found | (dict(known) if isinstance(known, Mapping) else {})
    new: Schema = {}
    for name, value in given.items():
        is_list = name in ("required", "type") and isinstance(value, list)
        if not _FORMS[name](value) or (is_list and len(value) > LONGEST):
            wrong.append(name)
        elif is_list:
            new[name] = list(dict.fromkeys(value))
        else:
            new[name] = int(value) if _FORMS[name] is _is_count else value
    for first, *following in _GROUPS:
        if first not in new:
            for name in following:
                new.pop(name, None)
    return new, wrong


def types_of(schema: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The types that ``type`` names, or ``None``; of ``integer`` and ``number`` only the latter."""
    given = schema.get("type")
    if given is None:
        return None
    listed = (given,) if isinstance(given, str) else tuple(given)
    return tuple(each for each in listed if each != "integer" or "number" not in listed)


def has_type(value: Any, kind: str) -> bool:
    """Whether ``value`` is of the type ``kind``; ``1.0`` is an integer."""
    if value is None or isinstance(value, bool):
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and float(value).is_integer())
    if isinstance(value, str):
        return kind == "string"
    return kind == ("array" if isinstance(value, list) else "object")


def inferred_types(schema: Schema) -> list[str]:
    """The types that a schema without ``type`` means, where its other keywords imply them."""
    if "enum" in schema:
        kinds = [kind for kind in TYPES if kind != "integer"]
        return [kind for kind in kinds if any(has_type(each, kind) for each in schema["enum"])]
    kinds = ["object", "array", "string", "number"]
    return [kind for kind in kinds if any(each in schema for each in OF_TYPE[kind])][:1]


def constraints(schema: Schema, kind: str) -> Schema:
    """The keywords of ``schema`` that say which values of type ``kind`` are valid: all but
    annotations, ``type``, those of other types, and those whose value allows everything."""
    others = {each for keywords in OF_TYPE.values() for each in keywords} - set(OF_TYPE[kind])
    return {
        keyword: value
        for keyword, value in schema.items()
        if keyword not in ANNOTATIONS | others | {"type"}
        and not (keyword in _FROM_ZERO and not value)
    }


def same(one: Any, other: Any) -> bool:
    """Whether JSON Schema counts them as equal: ``1`` is not ``true``; too deep is different."""
    if one is other:
        return True
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    try:
        return bool(one == other)
    except RecursionError:
        return False


def includes(values: Iterable[Any], value: Any) -> bool:
    """Whether ``value`` is the same as one of ``values``."""
    return any(same(value, each) for each in values)


def json_size(value: object, limit: int) -> int | None:
    """About how many characters of JSON ``value`` is; ``None`` over ``limit``, or when no JSON.

    Looks at no more than ``limit`` parts, and no deeper than a JSON library goes: values come from
    servers that may be hostile.
    """
    total = 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        total += 1
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, float):
            total += 8 if math.isfinite(each) else limit
        elif isinstance(each, int):
            total += each.bit_length() // 3 if -(2**63) <= each < 2**64 else limit
        elif isinstance(each, list | tuple | dict):
            if depth == _DEEPEST or total + len(each) > limit:
                return None
            inside: Iterable[object] = each
            if isinstance(each, dict):
                if not all(isinstance(key, str) for key in each):
                    return None
                total += sum(map(len, each))
                inside = each.values()
            waiting.extend((part, depth + 1) for part in inside)
        elif each is not None:
            return None
        if total > limit:
            return None
    return total


def literal_values(alternatives: list[Any]) -> list[Any] | None:
    """The values of alternatives that are nothing but values."""
    values: list[Any] = []
    for each in alternatives:
        if not isinstance(each, Mapping) or each.keys() - ANNOTATIONS - {"const", "enum", "type"}:
            return None
        kinds = types_of(normalized(each)[0])
        if {"const", "enum"} & each.keys():
            listed = each.get("enum", [each.get("const")])
        else:
            listed = [None] if kinds == ("null",) else None
        if not isinstance(listed, list):
            return None
        values += (v for v in listed if kinds is None or any(has_type(v, kind) for kind in kinds))
        if len(values) > LONGEST or not all(
            isinstance(v, str | int | float | None) for v in values
        ):
            return None
    return values if any(value is not None for value in values) else None


def are_disjoint(alternatives: list[Any]) -> bool:
    """Whether no value is of two alternatives, by their types or because they are values."""
    values = literal_values(alternatives) or [None, None]
    if not any(includes(values[:number], each) for number, each in enumerate(values)):
        return True
    kinds: list[str] = []
    for each in alternatives:
        if not isinstance(each, Mapping) or not isinstance(each.get("type"), str):
            return False
        kinds.append("number" if each["type"] == "integer" else each["type"])
    return len(set(kinds)) == len(kinds)


def allows_null(
    raw: object, resolve: Callable[[str], object], left: Iterator[int] | None = None
) -> bool:
    """Whether ``null`` may be valid for ``raw``; in doubt it may. Where it is not, a model that
    gives it for an optional member means that the member is left out.

    ``resolve`` gives what a reference points to, or ``None``. ``left`` counts down the subschemas
    that may still be looked at.
    """
    left = left or iter(range(_MOST_FOR_NULL))
    if next(left, None) is None or not isinstance(raw, Mapping):
        return raw is not False
    node, _ = normalized(raw)
    if "null" not in (types_of(node) or ("null",)) or node.get("const") is not None:
        return False
    if "enum" in node and not any(each is None for each in node["enum"][:LONGEST]):
        return False
    if "$ref" in node and not allows_null(resolve(node["$ref"]), resolve, left):
        return False
    return all(
        holds(allows_null(each, resolve, left) for each in node[name][:_MOST_FOR_NULL])
        for name, holds in (("allOf", all), ("anyOf", any), ("oneOf", any))
        if name in node
    )


#: What two different values of a keyword say together.
_JOINED: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", *_FROM_ZERO), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    **dict.fromkeys(
        SINGLE - {"contains", "not", "if", "then", "else"},
        lambda one, other: {"allOf": [one, other]},
    ),
    "required": lambda one, other: list(dict.fromkeys((*one, *other))),
}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Schema, Schema, bool]:
    """``one`` and ``other``, both without ``$ref`` and ``allOf``: what both say together, what of
    ``other`` could not be said beside ``one``, and whether the former is weaker than the two.

    Annotations of ``one`` stand before those of ``other``. Subschemas are joined with ``allOf``.
    """
    both = dict(one)
    rest: Schema = {}
    for group in _GROUPS:
        mine, theirs = ({name: of[name] for name in group if name in of} for of in (one, other))
        if mine and theirs and not same(mine, theirs):
            rest |= theirs
    for name, value in other.items():
        if name in rest:
            continue
        if name not in both:
            both[name] = value
        elif name in ANNOTATIONS or same(both[name], value):
            continue
        elif name == "type" and (common := _common_types(both, other)):
            both["type"] = common if len(common) > 1 else common[0]
        elif name == "enum" and (common := _common_values(both["enum"], value)):
            both["enum"] = common
        elif name in _JOINED:
            both[name] = _JOINED[name](both[name], value)
        elif name in NAMED:
            both[name] = both[name] | {
                member: {"allOf": [both[name][member], each]}
                if member in both[name] and not same(both[name][member], each)
                else each
                for member, each in value.items()
            }
        else:
            rest[name] = value
    return both, rest, _is_weakened(one, other) or _is_weakened(other, one)


def _common_types(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    mine, theirs = types_of(one) or (), types_of(other) or ()
    common = [each for each in mine if each in theirs]
    for left, right in ((mine, theirs), (theirs, mine)):
        if "integer" in left and "number" in right:
            common.append("integer")
    return list(dict.fromkeys(common))


def _common_values(mine: list[Any], theirs: list[Any]) -> list[Any]:
    if len(mine) * len(theirs) > LONGEST * LONGEST:
        return []
    return [each for each in mine if includes(theirs, each)]


def _is_weakened(closed: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
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
