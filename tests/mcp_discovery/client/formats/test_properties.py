"""What holds for every schema: the output is accepted, nothing valid is lost, nothing crashes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from mcp_discovery.client.formats import ToolList, export
from tests.mcp_discovery.client.formats.schemas import SCHEMAS, SMALL, VALUES, asked, likely, tool
from tests.mcp_discovery.client.formats.subsets import (
    as_json_schema,
    check_anthropic,
    check_gemini,
    check_strict,
    check_top,
)

many = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def cut(exported: ToolList) -> dict[str, Any]:
    """The schema of the only tool."""
    (entry,) = exported
    if exported.format == "gemini":
        (declared,) = entry["functionDeclarations"]
        found: dict[str, Any] = declared.get("parameters") or declared.get(
            "parametersJsonSchema", {"type": "object"}
        )
        return found
    if exported.format == "anthropic":
        schema: dict[str, Any] = entry["input_schema"]
        return schema
    parameters: dict[str, Any] = entry["function"]["parameters"]
    return parameters


@many
@given(SCHEMAS | SMALL)
def test_every_output_is_of_its_subset_and_the_input_stays(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    check_top(cut(export([tool(schema)], "openai")))
    check_anthropic(cut(export([tool(schema)], "anthropic")))
    gemini = export([tool(schema)], "gemini")
    if "parameters" in gemini[0]["functionDeclarations"][0]:
        check_gemini(cut(gemini))
    strict = export([tool(schema)], "openai", strict=True)
    if strict[0]["function"].get("strict"):
        check_strict(cut(strict))
    else:
        assert any("so this tool is not strict" in note.said for note in strict.notes)
        check_top(cut(strict))
    assert schema == before


@many
@given(SCHEMAS | SMALL, st.data())
def test_what_the_server_takes_can_be_said_unless_a_note_says_otherwise(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    whole = Draft202012Validator(_resolvable(schema))
    values = data.draw(st.lists(likely(schema).filter(whole.is_valid), min_size=1, max_size=6))
    for exported in (
        export([tool(schema)], "openai"),
        export([tool(schema)], "anthropic"),
        export([tool(schema)], "gemini", json_schema=True),
    ):
        if any(note.narrows for note in exported.notes):
            continue
        looser = Draft202012Validator(cut(exported))
        for value in values:
            assert looser.is_valid(value), (exported.format, cut(exported), value)


@many
@given(SCHEMAS | SMALL, st.data())
def test_without_a_note_what_the_model_says_is_valid_for_the_server(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    for exported in (
        export([tool(schema)], "gemini"),
        export([tool(schema)], "openai", strict=True),
    ):
        if any("which is read back" not in note.said for note in exported.notes):
            continue
        shown = as_json_schema(cut(exported)) if exported.format == "gemini" else cut(exported)
        assume("$defs" not in shown)
        said = data.draw(asked(shown), label=exported.format)
        assume(Draft202012Validator(shown).is_valid(said))
        meant = exported.restore("look", said)
        assert Draft202012Validator(_resolvable(schema)).is_valid(meant), (shown, said, meant)


@many
@given(SCHEMAS | SMALL, st.data())
def test_without_a_note_a_json_schema_allows_no_more_than_the_server(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    whole = Draft202012Validator(_resolvable(schema))
    values = data.draw(st.lists(likely(schema) | _MEMBERS, min_size=1, max_size=6))
    for exported in (
        export([tool(schema)], "openai"),
        export([tool(schema)], "anthropic"),
        export([tool(schema)], "gemini", json_schema=True),
    ):
        if exported.notes:
            continue
        shown = Draft202012Validator(cut(exported))
        for value in values:
            if isinstance(value, dict) and shown.is_valid(value):
                assert whole.is_valid(value), (exported.format, cut(exported), value)


_MEMBERS = st.dictionaries(st.sampled_from(("a", "b", "c")), VALUES, max_size=3)
_KEYWORDS = st.sampled_from(
    (
        *("type", "properties", "items", "anyOf", "oneOf", "allOf", "not", "if", "then", "enum"),
        *("const", "required", "$ref", "$defs", "additionalProperties", "patternProperties"),
        *("prefixItems", "description", "format", "pattern", "minimum", "exclusiveMinimum"),
        *("dependencies", "dependentRequired", "default", "definitions", "contains", "maxItems"),
    )
)
_JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(("object", "array", "string", "#", "#/properties/items", "#/$defs/a")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYWORDS, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_KEYWORDS, _JUNK, max_size=6), st.dictionaries(st.text(max_size=3), _JUNK))
def test_no_schema_raises_and_every_payload_is_json(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    before = repr(schema)
    for exported in _all(schema):
        orjson.dumps(exported[:])
        if exported.names:
            exported.restore("look", arguments)
        else:
            assert any(note.narrows for note in exported.notes)
    assert repr(schema) == before


def _bomb(levels: int) -> dict[str, Any]:
    """Each definition refers twice to the next: 2 to the power of ``levels`` parts."""
    definitions: dict[str, Any] = {
        f"d{n}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/d{n + 1}"} for side in ("left", "right")},
        }
        for n in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string", "description": "x" * 10_000}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}


def _deep(keyword: str, levels: int = 10_000) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        inside: Any = [schema] if keyword in ("anyOf", "allOf") else schema
        schema = {keyword: {"a": inside} if keyword == "properties" else inside}
    return {"type": "object", "properties": {"a": schema}}


def _deep_value() -> Any:
    value: Any = 1
    for _ in range(10_000):
        value = [value]
    return value


STRING = {"type": "string"}
MILLION = range(1_000_000)
HOSTILE: dict[str, Callable[[], Any]] = {
    "deep properties": lambda: _deep("properties"),
    "deep items": lambda: _deep("items"),
    "deep anyOf": lambda: _deep("anyOf"),
    "deep allOf": lambda: _deep("allOf"),
    "deep not": lambda: _deep("not"),
    "a bomb of references": lambda: _bomb(30),
    "a bomb of conjunctions": lambda: {
        "properties": {"a": {"$ref": "#/$defs/d0"}},
        "$defs": {
            f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
            for n in range(60)
        },
    },
    "a million members": lambda: {"properties": {f"p{n}": STRING for n in MILLION}},
    "a million inside": lambda: {
        "properties": {"a": {"properties": {f"p{n}": STRING for n in MILLION}}}
    },
    "a million members joined": lambda: {
        "properties": {"a": {"allOf": [{"$ref": "#/$defs/m"}] * 1_000}},
        "$defs": {"m": {"properties": {f"p{n}": STRING for n in MILLION}}},
    },
    "a million values": lambda: {"properties": {"a": {"enum": list(MILLION)}}},
    "a million alternatives": lambda: {"anyOf": [{"required": [f"p{n}"]} for n in MILLION]},
    "a million required": lambda: {"required": [f"p{n}" for n in MILLION]},
    "a huge pattern": lambda: {
        "properties": {"a": {"type": "string", "pattern": "(a+)+" * 1_000_000}}
    },
    "a deep default": lambda: {"properties": {"a": {"type": "array", "default": _deep_value()}}},
    "deep values": lambda: {
        "properties": {"a": {"const": _deep_value()}, "b": {"enum": [_deep_value()]}}
    },
    "an array": lambda: {"type": "array"},
    "a reference elsewhere": lambda: {"properties": {"a": {"$ref": "https://example.com/a.json"}}},
}
ODD: dict[str, Any] = {
    "itself": {"$ref": "#"},
    "a ring": {
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"$ref": "#/$defs/x"}},
    },
    "not JSON": {"properties": {1: STRING, "a": {"default": object(), "enum": [{1}]}}},
    "a list": [1, 2],
    "false": False,
}


def _all(schema: Any) -> Iterator[ToolList]:
    """The tool in each format."""
    offered = [tool(schema)]
    yield export(offered, "openai")
    yield export(offered, "openai", strict=True)
    yield export(offered, "anthropic")
    yield export(offered, "gemini")
    yield export(offered, "gemini", json_schema=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_ends_soon_with_a_note(name: str) -> None:
    schema = HOSTILE[name]()
    started = time.process_time()
    for exported in _all(schema):
        assert len(orjson.dumps(exported[:])) < 2_000_000, exported.format
        assert exported.notes, exported.format
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ODD)
def test_an_odd_schema_is_taken_for_what_it_may_mean(name: str) -> None:
    for exported in _all(ODD[name]):
        orjson.dumps(exported[:])
        assert exported.restore("look", {"a": "x"}) == {"a": "x"}


def test_a_tool_that_no_model_can_call_is_left_out_and_the_others_stay() -> None:
    tools = [tool({"type": "array"}, "bad"), tool({"type": "object"}, "good")]
    exported = export(tools, "anthropic")
    assert [each["name"] for each in exported] == ["good"]
    (note,) = exported.notes
    assert (note.tool, note.narrows) == ("bad", True)
    assert note.said == "it was left out: its input schema is of type array, not object"


def _resolvable(schema: dict[str, Any]) -> dict[str, Any]:
    """What points to nothing says nothing, as we read it."""
    return {**schema, "$defs": {**schema.get("$defs", {}), "gone": {}}}
