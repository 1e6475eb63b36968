"""Tools and schemas for the tests, and values that a cut schema asks for."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import strategies as st

from mcp_discovery.client.tool import Tool, tool_digest


def tool(schema: Any, name: str = "look", *, server: str = "shop", **more: Any) -> Tool:
    """A tool with the input schema ``schema``."""
    definition = {"name": name.rpartition(".")[2], "inputSchema": schema, **more}
    return Tool(name, server, f"{server}-1", definition, "0" * 16, 1)


def served(definition: dict[str, Any], server: str) -> Tool:
    """The tool that ``server`` lists so."""
    return Tool(definition["name"], server, f"{server}-1", definition, tool_digest(definition), 1)


NAMES = st.sampled_from(("a", "b", "c"))
SCALARS = st.sampled_from((None, True, False, 0, 1, 2, 7, 1.5, "", "x", "yy", "2026-01-01"))
#: Small values, of which many are valid for a small schema.
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def _objects(inner: st.SearchStrategy[Any], required: bool = True) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(NAMES, inner, max_size=3)},
        optional={
            "required": st.lists(NAMES, unique=True, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "minProperties": st.integers(0, 2),
            "description": st.just("what it is"),
        },
    )


def _extended_once(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas that say little themselves, for :func:`_constraints` to be joined to."""
    return st.one_of(
        st.sampled_from(
            ({}, {"type": "object"}, {"type": "array"}, {"type": ["array", "object", "null"]})
        ),
        st.builds(lambda each: {"type": "object", "additionalProperties": each}, inner),
        st.builds(lambda name, each: {"properties": {name: each}}, NAMES, inner),
        st.builds(lambda each: {"enum": each}, st.lists(SCALARS, min_size=1, max_size=4)),
        st.builds(
            lambda each: {"anyOf": each},
            st.lists(
                st.builds(
                    lambda kind, each: {"type": kind, "enum": each},
                    st.sampled_from(("string", "integer", "null")),
                    st.lists(SCALARS, min_size=1, max_size=2),
                ),
                min_size=1,
                max_size=2,
            ),
        ),
    )


def _constraints(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One or two keywords of each kind that constrains values."""
    one = st.one_of(
        st.builds(
            lambda keyword, count: {keyword: count},
            st.sampled_from(
                (
                    *("minProperties", "maxProperties", "minItems", "maxItems", "minLength"),
                    *("maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
                )
            ),
            st.integers(0, 2),
        ),
        st.builds(
            lambda keyword, each: {keyword: each},
            st.sampled_from(
                (
                    *("items", "additionalProperties", "propertyNames", "contains", "not"),
                    *("unevaluatedItems", "unevaluatedProperties"),
                )
            ),
            inner,
        ),
        st.builds(
            lambda keyword, name, each: {keyword: {name: each}},
            st.sampled_from(("properties", "patternProperties", "dependentSchemas")),
            NAMES,
            inner,
        ),
        st.builds(lambda name: {"required": [name]}, NAMES),
        st.builds(lambda name, other: {"dependentRequired": {name: [other]}}, NAMES, NAMES),
        st.builds(lambda each: {"if": each, "then": False}, inner),
        st.builds(lambda each: {"contains": each, "minContains": 2}, inner),
        st.sampled_from(({"uniqueItems": True}, {"multipleOf": 2}, {"pattern": "^x"})),
        st.builds(lambda each: {"prefixItems": [each]}, inner),
    )
    return st.builds(lambda first, second: {**first, **second}, one, one)


def _extended(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        _objects(inner),
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={"items": inner, "minItems": st.integers(0, 1), "uniqueItems": st.booleans()},
        ),
        st.fixed_dictionaries({"type": st.just("array"), "prefixItems": several}),
        st.builds(lambda each: {"anyOf": each}, several),
        st.builds(lambda each: {"oneOf": each}, several),
        st.builds(lambda each: {"allOf": each}, several),
        st.builds(
            lambda one, many: {**(one if isinstance(one, dict) else {}), "anyOf": many},
            inner,
            several,
        ),
        st.builds(lambda each: {"not": each}, inner),
        st.builds(lambda i, t, e: {"if": i, "then": t, "else": e}, inner, inner, inner),
        st.builds(
            lambda each, others: {"patternProperties": {"^[ab]$": each}, **others},
            inner,
            st.fixed_dictionaries(
                {},
                optional={"type": st.just("object"), "additionalProperties": st.booleans() | inner},
            ),
        ),
        st.builds(lambda each, more: {**each, **more}, _extended_once(inner), _constraints(inner)),
    )


LEAVES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(1, 3),
            "pattern": st.sampled_from(("^x", "y+$", "(?=x)x")),
            "format": st.sampled_from(("date", "uri")),
            "default": st.just("x"),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(("integer", "number"))},
        optional={
            "minimum": st.integers(-1, 1),
            "exclusiveMinimum": st.integers(-1, 1),
            "exclusiveMaximum": st.integers(2, 5),
            "multipleOf": st.just(2),
        },
    ),
    st.builds(
        lambda kinds: {"type": kinds},
        st.lists(
            st.sampled_from(("string", "integer", "null", "boolean")),
            min_size=1,
            max_size=3,
            unique=True,
        ),
    ),
    st.builds(lambda each: {"const": each}, SCALARS),
    st.builds(lambda each: {"enum": each}, st.lists(SCALARS, min_size=1, max_size=4)),
    st.sampled_from(
        (
            {"$ref": "#/$defs/tree"},
            {"$ref": "#/$defs/word"},
            {"$ref": "#/$defs/gone"},
            {},
            True,
            False,
        )
    ),
    st.just({"type": "object"}),
)
DEFINITIONS = {
    "word": {"type": "string", "minLength": 1},
    "tree": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/$defs/tree"}},
        "required": ["a"],
    },
}
#: Input schemas of tools, of all keywords, not too deep.
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda root, top: {**root, **top, "$defs": DEFINITIONS},
    _objects(st.recursive(LEAVES, _extended, max_leaves=6)),
    st.just({})
    | st.fixed_dictionaries({"anyOf": st.lists(_objects(LEAVES), min_size=1, max_size=3)})
    | st.fixed_dictionaries({"allOf": st.lists(_objects(LEAVES), min_size=1, max_size=2)}),
)

#: Input schemas with one required member of few keywords: most of them can be said without a note.
SMALL: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda part: {
        "type": "object",
        "properties": {"a": part},
        "required": ["a"],
        "$defs": DEFINITIONS,
    },
    st.builds(lambda one, more: {**one, **more}, _extended_once(LEAVES), _constraints(LEAVES))
    | _extended(LEAVES),
)


def asked(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a model may give for a cut schema (as JSON Schema) of the plain subset."""
    if "anyOf" in schema:
        return st.one_of([asked(each) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"]
    if isinstance(kinds, list):
        return st.one_of([asked({**schema, "type": kind}) for kind in kinds])
    if kinds == "object":
        members = {name: asked(each) for name, each in schema.get("properties", {}).items()}
        required = schema.get("required", ())
        return st.fixed_dictionaries(
            {name: each for name, each in members.items() if name in required},
            optional={name: each for name, each in members.items() if name not in required},
        )
    if kinds == "array":
        least = schema.get("minItems", 0)
        return st.lists(asked(schema["items"]), min_size=least, max_size=least + 2)
    if kinds == "string" and "as JSON text" in schema.get("description", ""):
        made = (
            st.dictionaries(NAMES, VALUES, max_size=2)
            if "an object of any members" in schema["description"]
            else VALUES
        )
        return made.map(lambda value: orjson.dumps(value).decode())
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": st.sampled_from(("", "x", "yy", "xyy", "2026-01-01")),
        "integer": st.integers(-3, 8),
        "number": st.integers(-3, 8) | st.sampled_from((0.5, 1.5)),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return plain[kinds]


def likely(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values many of which are valid for a schema of :data:`SCHEMAS` or a part of it."""
    if not isinstance(schema, dict) or depth > 4:
        return VALUES
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return likely(DEFINITIONS.get(name, True), depth + 1)
    alone: list[st.SearchStrategy[Any]] = []
    if "const" in schema:
        alone.append(st.just(schema["const"]))
    if "enum" in schema:
        alone.append(st.sampled_from(schema["enum"]))
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        alone.append(_of_kind(kind, schema, depth))
    parts = [st.one_of(alone)] if alone else []
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            parts.append(st.one_of([likely(each, depth + 1) for each in schema[keyword]]))
    parts += [likely(each, depth + 1) for each in schema.get("allOf", ())]
    return st.tuples(*parts).map(_together) if parts else VALUES


def _together(values: tuple[Any, ...]) -> Any:
    """Members of all, where all are objects; otherwise the first."""
    if all(isinstance(each, dict) for each in values):
        return {name: each for value in reversed(values) for name, each in value.items()}
    return values[0]


def _of_kind(kind: str, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if kind == "object":
        named = schema.get("properties", {})
        required = schema.get("required", ())
        members = {name: likely(named.get(name, True), depth + 1) for name in "abc"}
        if schema.get("additionalProperties") is False:
            members = {name: each for name, each in members.items() if name in named}
        return st.fixed_dictionaries(
            {name: each for name, each in members.items() if name in required},
            optional={name: each for name, each in members.items() if name not in required},
        )
    if kind == "array":
        if "prefixItems" in schema:
            return st.tuples(*(likely(e, depth + 1) for e in schema["prefixItems"])).map(list)
        return st.lists(likely(schema.get("items", True), depth + 1), max_size=2)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": st.sampled_from(("x", "yy", "xyy", "", "2026-01-01")),
        "integer": st.integers(-1, 6),
        "number": st.integers(-1, 6) | st.just(1.5),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return plain[kind]
