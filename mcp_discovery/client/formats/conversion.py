"""What the conversion of a schema to any dialect does: limits, references, notes, the top level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import orjson

from mcp_discovery.client.formats.arguments import Restoration
from mcp_discovery.client.formats.dialects import Dialect, member_names
from mcp_discovery.client.formats.schema import (
    ANNOTATIONS,
    LONGEST,
    TEXTS,
    Schema,
    includes,
    json_size,
    merged,
    normalized,
    types_of,
)
from mcp_discovery.errors import DiscoveryError

#: A schema of one tool may have so many parts and characters. What is larger fills a model's
#: context, and references can make little text expand without end.
MOST_PARTS = 5_000
MOST_CHARACTERS = 400_000
LONGEST_DESCRIPTION = 8_192
#: Constraints whose text is longer are not repeated in a description.
_LONGEST_PHRASE = 160
_LONGEST_POINTER = 100
_MOST_ALTERNATIVES = 64

#: A converted schema, and what undoes the conversion in values.
Converted = tuple[Schema, Restoration | None]


class UnusableSchemaError(DiscoveryError):
    """No tool can be made of this schema; says why."""


class InexpressibleSchemaError(DiscoveryError):
    """Strict mode cannot express this; says what."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that the format cannot say.

    ``tool`` is the tool's name (empty where all are meant); ``path`` a JSON pointer into its input
    schema, or ``"name"``, ``"description"`` or ``"tools"``; ``said`` one sentence on what was
    dropped or changed. ``narrows`` is true where the model can no longer say something that the
    server takes; otherwise the model may at most say something that the server refuses.
    """

    tool: str
    path: str
    said: str
    narrows: bool = False

    def __str__(self) -> str:
        return f"{self.tool}{self.path if self.path.startswith('/') else ''}: {self.said}"


@dataclass(frozen=True, slots=True)
class Location:
    """Where in a schema: its JSON pointer, how deep, which references led here; and the hints that
    its description gets."""

    path: str = ""
    depth: int = 0
    active: frozenset[str] = frozenset(("#",))
    hints: list[str] = field(default_factory=list)

    def to(self, *steps: object) -> Location:
        """One level down."""
        escaped = (str(step)[:200].replace("~", "~0").replace("/", "~1") for step in steps)
        return Location("/".join((self.path, *escaped)), self.depth + 1, self.active)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A schema without ``$ref``: its keywords, where it stands, what could not be joined to it, and
    the reference that leads back to where it came from, where there is one."""

    node: Schema
    at: Location
    rest: tuple[Schema, ...] = ()
    recursive: str | None = None


class SchemaConversion(ABC):
    """Converts the schema of one tool's arguments to a dialect. Never changes what it is given."""

    def __init__(self, tool: str, root: Mapping[str, Any], dialect: Dialect) -> None:
        self.tool = tool
        self.root = root
        self.dialect = dialect
        self.notes: list[Note] = []
        #: How often :meth:`note` was called; ``notes`` holds each once, and not too many.
        self.losses = 0
        #: The restorations of the schemas in ``$defs``, by name.
        self.definitions: dict[str, Restoration | None] = {}
        self._names: dict[str, str] = {}  # of definitions, by what refers to them
        self.parts_left = MOST_PARTS
        self._characters_left = MOST_CHARACTERS

    @abstractmethod
    def emit(self, resolved: Resolved) -> Converted:
        """The converted schema of ``resolved``, with the hints of its place in its description."""

    @abstractmethod
    def any_value(self, at: Location) -> Converted:
        """A schema for any value."""

    def arguments(self) -> Converted:
        """The converted schema of a tool's arguments: an object without alternatives at the top.

        Raises :class:`UnusableSchemaError`, and :class:`InexpressibleSchemaError` in strict mode.
        """
        resolved = self.resolve(self.root, Location())
        kinds = types_of(resolved.node)
        if kinds is not None and "object" not in kinds:
            named = enumeration(kinds, "or")
            raise UnusableSchemaError(f"its input schema is of type {named}, not object")
        self.drop_all(resolved)
        # Its title is the name of some class or function; the tool has its own.
        node = {name: each for name, each in resolved.node.items() if name != "title"}
        node = self._without_alternatives(node | {"type": "object"}, resolved.at)
        if len(node.get("properties", ())) > self.parts_left:
            raise UnusableSchemaError(f"its input schema has more than {MOST_PARTS:,} parts")
        schema, restoration = self.emit(replace(resolved, node=node))
        definitions: Schema = {}
        while len(definitions) < len(self._names):
            pointer, name = list(self._names.items())[len(definitions)]
            at = Location(pointer[1:], 1, frozenset((pointer,)))
            definitions[name], self.definitions[name] = self.convert(self.target(pointer, at), at)
        if definitions:
            schema["$defs"] = definitions
        return schema, restoration

    def convert(self, raw: object, at: Location) -> Converted:
        """The converted schema of ``raw``, and what undoes the conversion in values."""
        if raw is True:
            return self.any_value(at)
        if not isinstance(raw, Mapping):
            self.note(
                at.path,
                "no value is allowed here, which cannot be said; it is shown as any value"
                if raw is False
                else "this is no schema; it was read as one that allows any value",
            )
            return self.any_value(at)
        if at.depth > self.dialect.depth:
            return self._cut_off(at, f"it is nested more than {self.dialect.depth} levels deep")
        if not self.take_parts(1):
            return self._cut_off(at, f"the schema has more than {MOST_PARTS:,} parts")
        resolved = self.resolve(raw, at)
        if resolved.recursive is not None:
            return self._reference(resolved.recursive)
        self.drop_all(resolved)
        return self.emit(resolved)

    def _cut_off(self, at: Location, why: str) -> Converted:
        if self.dialect.strict:
            raise InexpressibleSchemaError(why)
        self.note(at.path, f"{why}; what is below was cut to any value")
        return self.any_value(at)

    def resolve(self, raw: Mapping[str, Any], at: Location) -> Resolved:
        """``raw`` with its references followed and ``allOf`` joined into it."""
        whole: Schema = {}
        rest: list[Schema] = []
        followed: set[str] = set()
        waiting = [self.read(raw, at)]
        while waiting:
            part = waiting.pop(0)
            if not self.take_parts(len(part.get("properties", ())) // 16):
                self.note(at.path, "the schema is too large; parts of it were left out")
                break
            reference, together = part.pop("$ref", None), part.pop("allOf", [])
            whole, left, weaker = merged(whole, part)
            if left:
                rest.append(left)
            if weaker:
                self.note(
                    f"{at.path}/allOf",
                    "parts that forbid further members were joined; members of all are allowed",
                )
            following: list[object] = []
            if reference in at.active:
                alone = not (waiting or together or rest or whole.keys() - ANNOTATIONS)
                if alone and self.dialect.refs:
                    return Resolved(whole, at, recursive=reference)
                self.note(at.path, f"{reference} refers to itself; it was cut here")
                if alone:
                    name = reference.rpartition("/")[2].lstrip("#") or "of the whole"
                    whole.setdefault("description", f"another {name[:80]}")
            elif reference is not None and reference not in followed:
                followed.add(reference)
                following.append(self.target(reference, at))
            following.extend(together)
            read = [
                self.read(each, at) for each in following[: self.parts_left + 1] if each is not True
            ]
            waiting = read + waiting
        return Resolved(whole, replace(at, active=at.active | followed), tuple(rest))

    def read(self, raw: object, at: Location) -> Schema:
        """The known keywords of ``raw``, and notes on those with a wrong value."""
        if not self.take_parts(1):
            self.note(at.path, "the schema is too large; parts of it were left out")
            return {}
        if not isinstance(raw, Mapping):
            why = "it allows nothing" if raw is False else "it is no schema"
            self.note(at.path, f"a part was left out, because {why}")
            return {}
        node, wrong = normalized(raw)
        for name in wrong:
            self.note(f"{at.path}/{name}", f"{name} has a value that says nothing here")
        description = node.get("description", "")
        if len(description) > LONGEST_DESCRIPTION:
            node["description"] = description[: LONGEST_DESCRIPTION - 1] + "…"
            self.note(f"{at.path}/description", "it was shortened")
        return node

    def target(self, reference: str, at: Location) -> object:
        """What ``reference`` points to in the tool's own schema; ``True`` where that is nothing."""
        found = self.find(reference)
        if found is None:
            self.note(at.path, f"{reference[:200]} is not in this schema, and was left out")
            return True
        return found

    def find(self, reference: str) -> object:
        """The same, but ``None`` where there is nothing."""
        found: object = self.root
        steps = reference[1:].split("/")
        if not reference.startswith("#") or steps[0] or len(steps) > _LONGEST_POINTER:
            return None
        for step in steps[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping):
                found = found.get(name)
            elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                return None
        return found

    def _reference(self, pointer: str) -> Converted:
        if pointer not in self._names:
            last = pointer.split("/")[-1][:40]
            name = "".join(each if each.isalnum() else "_" for each in last).strip("_")
            name = name or "arguments"
            taken = self._names.values()
            self._names[pointer] = f"{name}_{len(taken)}" if name in taken else name
        name = self._names[pointer]
        return {"$ref": f"#/$defs/{name}"}, Restoration(reference=name)

    def _without_alternatives(self, node: Schema, top: Location) -> Schema:
        """``node`` without what no API takes at the top level."""
        for keyword in ("enum", "const", "not"):
            if keyword in node:
                self.drop(top, keyword, node.pop(keyword))
        for keyword in ("anyOf", "oneOf"):
            alternatives = node.pop(keyword, [])
            if len(alternatives) > _MOST_ALTERNATIVES:
                self.drop(top, keyword, alternatives)
                continue
            objects = [
                self.resolve({} if each is True else each, Location().to(keyword, number)).node
                for number, each in enumerate(alternatives)
                if each is True or isinstance(each, Mapping)
            ]
            objects = [each for each in objects if "object" in (types_of(each) or ("object",))]
            if objects:
                self._join(node, keyword, objects, top)
            elif alternatives:
                problem = "none of the alternatives is an object: no value is valid"
                self.note(f"/{keyword}", problem)
        return node

    def _join(self, node: Schema, keyword: str, objects: list[Schema], top: Location) -> None:
        """Joins alternatives that are objects into ``node``, which gets the members of all."""
        found: dict[str, list[Any]] = {}
        for each in objects:
            if not self.take_parts(len(each.get("properties", ()))):
                raise UnusableSchemaError(f"its input schema has more than {MOST_PARTS:,} parts")
            for name, schema in each.get("properties", {}).items():
                if not includes(found.setdefault(name, []), schema):
                    found[name].append(schema)
        members: Schema = dict(node.get("properties", {}))
        for name, schemas in found.items():
            schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
            members[name] = {"allOf": [members[name], schema]} if name in members else schema
        always = list(node.get("required", ()))
        required = [list(each.get("required", ())) for each in objects]
        common = [name for name in required[0] if all(name in each for each in required)]
        groups = [
            enumeration(rest)
            for each in required
            if (rest := [name for name in each if name not in always and name not in common])
        ]
        if len(groups) > 1:
            count = "exactly" if keyword == "oneOf" else "at least"
            hint = f"give {count} one of: {' | '.join(dict.fromkeys(groups))}"
            if len(hint) <= 400:
                top.hints.append(hint)
        if members:
            node["properties"] = members
        if always or common:
            node["required"] = list(dict.fromkeys((*always, *common)))
        if all(map(_is_closed, objects)):
            node.setdefault("additionalProperties", False)
        self.note(
            f"/{keyword}",
            "alternatives are not allowed at the top level; they were joined into one object",
            # Where one alternative does not name a member, it allows any value for it.
            narrows=not all(
                name in each.get("properties", ()) or _is_closed(each)
                for name in found
                for each in objects
            ),
        )

    def const_as_enum(self, node: Schema, at: Location) -> Schema:
        """``node`` with its ``const`` as an ``enum`` of one value."""
        if "const" not in node:
            return node
        value = node["const"]
        if not includes(node.get("enum", [value]), value):
            self.note(f"{at.path}/enum", "it asks for one value and forbids it")
        return {name: each for name, each in node.items() if name != "const"} | {"enum": [value]}

    def rename_members(self, names: Sequence[str], at: Location) -> dict[str, str]:
        """The names that a model sees of members whose own the dialect does not take."""
        allowed = self.dialect.members
        if allowed is None or (at.depth and not self.dialect.every_level):
            return {}
        changed = member_names(names, allowed)
        for name, new in changed.items():
            message = f"the API does not accept this name; the model sees {new}, which is put back"
            self.note(at.to("properties", name).path, message)
        return changed

    def note_missing_members(self, at: Location) -> None:
        """Notes that the member at ``at`` and the following are not in the output."""
        if self.dialect.strict:
            raise InexpressibleSchemaError("so many parts")
        message = "this member and those that follow were left out: the schema is too large"
        self.note(at.path, message, narrows=True)

    def drop(self, at: Location, keyword: str, value: object) -> None:
        """Drops a keyword with a note, and says it in the description where that is short."""
        hint = phrase(keyword, value)
        if hint is not None and self.take_characters(hint):
            at.hints.append(hint)
            how = "it is said in the description instead"
        else:
            how = "it was left out"
        self.note(f"{at.path}/{keyword}", f"{keyword} cannot be said in this format; {how}")

    def drop_all(self, resolved: Resolved) -> None:
        """The same for what could not be joined."""
        for part in resolved.rest:
            for keyword, value in part.items():
                self.drop(resolved.at, keyword, value)

    def annotate(self, schema: Schema, node: Schema, hints: Sequence[str]) -> Schema:
        """``schema`` with the title and description of ``node``, and ``hints``."""
        title, description = node.get("title"), node.get("description")
        if "title" not in self.dialect.keywords:
            title, description = None, description or title
        texts = {"title": title, "description": with_hints(description, hints)}
        schema.update(
            {name: text for name, text in texts.items() if text and self.take_characters(text)}
        )
        return schema

    def note(self, path: str, message: str, *, narrows: bool = False) -> None:
        """Adds a note once, and no more of them than a reader would read."""
        self.losses += 1
        note = Note(self.tool, path, message, narrows)
        if len(self.notes) < LONGEST and (not self.notes or self.notes[-1] != note):
            self.notes.append(note)

    def take_parts(self, count: int) -> bool:
        """Whether that many more parts may be looked at."""
        enough = count <= self.parts_left
        self.parts_left = self.parts_left - count if enough else 0
        return enough

    def take_characters(self, value: object) -> bool:
        """Whether ``value`` is JSON that still fits into the schema."""
        size = json_size(value, self._characters_left)
        if size is not None:
            self._characters_left -= size
        return size is not None


def _is_closed(node: Schema) -> bool:
    """Whether it allows only the members that it names."""
    return node.get("additionalProperties") is False and "patternProperties" not in node


_PHRASES = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} members",
    "maxProperties": "at most {} members",
    "pattern": "matches the regular expression {}",
    "default": "{} by default",
    "const": "always {}",
    "format": "format {}",
    "contentEncoding": "encoded as {}",
    "contentMediaType": "of the media type {}",
}


def phrase(keyword: str, value: Any) -> str | None:
    """What ``keyword: value`` asks for, in words that a model reads in a description; ``None``
    where that is too long."""
    if keyword == "uniqueItems":
        return "no item twice" if value else None
    if json_size(value, _LONGEST_PHRASE) is None:
        return None
    text = orjson.dumps(value).decode()
    if '"$ref"' in text:
        return None
    if keyword == "enum":
        return f"one of {text[1:-1].replace(',', ', ')}"
    return _PHRASES.get(keyword, keyword + ": {}").format(value if keyword in TEXTS else text)


def with_hints(description: str | None, hints: Sequence[str]) -> str | None:
    """``description`` with ``hints`` behind it."""
    text = "; ".join(dict.fromkeys(hints))
    if not text:
        return description or None
    return f"{description} ({text})" if description else text


def enumeration(names: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"
