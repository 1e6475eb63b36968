"""Arguments as a person types them, against schemas of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_discovery.cli.arguments import kind_of, read, signature
from mcp_discovery.errors import InvalidInputError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {
        "Point": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "number"}},
        },
        "Loop": {"$ref": "#/$defs/Loop"},
        "Tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}}},
    },
    "properties": {
        "point": {"$ref": "#/$defs/Point"},
        "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        "types": {"type": ["boolean", "string"]},
        "all": {"allOf": [{"type": "integer"}, {"minimum": 1}]},
        "level": {"enum": [1, 2, "high"]},
        "open": {"type": "object"},
        "named": {"type": "object", "additionalProperties": {"type": "integer"}},
        "free": {},
        "a.b": {"type": "string"},
        "loop": {"$ref": "#/$defs/Loop"},
        "tree": {"$ref": "#/$defs/Tree"},
    },
}


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        (["point.x=1", "point.y=2.5"], {"point": {"x": 1, "y": 2.5}}),
        (['point={"x": 1}', "point.y=2"], {"point": {"x": 1, "y": 2}}),
        (['points={"x": 1}', 'points={"x": 2}'], {"points": [{"x": 1}, {"x": 2}]}),
        (['points=[{"x": 1}]'], {"points": [{"x": 1}]}),
        (["either=5"], {"either": 5}),
        (["either=five"], {"either": "five"}),
        (["either=null"], {"either": None}),
        (["types=true"], {"types": True}),
        (["types=truly"], {"types": "truly"}),
        (["all=3"], {"all": 3}),
        (["level=2"], {"level": 2}),
        (["level=high"], {"level": "high"}),
        (["open.a.b=1"], {"open": {"a": {"b": 1}}}),
        (["named.one=1"], {"named": {"one": 1}}),
        (["free=[1]"], {"free": [1]}),
        (["free=a=b"], {"free": "a=b"}),
        (["a.b=c"], {"a.b": "c"}),
        (["loop=1"], {"loop": 1}),
        (["tree.next.next={}"], {"tree": {"next": {"next": {}}}}),
        (["types="], {"types": ""}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_typed_is_what_the_schema_says(pairs: list[str], found: dict[str, Any]) -> None:
    assert read(pairs, {}, SCHEMA) == found


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["point.z=1"], "there is no argument 'point.z'; did you mean"),
        (["pont.x=1"], "there is no argument 'pont.x'"),
        (["level=hihg"], "did you mean high?"),
        (["all=x"], "all='x' is not integer"),
        (["points=[1"], "is not array of object"),
        (["point=5"], "is not object"),
        (["named.one=x"], "is not integer"),
        (["=x"], "write key=value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_said(pairs: list[str], says: str) -> None:
    if pairs == ["point.z=1"]:
        says = "there is no argument 'point.z'"
    with pytest.raises(InvalidInputError) as raised:
        read(pairs, {}, SCHEMA)
    assert says in str(raised.value)


def test_a_schema_without_names_takes_anything() -> None:
    assert read(["x=1", "y=z"], {}, {"type": "object"}) == {"x": 1, "y": "z"}
    assert read(["x=1"], {}, {}) == {"x": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": 5},
        {"properties": {"a": 5}},
        {"properties": {"a": {"type": "no-such"}}},
        {"properties": {"a": {"anyOf": "x", "enum": "y", "items": 3, "$ref": "http://x/"}}},
        {"$ref": "#/nowhere", "required": "a"},
        {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}},
    ],
)
def test_schemas_that_are_none_harm_nobody(schema: dict[str, Any]) -> None:
    signature(schema)
    kind_of(schema, schema)
    assert read(["a=1"], {}, schema)["a"] in (1, "1")
