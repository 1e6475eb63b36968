"""Alternatives at the top of a schema, which no API takes there, as one object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp_discovery.client.formats.modern import kinds
from mcp_discovery.client.formats.place import MOST_PARTS, Place, Schema, UnusableSchemaError
from mcp_discovery.client.formats.values import same
from mcp_discovery.client.formats.words import listed

if TYPE_CHECKING:
    from mcp_discovery.client.formats.cutter import Cutter

_MOST_ALTERNATIVES = 64


def one_object(cutter: Cutter, node: Schema, place: Place, hints: list[str]) -> Schema:
    """``node`` without what no API takes at the top level."""
    for keyword in ("enum", "const", "not"):
        if keyword in node:
            cutter.leave(place, keyword, node.pop(keyword), hints)
    for keyword in ("anyOf", "oneOf"):
        alternatives = node.pop(keyword, [])
        if len(alternatives) > _MOST_ALTERNATIVES:
            cutter.leave(place, keyword, alternatives, hints)
            continue
        flats = [
            cutter.flatten({} if each is True else each, place.to(keyword, number)).node
            for number, each in enumerate(alternatives)
            if each is True or isinstance(each, Mapping)
        ]
        flats = [each for each in flats if "object" in (kinds(each) or ("object",))]
        if alternatives and not flats:
            said = "none of the alternatives is an object: no value is valid"
            cutter.remark(f"{place.path}/{keyword}", said)
        elif flats:
            _join(cutter, node, keyword, flats, place, hints)
    return node


def _join(
    cutter: Cutter, node: Schema, keyword: str, flats: list[Schema], place: Place, hints: list[str]
) -> None:
    """Alternatives of objects as one object that has the members of all."""
    members: Schema = dict(node.get("properties", {}))
    found: dict[str, list[Any]] = {}
    for each in flats:
        if not cutter.spend(len(each.get("properties", ()))):
            raise UnusableSchemaError(f"its input schema has more than {MOST_PARTS:,} parts")
        for name, schema in each.get("properties", {}).items():
            known = found.setdefault(name, [])
            if not any(same(schema, other) for other in known):
                known.append(schema)
    narrows = False
    for name, schemas in found.items():
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        narrows = narrows or not all(
            name in each.get("properties", ()) or _is_closed(each) for each in flats
        )
        members[name] = {"allOf": [members[name], schema]} if name in members else schema
    always = list(node.get("required", ()))
    asked = [list(each.get("required", ())) for each in flats]
    common = [name for name in asked[0] if all(name in each for each in asked)]
    groups = [
        listed(rest)
        for each in asked
        if (rest := [name for name in each if name not in always and name not in common])
    ]
    if len(groups) > 1:
        count = "exactly" if keyword == "oneOf" else "at least"
        said = f"give {count} one of: {' | '.join(dict.fromkeys(groups))}"
        if len(said) <= 400:
            hints.append(said)
    if members:
        node["properties"] = members
    if always or common:
        node["required"] = list(dict.fromkeys((*always, *common)))
    if all(map(_is_closed, flats)):
        node.setdefault("additionalProperties", False)
    cutter.remark(
        f"{place.path}/{keyword}",
        "alternatives are not allowed at the top level; they were joined into one object",
        narrows=narrows,
    )


def _is_closed(node: Schema) -> bool:
    """Whether it allows only the members that it names."""
    return node.get("additionalProperties") is False and "patternProperties" not in node
