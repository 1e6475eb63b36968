"""Schemas for Gemini's ``parameters`` and OpenAI's strict mode: plain types and ``anyOf`` alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from mcp_discovery.client.formats.cutter import Cutter
from mcp_discovery.client.formats.dialects import (
    ANNOTATIONS,
    STRICT_CHARACTERS,
    STRICT_MEMBERS,
    STRICT_VALUES,
)
from mcp_discovery.client.formats.kinds import (
    constraints,
    disjoint,
    explained,
    inferred,
    is_of,
    literals,
)
from mcp_discovery.client.formats.modern import LONGEST, kinds
from mcp_discovery.client.formats.names import renamed
from mcp_discovery.client.formats.place import Cut, Flat, InexpressibleSchemaError, Place, Schema
from mcp_discovery.client.formats.shape import Shape
from mcp_discovery.client.formats.values import same
from mcp_discovery.client.formats.words import described, joined

_MEMBER_LIMIT = 64
_ANY = "any value, as JSON text"
_OBJECT = "an object of any members, as JSON text"
_EMPTY = "an object without members, as JSON text"
#: Annotations that a model should know of.
_SAID = ("default", "examples", "deprecated")
_OF_ANY = ("not", "if", "then", "else")


class SubsetCutter(Cutter):
    """Says each part as one type, or as ``anyOf`` of such.

    What has no type of its own (any value, an object of any members) goes as JSON text, and an
    object of members that are only known by their values as a list of pairs. In strict mode that
    raises :class:`InexpressibleSchemaError`.
    """

    _members = _values = _length = 0

    def anything(self, place: Place) -> Cut:
        return self._encoded(place, _ANY)

    def emit(self, flat: Flat, hints: list[str]) -> Cut:
        node, place = dict(flat.node), flat.place
        if "const" in node:
            values = [node.pop("const")]
            if not any(same(values[0], each) for each in node.get("enum", values)):
                self.remark(f"{place.path}/enum", "it asks for one value and forbids it")
            node["enum"] = values
        if "oneOf" in node and "anyOf" not in node:
            node["anyOf"] = node.pop("oneOf")
            if len(node["anyOf"]) > 1 and not disjoint(node["anyOf"]):
                said = "oneOf became anyOf: a value of several alternatives is not refused"
                self.remark(f"{place.path}/oneOf", said)
        elif "oneOf" in node:
            self.leave(place, "oneOf", node.pop("oneOf"), hints)
        for keyword in _SAID:
            value = node.get(keyword)
            if value is not None and (keyword != "deprecated" or value):
                self.leave(place, keyword, value, hints)
        for keyword in _OF_ANY:
            if keyword in node:
                self.leave(place, keyword, node.pop(keyword), hints)
        if len(node.get("enum", ())) > LONGEST:
            self.leave(place, "enum", node.pop("enum"), hints)
        if "anyOf" in node and place.depth:
            return self._union(node, place, hints)
        return self._typed(node, place, hints)

    def _typed(self, node: Schema, place: Place, hints: list[str]) -> Cut:
        named = list(kinds(node) or inferred(node))
        if "type" not in node and "enum" not in node and named:
            said = f"it names no type; it was read as {named[0]}"
            self.remark(place.path, said, narrows=True)
        nullable = "null" in named
        if "enum" in node:
            nullable = nullable and any(each is None for each in node["enum"])
            values = [each for each in node["enum"] if each is not None]
            named = [each for each in named if any(is_of(value, each) for value in values)]
            node["enum"] = values
        elif not named:
            schema, shape = self.anything(place)
            told = described(node.get("description"), [_ANY, *hints])
            return self.annotate(schema, node | {"description": told}, ()), shape
        named = [each for each in named if each != "null"]
        if not named:
            if not nullable:
                self.remark(place.path, "it forbids every value")
            return self.annotate({"type": self._name("null")}, node, hints), None
        cuts = [self._single(each, node, place, hints) for each in named]
        schema, shape = self._either(cuts, node, hints)
        return (self.nullable(schema) if nullable else schema), shape

    def _union(self, node: Schema, place: Place, hints: list[str]) -> Cut:
        branches = node.pop("anyOf")
        said = {name: node.pop(name) for name in ANNOTATIONS & node.keys()}
        if (values := literals(branches)) is not None and not node.keys() - {"type"}:
            hints = [*hints, *explained(branches)]
            return self._typed({**node, **said, "enum": values}, place, hints)
        cuts: list[Cut] = []
        nullable = False
        if len(branches) > self._parts:
            problem = "the schema is too large; some of the alternatives were left out"
            self.remark(f"{place.path}/anyOf", problem, narrows=True)
        for number, branch in enumerate(branches[: self._parts]):
            if branch is False:
                continue
            raw = {"allOf": [branch, node]} if node else branch
            schema, shape = self.cut(raw, place.to("anyOf", number))
            if schema.get("type") == self._name("null"):
                nullable = True
            elif "anyOf" in schema:
                inner = shape.branches if shape else ()
                cuts.extend(inner or [(each, None) for each in schema["anyOf"]])
            else:
                cuts.append((schema, shape))
        distinct: list[Cut] = []
        for schema, shape in cuts[:LONGEST]:
            if not any(same(schema, other) for other, _ in distinct):
                distinct.append((schema, shape))
        if not distinct:
            if not nullable:
                self.remark(place.path, "it forbids every value")
            return self.annotate({"type": self._name("null")}, said, hints), None
        schema, shape = self._either(distinct, said, hints)
        return (self.nullable(schema) if nullable else schema), shape

    def _either(self, cuts: list[Cut], node: Schema, hints: list[str]) -> Cut:
        """One schema for values of any of ``cuts``, told what ``node`` and ``hints`` tell."""
        if len(cuts) == 1:
            schema, shape = cuts[0]
            if "$ref" in schema:
                return schema, shape
            told = joined(node.get("description"), schema.get("description"))
            return self.annotate(schema, node | {"description": told}, hints), shape
        schema = {"anyOf": [each for each, _ in cuts]}
        if self.dialect.strict:
            self.annotate(schema, node, hints)
        else:
            # Beside anyOf nothing may stand, so each alternative is told.
            for each in schema["anyOf"]:
                told = joined(node.get("description"), each.get("description"))
                self.annotate(each, {"description": told}, hints)
        return schema, Shape(branches=tuple(cuts)) if any(each for _, each in cuts) else None

    def _single(self, kind: str, node: Schema, place: Place, hints: list[str]) -> Cut:
        """One type. Each keyword that constrains its values is taken out of ``unsaid`` by what
        says it; what remains is either copied or left out with a note."""
        unsaid = constraints(node, kind)
        schema: Schema = {"type": self._name(kind)}
        shape: Shape | None = None
        if kind == "object":
            schema, shape = self._object(schema, unsaid, place, hints)
        elif kind == "array":
            shape = self._array(schema, unsaid, place)
        if "enum" in unsaid:
            values = [value for value in unsaid.pop("enum") if is_of(value, kind)]
            shape = self._enum(schema, kind, values, place, hints) or shape
        self._bounds(kind, unsaid, place, hints)
        # A text or a list of pairs stands for the value: constraints of the value are none of it.
        stands_in = shape is not None and bool(shape.coding or shape.texts)
        for keyword, value in unsaid.items():
            if not stands_in and self._takes(keyword, value, kind) and self.afford(value):
                schema[keyword] = value
            else:
                self.leave(place, keyword, value, hints)
        return schema, shape

    def _takes(self, keyword: str, value: Any, kind: str) -> bool:
        if keyword == "format":
            formats = self.dialect.formats or frozenset()
            return value in formats | self.dialect.formats_by_type.get(kind, frozenset())
        return keyword in self.dialect.keywords and not (keyword == "pattern" and "(?" in value)

    def _bounds(self, kind: str, unsaid: Schema, place: Place, hints: list[str]) -> None:
        """Says exclusive bounds as inclusive ones, where the dialect has only these."""
        for keyword, inclusive, nearer in (
            ("exclusiveMinimum", "minimum", max),
            ("exclusiveMaximum", "maximum", min),
        ):
            if keyword not in unsaid or keyword in self.dialect.keywords:
                continue
            bound = unsaid.pop(keyword)
            if kind == "integer":
                bound = math.floor(bound) + 1 if nearer is max else math.ceil(bound) - 1
            else:
                self.leave(place, keyword, bound, hints)
            unsaid[inclusive] = nearer(bound, unsaid.get(inclusive, bound))

    def _enum(
        self, schema: Schema, kind: str, values: list[Any], place: Place, hints: list[str]
    ) -> Shape | None:
        self._values += len(values)
        if kind in ("object", "array") or not self.afford(values):
            self.leave(place, "enum", values, hints)
            return None
        if self.dialect.strict:
            schema["enum"] = values
            self._length += sum(len(each) for each in values if isinstance(each, str))
            return None
        if all(isinstance(each, str) and each for each in values):
            schema["enum"] = list(dict.fromkeys(values))
            return None
        # Enums are of strings that are not empty: a text stands for each other value.
        texts = {orjson.dumps(each).decode(): each for each in values}
        schema.update(type=self._name("string"), enum=list(texts))
        return Shape(texts=texts)

    def _array(self, schema: Schema, unsaid: Schema, place: Place) -> Shape | None:
        items, first = unsaid.pop("items", True), unsaid.pop("prefixItems", None)
        if first:
            self.remark(f"{place.path}/prefixItems", "the order of the items cannot be said")
            if items is False:
                unsaid["maxItems"] = min(unsaid.get("maxItems", len(first)), len(first))
            items = True if items is True else {"anyOf": [*first, items]}
        schema["items"], shape = self.cut(items, place.to("items"))
        return Shape(items=shape) if shape else None

    def _object(self, schema: Schema, unsaid: Schema, place: Place, hints: list[str]) -> Cut:
        named = unsaid.pop("properties", {})
        members = {
            name: each
            for name, each in named.items()
            if isinstance(name, str) and each is not False
        }
        forbidden = [name for name, each in named.items() if each is False]
        required = unsaid.pop("required", [])
        others = unsaid.pop("additionalProperties", None)
        patterns = unsaid.pop("patternProperties", {})
        if patterns:
            self.leave(place, "patternProperties", list(patterns)[:LONGEST], hints)
            allowed = [each for each in patterns.values() if each is not False]
            if allowed and others in (None, False):
                others = {"anyOf": allowed} if len(allowed) <= LONGEST else True
        for name in required:
            if name not in members and (others is False or name in forbidden):
                said = f"{name} is asked for and not allowed: no value is valid"
                self.remark(f"{place.path}/required", said)
            members.setdefault(name, True if others in (None, False) else others)
        if not members and place.depth:
            if others is not False:
                for name in forbidden:
                    said = "it is not allowed here, which cannot be said"
                    self.remark(place.to("properties", name).path, said)
            return self._open(schema, others, place, hints)
        if others is not None and others is not False:
            if self.dialect.strict:
                raise InexpressibleSchemaError("an object with members beyond those that are named")
            said = "members beyond those that are named cannot be given"
            self.remark(f"{place.path}/additionalProperties", said, narrows=True)
        return self._closed(schema, members, required, place)

    def _closed(self, schema: Schema, members: Schema, required: list[str], place: Place) -> Cut:
        changed: dict[str, str] = {}
        if self.dialect.members is not None:
            changed = renamed(list(members), self.dialect.members, _MEMBER_LIMIT)
        properties: Schema = {}
        shapes: dict[str, Shape] = {}
        optional: set[str] = set()
        for name, each in members.items():
            where, new = place.to("properties", name), changed.get(name, name)
            if not self._parts:
                if self.dialect.strict:
                    raise InexpressibleSchemaError("so many parts")
                said = "this member and those that follow were left out: the schema is too large"
                self.remark(where.path, said, narrows=True)
                break
            if new != name:
                said = f"the API does not accept this name; the model sees {new}, put back later"
                self.remark(where.path, said)
            properties[new], shape = self.cut(each, where)
            if name not in required:
                if not self.takes_null(each):
                    optional.add(new)
                if self.dialect.strict:
                    properties[new] = self.nullable(properties[new])
            if shape is not None:
                shapes[new] = shape
            self._members += 1
            self._length += len(new)
        if properties or self.dialect.strict:
            schema["properties"] = properties
        asked = [changed.get(name, name) for name in required]
        asked = list(properties) if self.dialect.strict else [n for n in asked if n in properties]
        if asked or self.dialect.strict:
            schema["required"] = asked
        if self.dialect.strict:
            schema["additionalProperties"] = False
            self._within_limits()
        back = {new: name for name, new in changed.items() if new in properties}
        shape = Shape(names=back, members=shapes, optional=frozenset(optional))
        return schema, shape if shape.changes else None

    def _within_limits(self) -> None:
        for count, limit, what in (
            (self._members, STRICT_MEMBERS, "members"),
            (self._values, STRICT_VALUES, "values in enums"),
            (self._length, STRICT_CHARACTERS, "characters in names and values"),
        ):
            if count > limit:
                raise InexpressibleSchemaError(f"more than {limit:,} {what}")

    def _open(self, schema: Schema, others: Any, place: Place, hints: list[str]) -> Cut:
        """An object none of whose members is named."""
        if isinstance(others, Mapping) and others and not self.dialect.strict:
            value, shape = self.cut(others, place.to("additionalProperties"))
            schema = {
                "type": self._name("array"),
                "items": {
                    "type": self._name("object"),
                    "properties": {"key": {"type": self._name("string")}, "value": value},
                    "required": ["key", "value"],
                },
            }
            hints.append("pairs of a member's name and its value")
            return schema, Shape(coding="pairs", items=shape)
        if others is not False:
            return self._encoded(place, _OBJECT)
        if self.dialect.strict:
            return self._closed(schema, {}, [], place)
        schema, shape = self._encoded(place, _EMPTY)
        return schema | {"enum": ["{}"]}, shape

    def _encoded(self, place: Place, what: str) -> Cut:
        if self.dialect.strict:
            raise InexpressibleSchemaError(what.removesuffix(", as JSON text"))
        self.remark(place.path, f"this is {what}, which is read back")
        return {"type": self._name("string"), "description": what}, Shape(coding="json")

    def nullable(self, schema: Schema) -> Schema:
        """``schema``, or ``null``."""
        if not self.dialect.strict:
            for each in schema.get("anyOf", (schema,)):
                each["nullable"] = True
            return schema
        null = {"type": "null"}
        if "$ref" in schema:
            return {"anyOf": [schema, null]}
        if "anyOf" in schema:
            if null not in schema["anyOf"]:
                schema["anyOf"] = [*schema["anyOf"], null]
            return schema
        given = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema["type"] = [*given, *({"null"} - set(given))]
        if "enum" in schema and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return schema

    def _name(self, kind: str) -> str:
        return kind.upper() if self.dialect.capitals else kind
