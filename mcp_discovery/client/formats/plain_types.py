"""Conversion for Gemini's ``parameters`` and OpenAI's strict mode: plain types, ``anyOf`` alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from mcp_discovery.client.formats.arguments import Restoration
from mcp_discovery.client.formats.conversion import (
    Converted,
    InexpressibleSchemaError,
    Location,
    Resolved,
    SchemaConversion,
    with_hints,
)
from mcp_discovery.client.formats.dialects import STRICT_LIMITS, Dialect
from mcp_discovery.client.formats.schema import (
    ANNOTATIONS,
    LONGEST,
    Schema,
    allows_null,
    are_disjoint,
    constraints,
    has_type,
    includes,
    inferred_types,
    literal_values,
    types_of,
)

_ANY = "any value, as JSON text"
_OBJECT = "an object of any members, as JSON text"
_EMPTY = "an object without members, as JSON text"
#: Annotations that a description repeats, because they say how to use the member.
_REPEATED = ("default", "examples", "deprecated")
#: Constraints of values of any type that no dialect of plain types has.
_OF_ANY_TYPE = ("not", "if", "then", "else")
_CHARACTERS = "characters in names and values"


class PlainTypeConversion(SchemaConversion):
    """Says each part as one type, or as ``anyOf`` of such.

    What has no type of its own (any value, an object of any members) goes as JSON text, and an
    object of members that are only known by their values as a list of pairs. In strict mode that
    raises :class:`InexpressibleSchemaError`.
    """

    def __init__(self, tool: str, root: Mapping[str, Any], dialect: Dialect) -> None:
        super().__init__(tool, root, dialect)
        self._counts: Counter[str] = Counter()

    def any_value(self, at: Location) -> Converted:
        return self._json_text(at, _ANY)

    def emit(self, resolved: Resolved) -> Converted:
        at = resolved.at
        node = dict(self.const_as_enum(resolved.node, at))
        if "oneOf" in node and "anyOf" in node:
            self.drop(at, "oneOf", node.pop("oneOf"))
        elif "oneOf" in node:
            node["anyOf"] = node.pop("oneOf")
            if len(node["anyOf"]) > 1 and not are_disjoint(node["anyOf"]):
                message = "oneOf became anyOf: a value of several alternatives is not refused"
                self.note(f"{at.path}/oneOf", message)
        for keyword in _REPEATED:
            value = node.get(keyword)
            if value is not None and (keyword != "deprecated" or value):
                self.drop(at, keyword, value)
        for keyword in _OF_ANY_TYPE:
            if keyword in node:
                self.drop(at, keyword, node.pop(keyword))
        if len(node.get("enum", ())) > LONGEST:
            self.drop(at, "enum", node.pop("enum"))
        if "anyOf" in node and at.depth:
            return self._union(node, at)
        return self._typed(node, at)

    def _typed(self, node: Schema, at: Location) -> Converted:
        """A schema that is no union but by its types."""
        kinds = list(types_of(node) or inferred_types(node))
        if "type" not in node and "enum" not in node and kinds:
            message = f"it names no type; it was read as {kinds[0]}"
            self.note(at.path, message, narrows=True)
        nullable = "null" in kinds
        if "enum" in node:
            nullable = nullable and any(each is None for each in node["enum"])
            node["enum"] = values = [each for each in node["enum"] if each is not None]
            kinds = [each for each in kinds if any(has_type(value, each) for value in values)]
        elif not kinds:
            schema, restoration = self.any_value(at)
            text = with_hints(node.get("description"), [_ANY, *at.hints])
            return self.annotate(schema, node | {"description": text}, ()), restoration
        found = [self._single(each, node, at) for each in kinds if each != "null"]
        return self._either(found, node, at, nullable=nullable)

    def _union(self, node: Schema, at: Location) -> Converted:
        alternatives = node.pop("anyOf")
        annotations = {name: node.pop(name) for name in ANNOTATIONS & node.keys()}
        values = literal_values(alternatives)
        if values is not None and not node.keys() - {"type"}:
            at.hints.extend(_explanations(alternatives))
            return self._typed({**node, **annotations, "enum": values}, at)
        found: list[Converted] = []
        nullable = False
        for number, each in enumerate(alternatives):
            if not self.parts_left or len(found) >= LONGEST:
                message = "the schema is too large; some of the alternatives were left out"
                self.note(f"{at.path}/anyOf", message, narrows=True)
                break
            if each is False:
                continue
            raw = {"allOf": [each, node]} if node else each
            schema, restoration = self.convert(raw, at.to("anyOf", number))
            inner: list[Converted] = [(schema, restoration)]
            if "anyOf" in schema:
                branches = restoration.branches if restoration else ()
                inner = list(branches) or [(one, None) for one in schema["anyOf"]]
                nullable = nullable or {"type": "null"} in schema["anyOf"]
            for one in inner:
                if one[0].get("type") == self._name("null"):
                    nullable = True
                elif not includes((known for known, _ in found), one[0]):
                    found.append(one)
        return self._either(found, annotations, at, nullable=nullable)

    def _either(
        self, found: list[Converted], node: Schema, at: Location, *, nullable: bool
    ) -> Converted:
        """One schema for values of any of ``found``, with the annotations of ``node``."""
        if not found:
            if not nullable:
                self.note(at.path, "it forbids every value")
            return self.annotate({"type": self._name("null")}, node, at.hints), None
        schema, restoration = found[0]
        if len(found) > 1:
            schema = {"anyOf": [each for each, _ in found]}
            restoration = Restoration(branches=tuple(found)).or_none()
        if len(found) == 1 or self.dialect.strict:
            if "$ref" not in schema:
                text = _both(node.get("description"), schema.get("description"))
                self.annotate(schema, node | {"description": text}, at.hints)
        else:
            # Beside anyOf nothing may stand, so each alternative has the description.
            for each in schema["anyOf"]:
                text = _both(node.get("description"), each.get("description"))
                self.annotate(each, {"description": text}, at.hints)
        return (self._nullable(schema) if nullable else schema), restoration

    def _nullable(self, schema: Schema) -> Schema:
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

    def _single(self, kind: str, node: Schema, at: Location) -> Converted:
        """One type. Each keyword that constrains its values is taken out of ``unsaid`` by what
        says it; what remains is either copied or dropped with a note."""
        unsaid = constraints(node, kind)
        schema: Schema = {"type": self._name(kind)}
        restoration: Restoration | None = None
        if kind == "object":
            schema, restoration = self._object(schema, unsaid, at)
        elif kind == "array":
            restoration = self._array(schema, unsaid, at)
        if "enum" in unsaid:
            values = [value for value in unsaid.pop("enum") if has_type(value, kind)]
            restoration = self._enum(schema, kind, values, at) or restoration
        self._inclusive_bounds(kind, unsaid, at)
        # A text or a list of pairs stands in for the value, whose constraints are none of its own.
        stands_in = restoration is not None and bool(restoration.coding or restoration.texts)
        for keyword, value in unsaid.items():
            if not stands_in and self._takes(keyword, value, kind) and self.take_characters(value):
                schema[keyword] = value
            else:
                self.drop(at, keyword, value)
        return schema, restoration

    def _takes(self, keyword: str, value: Any, kind: str) -> bool:
        if keyword == "format":
            formats = self.dialect.formats or frozenset()
            return value in formats | self.dialect.formats_by_type.get(kind, frozenset())
        return keyword in self.dialect.keywords and not (keyword == "pattern" and "(?" in value)

    def _inclusive_bounds(self, kind: str, unsaid: Schema, at: Location) -> None:
        """Replaces exclusive bounds by inclusive ones, where the dialect has only these."""
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
                self.drop(at, keyword, bound)
            unsaid[inclusive] = nearer(bound, unsaid.get(inclusive, bound))

    def _enum(
        self, schema: Schema, kind: str, values: list[Any], at: Location
    ) -> Restoration | None:
        self._counts["values in enums"] += len(values)
        if kind in ("object", "array") or not self.take_characters(values):
            self.drop(at, "enum", values)
            return None
        if self.dialect.strict:
            schema["enum"] = values
            self._counts[_CHARACTERS] += sum(len(v) for v in values if isinstance(v, str))
            return None
        if all(isinstance(each, str) and each for each in values):
            schema["enum"] = list(dict.fromkeys(values))
            return None
        # Enums are of strings that are not empty: a text stands for each other value.
        texts = {orjson.dumps(each).decode(): each for each in values}
        schema |= {"type": self._name("string"), "enum": list(texts)}
        return Restoration(texts=texts)

    def _array(self, schema: Schema, unsaid: Schema, at: Location) -> Restoration | None:
        items, first = unsaid.pop("items", True), unsaid.pop("prefixItems", None)
        if first:
            self.note(f"{at.path}/prefixItems", "the order of the items cannot be said")
            if items is False:
                unsaid["maxItems"] = min(unsaid.get("maxItems", len(first)), len(first))
            items = True if items is True else {"anyOf": [*first, items]}
        schema["items"], restoration = self.convert(items, at.to("items"))
        return Restoration(items=restoration).or_none()

    def _object(self, schema: Schema, unsaid: Schema, at: Location) -> Converted:
        named = {
            name: each
            for name, each in unsaid.pop("properties", {}).items()
            if isinstance(name, str)
        }
        members = {name: each for name, each in named.items() if each is not False}
        forbidden = named.keys() - members.keys()
        required = unsaid.pop("required", [])
        others = unsaid.pop("additionalProperties", None)
        patterns = unsaid.pop("patternProperties", {})
        if patterns:
            self.drop(at, "patternProperties", list(patterns)[:LONGEST])
            allowed = [each for each in patterns.values() if each is not False]
            if allowed and others in (None, False):
                others = {"anyOf": allowed} if len(allowed) <= LONGEST else True
        for name in required:
            if name not in members and (others is False or name in forbidden):
                message = f"{name} is asked for and not allowed: no value is valid"
                self.note(f"{at.path}/required", message)
            members.setdefault(name, True if others in (None, False) else others)
        if not members and at.depth:
            for name in sorted(forbidden) if others is not False else ():
                message = "it is not allowed here, which cannot be said"
                self.note(at.to("properties", name).path, message)
            return self._unnamed_members(schema, others, at)
        if others is not None and others is not False:
            if self.dialect.strict:
                raise InexpressibleSchemaError("an object with members beyond those that are named")
            message = "members beyond those that are named cannot be given"
            self.note(f"{at.path}/additionalProperties", message, narrows=True)
        return self._named_members(schema, members, required, at)

    def _named_members(
        self, schema: Schema, members: Schema, required: list[str], at: Location
    ) -> Converted:
        strict = self.dialect.strict
        changed = self.rename_members(list(members), at)
        properties: Schema = {}
        restorations: dict[str, Restoration] = {}
        optional: set[str] = set()
        for name, each in members.items():
            inner, new = at.to("properties", name), changed.get(name, name)
            if not self.parts_left:
                self.note_missing_members(inner)
                break
            properties[new], restoration = self.convert(each, inner)
            if restoration is not None:
                restorations[new] = restoration
            if name not in required:
                if not allows_null(each, self.find):
                    optional.add(new)
                if strict:
                    properties[new] = self._nullable(properties[new])
            self._counts["members"] += 1
            self._counts[_CHARACTERS] += len(new)
        shown = [changed.get(name, name) for name in required]
        shown = list(properties) if strict else [name for name in shown if name in properties]
        schema |= {"properties": properties} if properties or strict else {}
        schema |= {"required": shown} if shown or strict else {}
        if strict:
            schema["additionalProperties"] = False
            for what, limit in STRICT_LIMITS.items():
                if self._counts[what] > limit:
                    raise InexpressibleSchemaError(f"more than {limit:,} {what}")
        names = {new: name for name, new in changed.items() if new in properties}
        restoration = Restoration(names=names, members=restorations, optional=frozenset(optional))
        return schema, restoration.or_none()

    def _unnamed_members(self, schema: Schema, others: Any, at: Location) -> Converted:
        """An object none of whose members is named."""
        if isinstance(others, Mapping) and others and not self.dialect.strict:
            value, restoration = self.convert(others, at.to("additionalProperties"))
            at.hints.append("pairs of a member's name and its value")
            pair = {
                "type": self._name("object"),
                "properties": {"key": {"type": self._name("string")}, "value": value},
                "required": ["key", "value"],
            }
            pairs = {"type": self._name("array"), "items": pair}
            return pairs, Restoration(coding="pairs", items=restoration)
        if others is not False:
            return self._json_text(at, _OBJECT)
        if self.dialect.strict:
            return self._named_members(schema, {}, [], at)
        text, restoration = self._json_text(at, _EMPTY)
        return text | {"enum": ["{}"]}, restoration

    def _json_text(self, at: Location, what: str) -> Converted:
        if self.dialect.strict:
            raise InexpressibleSchemaError(what.removesuffix(", as JSON text"))
        self.note(at.path, f"this is {what}, which is read back")
        return {"type": self._name("string"), "description": what}, Restoration(coding="json")

    def _name(self, kind: str) -> str:
        return kind.upper() if self.dialect.capitals else kind


def _explanations(alternatives: list[Any]) -> list[str]:
    """What alternatives say of their values."""
    return [
        f"{each['const']}: {text}"
        for each in alternatives
        if "const" in each
        and isinstance(text := each.get("description") or each.get("title"), str)
        and len(text) <= 100
    ][:32]


def _both(outer: str | None, inner: str | None) -> str | None:
    """What a part and the only thing in it say of themselves, as one text."""
    if not outer or not inner or inner in outer:
        return outer or inner
    return f"{outer} ({inner})"
