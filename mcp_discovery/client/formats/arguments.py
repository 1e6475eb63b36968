"""The arguments that a model gives for a converted schema, restored to what the server expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from mcp_discovery.client.formats.schema import has_type

_DEEPEST = 200


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """What was changed in one part of a schema; where nothing was, there is none.

    ``names``: a member as the model names it → as the server does. ``members``, ``items`` and
    ``rest``: the restorations of named members (as the model names them), of items, of other
    members. ``optional``: members for which ``null`` means that they are left out. ``texts``: a
    text that stands for a value of an enum. ``coding``: the value is JSON in a string (``json``),
    or a list of ``{"key", "value"}`` (``pairs``). ``branches``: a converted schema and its
    restoration, for unions. ``reference``: the name of a definition, whose restoration it is.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Restoration] = field(default_factory=dict)
    items: Restoration | None = None
    rest: Restoration | None = None
    optional: frozenset[str] = frozenset()
    texts: Mapping[str, Any] = field(default_factory=dict)
    coding: Literal["json", "pairs"] | None = None
    branches: tuple[tuple[dict[str, Any], Restoration | None], ...] = ()
    reference: str | None = None

    def or_none(self) -> Restoration | None:
        """This one, or ``None`` when there is nothing to do."""
        parts = (self.names, self.members, self.items, self.rest, self.optional, self.texts)
        used = any((*parts, self.coding, self.reference, any(each for _, each in self.branches)))
        return self if used else None


def restored(
    value: Any,
    by: Restoration | None,
    definitions: Mapping[str, Restoration | None],
    depth: int = 0,
) -> Any:
    """``value`` as the server expects it; what does not fit stays as it is."""
    if by is None or depth > _DEEPEST:
        return value
    depth += 1
    if by.reference is not None:
        return restored(value, definitions.get(by.reference), definitions, depth)
    if fitting := [branch for branch in by.branches if _fits(value, branch[0])]:
        # A text that looks like an object is JSON text where that was asked for, not a plain text.
        # What a branch names is meant by that branch: another, whose bounds are not compared here,
        # may not be able to have it.
        coded = isinstance(value, str) and value.lstrip()[:1] in ("{", "[")
        chosen = max(
            fitting,
            key=lambda branch: (
                coded and branch[1] is not None and branch[1].coding == "json",
                "enum" in branch[0] or "const" in branch[0],
            ),
        )
        value = restored(value, chosen[1], definitions, depth)
    if isinstance(value, str):
        return _decoded(value) if by.coding == "json" else by.texts.get(value, value)
    if isinstance(value, list):
        if by.coding != "pairs":
            return [restored(each, by.items, definitions, depth) for each in value]
        if not all(isinstance(each, dict) and isinstance(each.get("key"), str) for each in value):
            return value
        return {
            each["key"]: restored(each.get("value"), by.items, definitions, depth) for each in value
        }
    if isinstance(value, dict):
        return {
            by.names.get(name, name): restored(
                each, by.members.get(name, by.rest), definitions, depth
            )
            for name, each in value.items()
            if each is not None or name not in by.optional
        }
    return value


def _decoded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Models write a bare word where JSON text of a string was asked for.
        return text


def _fits(value: Any, schema: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether ``value`` may be meant by a converted ``schema``: by types, enums, items, members."""
    if depth > _DEEPEST or (value is None and schema.get("nullable")):
        return True
    depth += 1
    if "anyOf" in schema and not any(_fits(value, each, depth) for each in schema["anyOf"]):
        return False
    given = schema.get("type", ())
    kinds = [given] if isinstance(given, str) else given
    if kinds and not any(has_type(value, each.lower()) for each in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        return all(_fits(each, items, depth) for each in value)
    if not isinstance(value, dict):
        return True
    members = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False
    return all(name in value for name in schema.get("required", ())) and all(
        _fits(each, members[name], depth) if name in members else not closed
        for name, each in value.items()
    )
