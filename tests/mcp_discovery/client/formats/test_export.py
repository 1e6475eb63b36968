"""What each API is given, in full, and what comes back from it."""

from __future__ import annotations

from typing import Any

import pytest

from examples import analytics, product_catalog
from mcp_discovery.client.formats import Note, export
from mcp_discovery.client.tool import Tool
from mcp_discovery.errors import InvalidInputError
from tests.mcp_discovery.client.formats.schemas import served, tool

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "where": {"$ref": "#/$defs/Point", "description": "Where to look"},
        "size": {"enum": [1, 2]},
        "unit": {"oneOf": [{"const": "m", "title": "metres"}, {"const": "ft"}]},
        "since": {"type": ["string", "null"], "format": "date"},
        "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
        "extra": {"description": "Whatever else"},
        "$filter": {"type": "string", "maxLength": 5},
        "ratio": {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 5},
    },
    "required": ["where"],
    "$defs": {
        "Point": {
            "type": "object",
            "properties": {"x": {"type": "number"}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
}
LOOK = tool(SCHEMA, description="Look around.")


async def examples() -> list[Tool]:
    """The tools of the example servers, as they list them."""
    return [
        served(each.model_dump(by_alias=True, exclude_none=True), module.server.name)
        for module in (product_catalog, analytics)
        for each in await module.server.list_tools()
    ]


async def test_the_example_servers_need_hardly_a_note() -> None:
    tools = await examples()
    assert export(tools, "openai").notes == ()
    assert export(tools, "anthropic").notes == ()
    assert {note.path.rpartition("/")[2] for note in export(tools, "gemini").notes} == {
        "default",
        "exclusiveMinimum",
    }
    strict = export(tools, "openai", strict=True)
    assert all(each["function"]["strict"] for each in strict)
    assert {note.path.rpartition("/")[2] for note in strict.notes} == {"default"}


def test_openai() -> None:
    exported = export([LOOK], "openai")
    assert exported == [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "Look around.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "where": {
                            "type": "object",
                            "properties": {"x": {"type": "number"}},
                            "required": ["x"],
                            "additionalProperties": False,
                            "description": "Where to look",
                        },
                        "size": {"enum": [1, 2]},
                        "unit": {"oneOf": [{"const": "m", "title": "metres"}, {"const": "ft"}]},
                        "since": {"type": ["string", "null"], "format": "date"},
                        "labels": {
                            "type": "object",
                            "additionalProperties": {"type": "integer"},
                        },
                        "extra": {"description": "Whatever else"},
                        "$filter": {"type": "string", "maxLength": 5},
                        "ratio": {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 5},
                    },
                    "required": ["where"],
                },
            },
        }
    ]
    assert exported.notes == ()
    (responses,) = export([LOOK], "openai", api="responses")
    assert responses == {"type": "function", **exported[0]["function"], "strict": False}


def test_openai_strict() -> None:
    schema = {
        "type": "object",
        "properties": {
            "to": {"type": "string", "format": "email"},
            "copies": {"type": "integer", "default": 1},
            "style": {"anyOf": [{"const": "plain"}, {"const": "fancy"}, {"type": "null"}]},
            "next": {"$ref": "#"},
        },
        "required": ["to"],
    }
    exported = export([tool(schema)], "openai", strict=True)
    parameters = exported[0]["function"]["parameters"]
    members = parameters["properties"]
    assert exported[0]["function"]["strict"] is True
    assert parameters["required"] == ["to", "copies", "style", "next"]
    assert parameters["additionalProperties"] is False
    assert members["copies"] == {"type": ["integer", "null"], "description": "1 by default"}
    assert members["style"] == {"type": ["string", "null"], "enum": ["plain", "fancy", None]}
    assert members["next"] == {"anyOf": [{"$ref": "#/$defs/arguments"}, {"type": "null"}]}
    assert parameters["$defs"]["arguments"]["properties"].keys() == members.keys()

    inner = {"to": "b@c", "copies": None, "style": None, "next": None}
    said = {"to": "a@b", "copies": None, "style": None, "next": inner}
    # For the server "next" may not be null, at any depth; "style" may.
    meant = {"to": "a@b", "style": None, "next": {"to": "b@c", "style": None}}
    assert exported.restore("look", said) == meant


def test_what_strict_mode_cannot_say_is_not_strict_and_nothing_is_lost() -> None:
    exported = export([LOOK], "openai", strict=True)
    assert exported == export([LOOK], "openai")
    assert exported.notes == (
        Note(
            "look",
            "",
            "strict mode cannot say an object of any members, so this tool is not strict",
        ),
    )


def test_anthropic() -> None:
    exported = export([LOOK], "anthropic")
    (entry,) = exported
    assert entry.keys() == {"name", "description", "input_schema"}
    assert entry["input_schema"]["properties"]["_filter"] == {"type": "string", "maxLength": 5}
    assert exported.restore("look", {"_filter": "x"}) == {"$filter": "x"}
    assert [note.path for note in exported.notes] == ["/properties/$filter"]


def test_gemini() -> None:
    exported = export([LOOK], "gemini")
    assert exported == [
        {
            "functionDeclarations": [
                {
                    "name": "look",
                    "description": "Look around.",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {
                            "where": {
                                "type": "OBJECT",
                                "properties": {"x": {"type": "NUMBER"}},
                                "required": ["x"],
                                "description": "Where to look",
                            },
                            "size": {"type": "STRING", "enum": ["1", "2"]},
                            "unit": {
                                "type": "STRING",
                                "enum": ["m", "ft"],
                                "description": "m: metres",
                            },
                            "since": {
                                "type": "STRING",
                                "description": "format date",
                                "nullable": True,
                            },
                            "labels": {
                                "type": "ARRAY",
                                "items": {
                                    "type": "OBJECT",
                                    "properties": {
                                        "key": {"type": "STRING"},
                                        "value": {"type": "INTEGER"},
                                    },
                                    "required": ["key", "value"],
                                },
                                "description": "pairs of a member's name and its value",
                            },
                            "extra": {
                                "type": "STRING",
                                "description": "Whatever else (any value, as JSON text)",
                            },
                            "_filter": {"type": "STRING", "maxLength": 5},
                            "ratio": {
                                "type": "INTEGER",
                                "minimum": 1,
                                "description": "a multiple of 5",
                            },
                        },
                        "required": ["where"],
                    },
                }
            ]
        }
    ]
    said = {
        "where": {"x": 1.5},
        "size": "2",
        "unit": None,
        "since": None,
        "labels": [{"key": "a", "value": 1}, {"key": "b", "value": 2}],
        "extra": '{"deep": [1, null]}',
        "_filter": "x",
    }
    assert exported.restore("look", said) == {
        "where": {"x": 1.5},
        "size": 2,
        "since": None,
        "labels": {"a": 1, "b": 2},
        "extra": {"deep": [1, None]},
        "$filter": "x",
    }


def test_what_does_not_fit_goes_on_to_the_server_as_it_is() -> None:
    exported = export([LOOK], "gemini")
    said: dict[str, Any] = {
        "labels": {"a": 1},
        "extra": "plain words",
        "size": "9",
        "unknown": None,
        "where": [],
    }
    assert exported.restore("look", said) == said


def test_gemini_with_json_schema_keeps_more() -> None:
    (payload,) = export([LOOK], "gemini", json_schema=True)
    (declared,) = payload["functionDeclarations"]
    members = declared["parametersJsonSchema"]["properties"]
    assert members["labels"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert members["size"] == {"enum": [1, 2]}
    assert "parameters" not in declared


def test_a_union_finds_the_way_back_by_what_was_said() -> None:
    schema = {
        "properties": {
            "target": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"kind": {"const": "box"}, "my size": {"enum": [1, 2]}},
                        "required": ["kind"],
                    },
                    {
                        "type": "object",
                        "properties": {"kind": {"const": "tag"}, "my size": {"type": "string"}},
                        "required": ["kind"],
                    },
                    {"type": "string"},
                    {"type": "object"},
                ]
            }
        }
    }
    exported = export([tool(schema)], "gemini")
    for said, meant in (
        ({"kind": "box", "my_size": "2"}, {"kind": "box", "my size": 2}),
        ({"kind": "tag", "my_size": "2"}, {"kind": "tag", "my size": "2"}),
        ("words", "words"),
        ('{"any": 1}', {"any": 1}),
    ):
        assert exported.restore("look", {"target": said}) == {"target": meant}


def test_alternatives_at_the_top_become_one_object_and_words() -> None:
    schema = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "name": {"type": "string"}},
        "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
    }
    exported = export([tool(schema, description="Find it.")], "anthropic")
    assert exported == [
        {
            "name": "look",
            "description": "Find it.\n\nArguments: give exactly one of: id | name",
            "input_schema": {"type": "object", "properties": schema["properties"]},
        }
    ]
    (note,) = exported.notes
    assert note.path == "/oneOf"
    assert str(note).startswith("look/oneOf: alternatives are not allowed at the top level")


def test_a_tool_without_parameters() -> None:
    bare = tool({"type": "object", "properties": {}}, description="Do it.")
    assert export([bare], "gemini") == [
        {"functionDeclarations": [{"name": "look", "description": "Do it."}]}
    ]
    assert export([bare], "openai")[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {},
    }
    assert export([], "gemini") == export([], "openai") == []


@pytest.mark.parametrize(("format", "noted"), [("openai", 1), ("gemini", 1), ("anthropic", 0)])
def test_more_tools_than_a_request_takes(format: Any, noted: int) -> None:
    exported = export([tool({}, f"t{n}") for n in range(129)], format)
    assert len(exported.names) == 129
    assert sum(note.path == "tools" for note in exported.notes) == noted


@pytest.mark.parametrize(
    ("format", "options", "said"),
    [
        ("opnai", {}, "'opnai' is none of openai, anthropic, gemini; did you mean 'openai'"),
        ("openai", {"stric": True}, "did you mean 'strict'"),
        ("anthropic", {"strict": True}, "it takes no options"),
        ("openai", {"api": "chats"}, "did you mean 'chat'"),
        ("gemini", {"json_schema": 1}, "neither True nor False"),
    ],
)
def test_bad_input_is_one_clear_sentence(format: Any, options: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        export([], format, **options)


def test_parts_that_must_all_hold_become_one() -> None:
    schema = {
        "properties": {
            "count": {
                "allOf": [
                    {"type": "number", "minimum": 1, "maximum": 9},
                    {"type": ["integer", "string"], "minimum": 3, "maximum": 10},
                ]
            },
            "who": {
                "allOf": [{"properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}],
                "type": "object",
                "properties": {"a": {"enum": ["y", "z"]}, "b": {"type": "boolean"}},
                "required": ["b"],
            },
        }
    }
    exported = export([tool(schema)], "gemini")
    (declared,) = exported[0]["functionDeclarations"]
    assert declared["parameters"]["properties"] == {
        "count": {"type": "INTEGER", "minimum": 3, "maximum": 9},
        "who": {
            "type": "OBJECT",
            "properties": {"a": {"type": "STRING", "enum": ["y"]}, "b": {"type": "BOOLEAN"}},
            "required": ["b", "a"],
        },
    }
    assert exported.notes == ()


def test_a_schema_that_holds_itself() -> None:
    node = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "next": {"$ref": "#/$defs/Node"},
        },
    }
    schema = {"properties": {"tree": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}
    (anthropic,) = export([tool(schema)], "anthropic")
    assert anthropic["input_schema"] == {
        "type": "object",
        "properties": {"tree": node},
        "$defs": {"Node": node},
    }
    gemini = export([tool(schema)], "gemini")
    (declared,) = gemini[0]["functionDeclarations"]
    assert declared["parameters"]["properties"]["tree"]["properties"]["next"] == {
        "type": "STRING",
        "description": "another Node (any value, as JSON text)",
    }
    said = {"tree": {"name": "a", "next": '{"name": "b"}'}}
    assert gemini.restore("look", said) == {"tree": {"name": "a", "next": {"name": "b"}}}


def test_drafts_before_2020_are_read() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "definitions": {"size": {"type": "integer", "minimum": 0, "exclusiveMinimum": True}},
        "properties": {
            "size": {"$ref": "#/definitions/size"},
            "pair": {"type": "array", "items": [{"type": "string"}], "additionalItems": False},
        },
        "dependencies": {"size": ["pair"]},
    }
    (entry,) = export([tool(schema)], "anthropic")
    assert entry["input_schema"] == {
        "type": "object",
        "properties": {
            "size": {"type": "integer", "exclusiveMinimum": 0},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
        },
        "dependentRequired": {"size": ["pair"]},
    }


def test_a_default_is_said_even_when_it_is_nothing_much() -> None:
    members = {
        "page": {"type": "integer", "default": 0},
        "all": {"type": "boolean", "default": False, "deprecated": False},
        "after": {"type": ["string", "null"], "default": None, "title": "Cursor"},
    }
    exported = export([tool({"properties": members})], "gemini")
    (declared,) = exported[0]["functionDeclarations"]
    assert declared["parameters"]["properties"] == {
        "page": {"type": "INTEGER", "description": "0 by default"},
        "all": {"type": "BOOLEAN", "description": "false by default"},
        "after": {"type": "STRING", "description": "Cursor", "nullable": True},
    }


#: Parts of a schema → the keywords that Gemini's ``parameters`` cannot carry for them.
UNSAID: dict[str, tuple[dict[str, Any], set[str]]] = {
    "an object that is not empty": ({"type": "object", "minProperties": 1}, {"minProperties"}),
    "an object that is not large": ({"type": "object", "maxProperties": 1}, {"maxProperties"}),
    "members by value, not none": (
        {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
        {"minProperties"},
    ),
    "members by pattern": (
        {"type": "object", "patternProperties": {"^a": {"type": "integer"}}},
        {"patternProperties"},
    ),
    "names of members": (
        {"type": "object", "propertyNames": {"pattern": "^x"}, "minProperties": 0},
        {"propertyNames"},
    ),
    "members that want others": (
        {"type": "object", "dependentRequired": {"a": ["b"]}},
        {"dependentRequired"},
    ),
    "schemas that want members": (
        {"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}},
        {"dependentSchemas"},
    ),
    "no unevaluated members": (
        {"type": "object", "unevaluatedProperties": False},
        {"unevaluatedProperties"},
    ),
    "an empty object that is not empty": (
        {"type": "object", "additionalProperties": False, "minProperties": 1},
        {"minProperties"},
    ),
    "a member that is forbidden": ({"type": "object", "properties": {"x": False}}, {"x"}),
    "a member that is forbidden beside others": (
        {"properties": {"x": False}, "additionalProperties": {"type": "integer"}},
        {"x", ""},
    ),
    "a member that is required and forbidden": (
        {"type": "object", "properties": {"x": False}, "required": ["x"]},
        {"required"},
    ),
    "a required member that is not named": ({"type": "object", "required": ["x"]}, set()),
    "items of any kind": ({"type": "array", "minItems": 1, "maxItems": 2}, set()),
    "unique items": ({"type": "array", "uniqueItems": True}, {"uniqueItems"}),
    "items that may repeat": ({"type": "array", "uniqueItems": False}, set()),
    "an item among others": (
        {"type": "array", "contains": {"type": "integer"}, "minContains": 2},
        {"contains", "minContains"},
    ),
    "a count of nothing": ({"type": "array", "minContains": 2}, set()),
    "any value but some": ({"not": {"type": "string"}}, {"not"}),
    "a condition": ({"if": {"type": "string"}, "then": False}, {"if", "then"}),
    "no condition": ({"type": "boolean", "then": False, "else": False}, set()),
    "numbers with a bound": ({"type": "integer", "enum": [1, 2], "minimum": 2}, {"minimum"}),
    "numbers with an exclusive bound": (
        {"type": "integer", "enum": [1, 2], "exclusiveMinimum": 1},
        {"minimum"},
    ),
    "texts with a bound": (
        {"type": "string", "enum": ["", "x"], "minLength": 1},
        {"minLength"},
    ),
    "a constant in bounds": (
        {"const": 0, "anyOf": [{"type": "integer", "minimum": 1}]},
        {"minimum"},
    ),
}


@pytest.mark.parametrize("name", UNSAID)
def test_a_constraint_that_is_not_carried_is_noted(name: str) -> None:
    part, unsaid = UNSAID[name]
    schema = {"type": "object", "properties": {"part": part}, "required": ["part"]}
    notes = [
        note
        for note in export([tool(schema)], "gemini").notes
        if "which is read back" not in note.said
    ]
    assert {note.path.removeprefix("/properties/part").rpartition("/")[2] for note in notes} == (
        unsaid
    )


@pytest.mark.parametrize(
    "plain", [{"maxLength": 1}, {"pattern": "^[a-z]$"}, {"minLength": 9}], ids=str
)
def test_a_value_that_an_alternative_names_is_meant_by_it(plain: dict[str, Any]) -> None:
    part = {"anyOf": [{"type": "string"} | plain, {"type": "integer"}, {"enum": [True, "on"]}]}
    exported = export([tool({"properties": {"part": part}})], "gemini")
    assert exported.restore("look", {"part": "true"}) == {"part": True}
    assert exported.restore("look", {"part": "on"}) == {"part": "on"}
    assert exported.restore("look", {"part": "x"}) == {"part": "x"}


def test_an_object_without_members_is_said_exactly() -> None:
    part = {"type": "object", "additionalProperties": False}
    exported = export([tool({"properties": {"options": part}})], "gemini")
    (declared,) = exported[0]["functionDeclarations"]
    assert declared["parameters"]["properties"]["options"] == {
        "type": "STRING",
        "enum": ["{}"],
        "description": "an object without members, as JSON text",
    }
    assert exported.restore("look", {"options": "{}"}) == {"options": {}}


def test_values_that_their_own_type_forbids_are_not_offered() -> None:
    part = {"anyOf": [{"type": "string", "enum": [1, "x"]}, {"type": "null"}]}
    exported = export([tool({"properties": {"part": part}})], "gemini")
    (declared,) = exported[0]["functionDeclarations"]
    assert declared["parameters"]["properties"]["part"] == {
        "type": "STRING",
        "enum": ["x"],
        "nullable": True,
    }


def test_members_by_pattern_and_no_others_stay_possible_where_patterns_cannot_be_said() -> None:
    part = {"patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False}
    exported = export([tool({"properties": {"part": part}})], "gemini", json_schema=True)
    (declared,) = exported[0]["functionDeclarations"]
    assert "additionalProperties" not in declared["parametersJsonSchema"]["properties"]["part"]
    assert {note.path.rpartition("/")[2] for note in exported.notes} == {
        "patternProperties",
        "additionalProperties",
    }


def test_a_member_that_no_value_is_valid_for_is_noted_where_that_cannot_be_said() -> None:
    schema = {"properties": {"part": False}}
    assert export([tool(schema)], "openai").notes == ()
    (note,) = export([tool(schema)], "gemini", json_schema=True).notes
    assert (note.path, note.narrows) == ("/properties/part", False)


def test_conditions_on_members_that_are_renamed_are_left_out() -> None:
    schema = {
        "properties": {"$kind": {"type": "string"}, "size": {"type": "integer"}},
        "if": {"properties": {"$kind": {"const": "box"}}, "required": ["$kind"]},
        "else": {"required": ["size"]},
    }
    exported = export([tool(schema)], "anthropic")
    assert exported[0]["input_schema"].keys() == {"type", "properties"}
    assert {note.path for note in exported.notes} == {"/properties/$kind", "/if", "/else"}


def test_an_alternative_at_the_top_that_allows_everything_asks_for_nothing() -> None:
    schema = {"properties": {"a": {}}, "anyOf": [True, {"required": ["a"]}]}
    exported = export([tool(schema)], "openai")
    assert "required" not in exported[0]["function"]["parameters"]
    (note,) = export([tool({"anyOf": [{"type": "string"}]})], "openai").notes
    assert note.said == "none of the alternatives is an object: no value is valid"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"contains": {"type": "integer"}}, {"minContains": 2}),
        ({"if": {"type": "array"}}, {"then": False}),
        ({"items": {"type": "integer"}}, {"prefixItems": [{"type": "string"}]}),
        (
            {"type": "object", "additionalProperties": False},
            {"patternProperties": {"^a": {}}},
        ),
    ],
)
def test_keywords_of_two_parts_do_not_say_together_what_neither_says(one: Any, other: Any) -> None:
    schema = {"properties": {"a": {"allOf": [one, other]}}}
    exported = export([tool(schema)], "gemini", json_schema=True)
    shown = exported[0]["functionDeclarations"][0]["parametersJsonSchema"]["properties"]["a"]
    assert not {"minContains", "then"} & shown.keys()
    assert exported.notes


def test_a_constant_beside_other_values_is_what_is_left_of_them() -> None:
    for values, noted in (([True, "x"], set()), (["x"], {"/properties/a/enum"})):
        schema = {"properties": {"a": {"allOf": [{"const": True}, {"enum": values}]}}}
        exported = export([tool(schema)], "gemini", json_schema=True)
        (declared,) = exported[0]["functionDeclarations"]
        assert declared["parametersJsonSchema"]["properties"]["a"] == {"enum": [True]}
        assert {note.path for note in exported.notes} == noted


def test_hints_stand_in_the_order_of_the_schema() -> None:
    """The same text in every process: what a model API caches by its prefix stays cached."""
    part = {"type": "number", "multipleOf": 2, "exclusiveMinimum": 0, "exclusiveMaximum": 9}
    exported = export([tool({"properties": {"a": part}})], "gemini", json_schema=True)
    (declared,) = exported[0]["functionDeclarations"]
    assert declared["parametersJsonSchema"]["properties"]["a"] == {
        "type": "number",
        "description": "a multiple of 2; more than 0; less than 9",
    }


def test_dependencies_beside_nonsense() -> None:
    schema = {"dependencies": {"a": ["b"]}, "dependentRequired": [1], "properties": {"a": {}}}
    assert export([tool(schema)], "openai")[0]["function"]["parameters"]["dependentRequired"] == {
        "a": ["b"]
    }
