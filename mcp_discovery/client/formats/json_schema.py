"""Conversion for the APIs that take JSON Schema: all of it stays but what the API refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcp_discovery.client.formats.arguments import Restoration
from mcp_discovery.client.formats.conversion import (
    Converted,
    Location,
    Resolved,
    SchemaConversion,
)
from mcp_discovery.client.formats.schema import (
    ANNOTATIONS,
    CONSTRAINTS,
    LONGEST,
    NAMED,
    SEVERAL,
    Schema,
    allows_null,
)

#: Subschemas of which a value must not be, or may not be, valid: a weaker one would be stricter.
_NOT_MONOTONE = frozenset(("not", "if", "contains", "oneOf"))
#: Where ``true`` and ``false`` are as common as schemas.
_SWITCHES = frozenset(
    ("additionalProperties", "unevaluatedProperties", "items", "unevaluatedItems")
)
#: Where members are renamed at the top, these would speak of names that are not there.
_BY_MEMBER = frozenset(("dependentRequired", "dependentSchemas", "patternProperties"))
_BY_MEMBER |= {"propertyNames", "if", "then", "else"}
#: What these forbid depends on all the keywords beside them.
_UNEVALUATED = frozenset(("unevaluatedProperties", "unevaluatedItems"))


class JsonSchemaConversion(SchemaConversion):
    """Keeps what the dialect has a keyword for."""

    def any_value(self, at: Location) -> Converted:
        return {}, None

    def resolve(self, raw: Mapping[str, Any], at: Location) -> Resolved:
        """Below the top ``allOf`` stays, where the dialect has it."""
        if at.depth == 0 or "allOf" not in self.dialect.keywords:
            return super().resolve(raw, at)
        node = self.read(raw, at)
        followed: set[str] = set()
        while (reference := node.pop("$ref", None)) is not None:
            if node.keys() - ANNOTATIONS:
                node["allOf"] = [*node.get("allOf", ()), {"$ref": reference}]
                break
            if reference in at.active:
                return Resolved(node, at, recursive=reference)
            if reference in followed:
                break
            followed.add(reference)
            target = self.target(reference, at)
            node = (self.read(target, at) if target is not True else {}) | node
        return Resolved(node, replace(at, active=at.active | followed))

    def emit(self, resolved: Resolved) -> Converted:
        node, at = resolved.node, resolved.at
        if "const" not in self.dialect.keywords:
            node = self.const_as_enum(node, at)
        schema: Schema = {}
        if at.depth == 0:
            schema["type"] = "object"
            node = {"properties": {}} | node
        members = node.get("properties", {})
        changed = self.rename_members([name for name in members if isinstance(name, str)], at)
        dropped = self._dropped(node, changed)
        changes: dict[str, Any] = {}
        for keyword, value in node.items():
            if keyword in ("title", "description"):
                continue
            if keyword in dropped or not self._takes(keyword, value):
                self.drop(at, keyword, value)
            elif keyword in ANNOTATIONS or keyword in CONSTRAINTS:
                schema[keyword] = value
            else:
                self._apply(schema, keyword, value, at, changes, changed)
        if "if" not in schema:
            schema.pop("then", None)
            schema.pop("else", None)
        if changed and "required" in schema:
            schema["required"] = [changed.get(name, name) for name in schema["required"]]
        if schema.get("type") == "array" and not {"items", "prefixItems"} & schema.keys():
            schema["items"] = {}
        restoration = Restoration(
            names={new: old for old, new in changed.items()},
            optional=frozenset(
                changed.get(name, name)
                for name, each in members.items()
                if changed.get(name, name) in schema.get("properties", ())
                and name not in node.get("required", ())
                and not allows_null(each, self.find)
            ),
            **changes,
        )
        return self.annotate(schema, node, at.hints), restoration.or_none()

    def _dropped(self, node: Schema, changed: Mapping[str, str]) -> set[str]:
        """The keywords of ``node`` that cannot be kept, whatever their values."""
        dropped = {each for each in node if each not in self.dialect.keywords}
        if changed:
            dropped |= _BY_MEMBER & node.keys()
        if "patternProperties" in dropped:
            # Alone it would forbid the members that the patterns allow.
            dropped.add("additionalProperties")
        return dropped | _UNEVALUATED if dropped else dropped

    def _takes(self, keyword: str, value: Any) -> bool:
        if keyword not in ANNOTATIONS | CONSTRAINTS:
            return keyword not in SEVERAL or len(value) <= self.parts_left
        if keyword == "format" and self.dialect.formats is not None:
            return value in self.dialect.formats
        return not (keyword == "enum" and len(value) > LONGEST) and self.take_characters(value)

    def _apply(
        self,
        schema: Schema,
        keyword: str,
        value: Any,
        at: Location,
        changes: dict[str, Any],
        changed: dict[str, str],
    ) -> None:
        """Converts the schemas that ``keyword`` holds."""
        before, losses = len(self.notes), self.losses
        if keyword in NAMED:
            named = self._named(value, at, keyword, changed if keyword == "properties" else {})
            schema[keyword] = {name: each for name, (each, _) in named.items()}
            if keyword == "properties":
                changes["members"] = {name: each for name, (_, each) in named.items() if each}
        elif keyword in SEVERAL:
            several = [self._convert(each, at.to(keyword, n)) for n, each in enumerate(value)]
            schema[keyword] = [each for each, _ in several]
            if keyword in ("anyOf", "oneOf"):
                changes["branches"] = tuple(several)
        elif keyword in _SWITCHES and isinstance(value, bool):
            schema[keyword] = value
        else:
            schema[keyword], restoration = self._convert(value, at.to(keyword))
            if keyword in ("items", "additionalProperties"):
                changes["items" if keyword == "items" else "rest"] = restoration
        if keyword in _NOT_MONOTONE and self.losses > losses:
            del self.notes[before:]
            if keyword == "oneOf" and "anyOf" not in schema:
                schema["anyOf"] = schema.pop(keyword)
                message = "the alternatives could not be kept whole; oneOf became anyOf"
                self.note(f"{at.path}/oneOf", message)
            else:
                del schema[keyword]
                self.drop(at, keyword, value)

    def _convert(self, raw: object, at: Location) -> Converted:
        """The same for a place where ``true`` and ``false`` are worth keeping."""
        if raw is True:
            return {}, None
        if raw is False and "not" in self.dialect.keywords:
            return {"not": {}}, None
        return self.convert(raw, at)

    def _named(
        self, value: Mapping[Any, Any], at: Location, keyword: str, changed: dict[str, str]
    ) -> dict[str, Converted]:
        named: dict[str, Converted] = {}
        for name, each in value.items():
            inner = at.to(keyword, name)
            if not isinstance(name, str) or not self.parts_left or not self.take_characters(name):
                self.note_missing_members(inner)
                break
            named[changed.get(name, name)] = self._convert(each, inner)
        return named
