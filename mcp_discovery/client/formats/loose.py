"""Schemas for the APIs that take JSON Schema: all of it stays but what the API refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_discovery.client.formats.cutter import Cutter
from mcp_discovery.client.formats.dialects import ANNOTATIONS, CONSTRAINTS, NAMED, SEVERAL, SINGLE
from mcp_discovery.client.formats.modern import LONGEST
from mcp_discovery.client.formats.names import renamed
from mcp_discovery.client.formats.place import Cut, Flat, Place, Schema
from mcp_discovery.client.formats.shape import Shape

_MEMBER_LIMIT = 64
#: Subschemas of which a value must not be, or may not be, valid: to cut them would turn them round.
_DELICATE = frozenset(("not", "if", "contains", "oneOf"))
#: Where ``true`` and ``false`` are as common as schemas.
_SWITCHES = frozenset(
    ("additionalProperties", "unevaluatedProperties", "items", "unevaluatedItems")
)
#: Where members are renamed at the top, these would speak of names that are not there.
_BY_MEMBER = frozenset(
    (
        *("dependentRequired", "dependentSchemas", "patternProperties", "propertyNames"),
        *("if", "then", "else"),
    )
)
#: What these forbid depends on the keywords beside them.
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")


class LooseCutter(Cutter):
    """Keeps what the dialect has a keyword for."""

    def anything(self, place: Place) -> Cut:
        return {}, None

    def flatten(self, raw: Mapping[str, Any], place: Place) -> Flat:
        """Below the top ``allOf`` stays, where the dialect has it."""
        if place.depth == 0 or "allOf" not in self.dialect.keywords:
            return super().flatten(raw, place)
        node = self.read(raw, place)
        followed: set[str] = set()
        while (reference := node.pop("$ref", None)) is not None:
            if node.keys() - ANNOTATIONS:
                node["allOf"] = [*node.get("allOf", ()), {"$ref": reference}]
                break
            if reference in place.active:
                return Flat(node, place, recursive=reference)
            if reference in followed:
                break
            followed.add(reference)
            target = self.resolve(reference, place)
            node = (self.read(target, place) if target is not True else {}) | node
        return Flat(node, place.through(frozenset(followed)))

    def emit(self, flat: Flat, hints: list[str]) -> Cut:
        node, place = flat.node, flat.place
        if "const" in node and "const" not in self.dialect.keywords:
            node = {"enum": [node["const"]]} | node
            del node["const"]
        schema: Schema = {}
        shapes: dict[str, Any] = {}
        if place.depth == 0:
            schema["type"] = "object"
            node = {"properties": {}} | node
        changed = self._names(node, place)
        out = set(_BY_MEMBER if changed else ())
        without_patterns = {"patternProperties"} - (self.dialect.keywords - out)
        if "patternProperties" in node and without_patterns:
            # It allows members that additionalProperties alone would not.
            out.add("additionalProperties")
        if any(each in out or each not in self.dialect.keywords for each in node):
            out.update(_UNEVALUATED)
        for keyword, value in node.items():
            if keyword in ("title", "description"):
                continue
            if keyword not in self.dialect.keywords or keyword in out:
                self.leave(place, keyword, value, hints)
            elif keyword in ANNOTATIONS or keyword in CONSTRAINTS:
                self._copy(schema, keyword, value, place, hints)
            else:
                self._apply(schema, keyword, value, place, hints, shapes, changed)
        if "if" not in schema:
            schema.pop("then", None)
            schema.pop("else", None)
        if changed and "required" in schema:
            schema["required"] = [changed.get(name, name) for name in schema["required"]]
        if schema.get("type") == "array" and not {"items", "prefixItems"} & schema.keys():
            schema["items"] = {}
        shape = Shape(
            names={new: old for old, new in changed.items()},
            optional=frozenset(
                changed.get(name, name)
                for name, each in node.get("properties", {}).items()
                if changed.get(name, name) in schema.get("properties", ())
                and name not in node.get("required", ())
                and not self.takes_null(each)
            ),
            **shapes,
        )
        return self.annotate(schema, node, hints), shape if shape.changes else None

    def _names(self, node: Schema, place: Place) -> dict[str, str]:
        allowed = self.dialect.members
        if allowed is None or (place.depth and not self.dialect.every_level):
            return {}
        members = [name for name in node.get("properties", ()) if isinstance(name, str)]
        changed = renamed(members, allowed, _MEMBER_LIMIT)
        for name, new in changed.items():
            said = f"the API does not accept this name; the model sees {new}, which is put back"
            self.remark(place.to("properties", name).path, said)
        return changed

    def _copy(
        self, schema: Schema, keyword: str, value: Any, place: Place, hints: list[str]
    ) -> None:
        formats = self.dialect.formats
        if (
            (keyword == "format" and formats is not None and value not in formats)
            or (keyword == "enum" and len(value) > LONGEST)
            or not self.afford(value)
        ):
            self.leave(place, keyword, value, hints)
        else:
            schema[keyword] = value

    def _apply(
        self,
        schema: Schema,
        keyword: str,
        value: Any,
        place: Place,
        hints: list[str],
        shapes: dict[str, Any],
        changed: dict[str, str],
    ) -> None:
        """Cuts the schemas that ``keyword`` holds."""
        before, losses = len(self.remarks), self.losses
        if keyword in NAMED:
            new_names = changed if keyword == "properties" else {}
            named = self._named(value, place, keyword, new_names)
            schema[keyword] = {name: each for name, (each, _) in named.items()}
            if keyword == "properties":
                shapes["members"] = {name: each for name, (_, each) in named.items() if each}
        elif keyword in SEVERAL:
            cuts = [
                self.cut_in(each, place.to(keyword, number))
                for number, each in enumerate(value[: self._parts])
            ]
            schema[keyword] = [each for each, _ in cuts]
            if keyword in ("anyOf", "oneOf") and any(each for _, each in cuts):
                shapes["branches"] = tuple(cuts)
        elif keyword in _SWITCHES and isinstance(value, bool):
            schema[keyword] = value
        elif keyword in SINGLE:
            schema[keyword], shape = self.cut_in(value, place.to(keyword))
            if keyword in ("items", "additionalProperties") and shape:
                shapes["items" if keyword == "items" else "rest"] = shape
        if keyword in _DELICATE and self.losses > losses:
            del self.remarks[before:]
            if keyword == "oneOf" and "anyOf" not in schema:
                schema["anyOf"] = schema.pop(keyword)
                said = "the alternatives could not be kept whole; oneOf became anyOf"
                self.remark(f"{place.path}/oneOf", said)
            else:
                del schema[keyword]
                self.leave(place, keyword, value, hints)

    def cut_in(self, raw: object, place: Place) -> Cut:
        """The same for a place where ``true`` and ``false`` are worth keeping."""
        if raw is True:
            return {}, None
        if raw is False and "not" in self.dialect.keywords:
            return {"not": {}}, None
        return self.cut(raw, place)

    def _named(
        self, value: Mapping[Any, Any], place: Place, keyword: str, changed: dict[str, str]
    ) -> dict[str, Cut]:
        cuts: dict[str, Cut] = {}
        for name, each in value.items():
            if not isinstance(name, str) or not self._parts or not self.afford(name):
                said = "this member and those that follow were left out: the schema is too large"
                self.remark(place.to(keyword, name).path, said, narrows=True)
                break
            cuts[changed.get(name, name)] = self.cut_in(each, place.to(keyword, name))
        return cuts
