"""Checkers of what each API accepts, written from its documentation, not from our code."""

from __future__ import annotations

import re
from typing import Any

_GEMINI_FIELDS = {
    *("type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems"),
    *("properties", "required", "minProperties", "maxProperties", "minLength", "maxLength"),
    *("pattern", "example", "anyOf", "propertyOrdering", "default", "items", "minimum", "maximum"),
}
_GEMINI_TYPES = {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"}
_GEMINI_FORMATS = {
    "STRING": {"date-time", "enum"},
    "NUMBER": {"float", "double"},
    "INTEGER": {"int32", "int64"},
}


def check_gemini(schema: Any, where: str = "parameters") -> None:
    """``parameters`` of a function declaration: https://ai.google.dev/api/caching#Schema."""
    assert isinstance(schema, dict), where
    assert not schema.keys() - _GEMINI_FIELDS, (where, schema)
    if "anyOf" in schema:
        assert schema.keys() == {"anyOf"}, f"{where}: anyOf must be the only field set"
        assert len(schema["anyOf"]) > 1, where
        for number, each in enumerate(schema["anyOf"]):
            check_gemini(each, f"{where}.anyOf[{number}]")
        return
    kind = schema.get("type")
    assert kind in _GEMINI_TYPES, (where, schema)
    if "format" in schema:
        assert schema["format"] in _GEMINI_FORMATS.get(kind, ()), (where, schema)
    if "enum" in schema:
        assert kind == "STRING", f"{where}: enum only allowed for STRING"
        assert schema["enum"] and all(isinstance(e, str) and e for e in schema["enum"]), where
    if kind == "ARRAY":
        check_gemini(schema.get("items"), f"{where}.items")
    if "properties" in schema:
        assert kind == "OBJECT" and schema["properties"], f"{where}: should be non-empty"
        for name, each in schema["properties"].items():
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}", name), (where, name)
            check_gemini(each, f"{where}.properties[{name}]")
    assert set(schema.get("required", ())) <= set(schema.get("properties", ())), where


_STRICT_KEYWORDS = {
    *("type", "enum", "const", "anyOf", "$ref", "$defs", "properties", "required", "items"),
    *("additionalProperties", "title", "description", "pattern", "format", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}


def check_strict(schema: Any, root: Any = None, depth: int = 0) -> None:
    """https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas."""
    assert isinstance(schema, dict)
    if root is None:
        root = schema
        assert schema["type"] == "object" and "anyOf" not in schema, "the root is an object"
        for each in schema.get("$defs", {}).values():
            check_strict(each, root, 1)
    assert depth <= 10
    assert not schema.keys() - _STRICT_KEYWORDS, schema
    if "$ref" in schema:
        assert schema.keys() == {"$ref"}, "no keyword beside $ref"
        assert schema["$ref"].split("/")[-1] in root["$defs"]
        return
    assert "anyOf" in schema or "type" in schema, schema
    for each in schema.get("anyOf", ()):
        check_strict(each, root, depth + 1)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "object" in kinds:
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
    if "array" in kinds:
        check_strict(schema["items"], root, depth + 1)
    for each in schema.get("properties", {}).values():
        check_strict(each, root, depth + 1)
    assert schema.get("format", "date") in _FORMATS
    assert "(?" not in schema.get("pattern", "")


def check_top(schema: Any) -> None:
    """What OpenAI (not strict) and Anthropic ask of the top of a JSON Schema."""
    assert schema["type"] == "object"
    assert isinstance(schema["properties"], dict)
    assert not schema.keys() & {"oneOf", "anyOf", "allOf", "enum", "const", "not"}


def check_anthropic(schema: Any) -> None:
    """… and the names of members at the top, which Anthropic checks as well."""
    check_top(schema)
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name) for name in schema["properties"])


def as_json_schema(schema: Any) -> Any:
    """A Gemini schema as JSON Schema."""
    if isinstance(schema, list):
        return [as_json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    new: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            new[name] = {member: as_json_schema(each) for member, each in value.items()}
        elif name in ("items", "anyOf"):
            new[name] = as_json_schema(value)
        elif name == "type":
            new[name] = value.lower()
        elif name in ("enum", "required") or not isinstance(value, dict):
            new[name] = value
    if new.pop("nullable", False):
        return {"anyOf": [new, {"type": "null"}]}
    return new
