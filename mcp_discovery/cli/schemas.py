"""JSON Schemas in words: what arguments a tool takes, and of which types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_HOPS = 20


def resolved(schema: object, root: Schema) -> Schema:
    """``schema`` with a ``$ref`` into ``root`` followed; a schema that cannot be read is empty."""
    for _ in range(_HOPS):
        if not isinstance(schema, Mapping):
            return {}
        ref = schema.get("$ref")
        if not isinstance(ref, str):
            return schema
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        target: object = root
        for step in ref.removeprefix("#").strip("/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step, {}) if step and isinstance(target, Mapping) else target
        schema = {**target, **beside} if isinstance(target, Mapping) and ref[:1] == "#" else beside
    return {}


def alternatives(schema: object, root: Schema, depth: int = 0) -> Iterator[Schema]:
    """The plain schemas of which a value has to fit one: each has one ``type`` or none."""
    schema = resolved(schema, root)
    for name in ("anyOf", "oneOf"):
        if isinstance(several := schema.get(name), list) and several and depth < _HOPS:
            beside = {key: value for key, value in schema.items() if key != name}
            for each in several:
                yield from alternatives({**beside, **resolved(each, root)}, root, depth + 1)
            return
    whole = schema.get("allOf")
    if isinstance(whole, list) and depth < _HOPS:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for each in whole:
            merged |= resolved(each, root)
        yield from alternatives(merged, root, depth + 1)
        return
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        yield {**schema, "type": kind} if isinstance(kind, str) else schema


def properties(schema: object, root: Schema) -> Mapping[str, Any]:
    """The named members of an object's schema."""
    found: dict[str, Any] = {}
    for each in alternatives(schema, root):
        if isinstance(named := each.get("properties"), Mapping):
            found |= named
    return found


def required(schema: Schema) -> list[str]:
    """The members without which a value is refused."""
    names = resolved(schema, schema).get("required")
    return [each for each in names if isinstance(each, str)] if isinstance(names, list) else []


def kind_of(schema: object, root: Schema) -> str:
    """A schema's type in words: ``integer``, ``string or null``, ``array of string``."""
    kinds: list[str] = []
    for each in alternatives(schema, root):
        if isinstance(choices := each.get("enum"), list):
            kind = "|".join(map(shown, choices))
        elif "const" in each:
            kind = shown(each["const"])
        elif each.get("type") == "array" and each.get("items"):
            kind = f"array of {kind_of(each['items'], root)}"
        else:
            kind = str(each.get("type") or "any")
        if kind not in kinds:
            kinds.append(kind)
    return " or ".join(kinds)


def signature(schema: Schema) -> str:
    """The arguments on one line: ``query: string, limit?: integer = 10``."""
    needed = set(required(schema))
    arguments = []
    for name, each in properties(schema, schema).items():
        default = resolved(each, schema).get("default")
        end = f" = {shown(default)}" if default is not None else ""
        arguments.append(f"{name}{'' if name in needed else '?'}: {kind_of(each, schema)}{end}")
    return ", ".join(arguments)


def shown(value: object) -> str:
    """A value as a person types it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
