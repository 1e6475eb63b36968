"""What every way of cutting a schema shares: budget, references, notes, the top level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from mcp_discovery.client.formats.dialects import ANNOTATIONS, Dialect
from mcp_discovery.client.formats.merge import merged
from mcp_discovery.client.formats.modern import LONGEST, kinds, modern
from mcp_discovery.client.formats.nulls import takes_null
from mcp_discovery.client.formats.place import (
    MOST_CHARACTERS,
    MOST_PARTS,
    Cut,
    Flat,
    InexpressibleSchemaError,
    Place,
    Remark,
    Schema,
    UnusableSchemaError,
)
from mcp_discovery.client.formats.shape import Shape
from mcp_discovery.client.formats.top import one_object
from mcp_discovery.client.formats.values import weight
from mcp_discovery.client.formats.words import described, listed, words

LONGEST_DESCRIPTION = 8_192
_LONGEST_POINTER = 100


class Cutter(ABC):
    """Cuts the schema of one tool's arguments to a dialect. Never changes what it is given."""

    def __init__(self, root: Mapping[str, Any], dialect: Dialect) -> None:
        self.root = root
        self.dialect = dialect
        self.remarks: list[Remark] = []
        #: How often :meth:`remark` was called; ``remarks`` holds each once, and not too many.
        self.losses = 0
        self.shapes: dict[str, Shape | None] = {}
        self._parts = MOST_PARTS
        self._characters = MOST_CHARACTERS
        self._definitions: dict[str, str] = {}

    @abstractmethod
    def emit(self, flat: Flat, hints: list[str]) -> Cut:
        """The cut schema of ``flat``, with ``hints`` in its description."""

    @abstractmethod
    def anything(self, place: Place) -> Cut:
        """A schema for any value."""

    def arguments(self) -> Cut:
        """The cut schema of a tool's arguments: an object without alternatives at the top.

        Raises :class:`UnusableSchemaError`, and :class:`InexpressibleSchemaError` in strict mode.
        """
        start = Place()
        flat = self.flatten(self.root, start)
        named = kinds(flat.node)
        if named is not None and "object" not in named:
            raise UnusableSchemaError(
                f"its input schema is of type {listed(named, 'or')}, not object"
            )
        hints = self.leave_all(start, flat.rest)
        # Its title is the name of some class or function; the tool has its own.
        node = {name: each for name, each in flat.node.items() if name != "title"}
        node = one_object(self, node | {"type": "object"}, start, hints)
        if len(node.get("properties", ())) > self._parts:
            raise UnusableSchemaError(f"its input schema has more than {MOST_PARTS:,} parts")
        schema, shape = self.emit(Flat(node, flat.place), hints)
        definitions: Schema = {}
        while len(definitions) < len(self._definitions):
            pointer, name = list(self._definitions.items())[len(definitions)]
            origin = Place(pointer[1:], 1, frozenset((pointer,)))
            definitions[name], self.shapes[name] = self.cut(self.resolve(pointer, origin), origin)
        if definitions:
            schema["$defs"] = definitions
        return schema, shape

    def cut(self, raw: object, place: Place) -> Cut:
        """The cut schema of ``raw``, and what undoes the cut in values."""
        if raw is True:
            return self.anything(place)
        if not isinstance(raw, Mapping):
            self.remark(
                place.path,
                "no value is allowed here, which cannot be said; it is shown as any value"
                if raw is False
                else "this is no schema; it was read as one that allows any value",
            )
            return self.anything(place)
        if place.depth > self.dialect.depth:
            return self._too_much(place, f"it is nested more than {self.dialect.depth} levels deep")
        if not self.spend(1):
            return self._too_much(place, f"the schema has more than {MOST_PARTS:,} parts")
        flat = self.flatten(raw, place)
        if flat.recursive is not None:
            return self._reference(flat)
        return self.emit(flat, self.leave_all(place, flat.rest))

    def _too_much(self, place: Place, why: str) -> Cut:
        if self.dialect.strict:
            raise InexpressibleSchemaError(why)
        self.remark(place.path, f"{why}; what is below was cut to any value")
        return self.anything(place)

    def flatten(self, raw: Mapping[str, Any], place: Place) -> Flat:
        """``raw`` with its references followed and ``allOf`` joined into it."""
        whole: Schema = {}
        rest: list[Schema] = []
        followed: set[str] = set()
        waiting = [self.read(raw, place)]
        while waiting:
            part = waiting.pop(0)
            if not self.spend(len(part.get("properties", ())) // 16):
                self.remark(place.path, "the schema is too large; parts of it were left out")
                break
            reference, together = part.pop("$ref", None), part.pop("allOf", [])
            whole, left, weaker = merged(whole, part)
            if left:
                rest.append(left)
            if weaker:
                self.remark(
                    f"{place.path}/allOf",
                    "parts that forbid further members were joined; members of all are allowed",
                )
            following: list[object] = []
            if reference in place.active:
                alone = not (waiting or together or rest or whole.keys() - ANNOTATIONS)
                if alone and self.dialect.refs:
                    return Flat(whole, place, recursive=reference)
                self.remark(place.path, f"{reference} refers to itself; it was cut here")
                if alone:
                    name = reference.rpartition("/")[2].lstrip("#") or "of the whole"
                    whole.setdefault("description", f"another {name[:80]}")
            elif reference is not None and reference not in followed:
                followed.add(reference)
                following.append(self.resolve(reference, place))
            following.extend(together)
            read = [
                self.read(each, place) for each in following[: self._parts + 1] if each is not True
            ]
            waiting = read + waiting
        return Flat(whole, place.through(frozenset(followed)), tuple(rest))

    def read(self, raw: object, place: Place) -> Schema:
        """The known keywords of ``raw``, and remarks on those that are wrong."""
        if not self.spend(1):
            self.remark(place.path, "the schema is too large; parts of it were left out")
            return {}
        if not isinstance(raw, Mapping):
            said = "it allows nothing" if raw is False else "it is no schema"
            self.remark(place.path, f"a part was left out, because {said}")
            return {}
        node, wrong = modern(raw)
        for name in wrong:
            self.remark(f"{place.path}/{name}", f"{name} has a value that says nothing here")
        description = node.get("description", "")
        if len(description) > LONGEST_DESCRIPTION:
            node["description"] = description[: LONGEST_DESCRIPTION - 1] + "…"
            self.remark(f"{place.path}/description", "it was shortened")
        return node

    def resolve(self, reference: str, place: Place) -> object:
        """What ``reference`` points to in the tool's own schema; ``True`` where that is nothing."""
        found = self._found(reference)
        if found is None:
            self.remark(place.path, f"{reference[:200]} is not in this schema, and was left out")
            return True
        return found

    def _found(self, reference: str) -> object:
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

    def _reference(self, flat: Flat) -> Cut:
        pointer = flat.recursive or "#"
        if pointer not in self._definitions:
            wish = "".join(each if each.isalnum() else "_" for each in pointer.split("/")[-1][:40])
            taken = set(self._definitions.values())
            name = wish.strip("_") or "arguments"
            if name in taken:
                name = f"{name}_{len(taken)}"
            self._definitions[pointer] = name
        name = self._definitions[pointer]
        return {"$ref": f"#/$defs/{name}"}, Shape(reference=name)

    def remark(self, path: str, said: str, *, narrows: bool = False) -> None:
        """Notes it once, and no more than a reader would read."""
        self.losses += 1
        remark = Remark(path, said, narrows)
        if len(self.remarks) < LONGEST and (not self.remarks or self.remarks[-1] != remark):
            self.remarks.append(remark)

    def spend(self, parts: int) -> bool:
        """Whether that many more parts may be looked at."""
        if parts > self._parts:
            self._parts = 0
            return False
        self._parts -= parts
        return True

    def afford(self, value: object) -> bool:
        """Whether ``value`` is JSON that still fits into the schema."""
        cost = weight(value, self._characters)
        if cost is not None:
            self._characters -= cost
        return cost is not None

    def leave(self, place: Place, keyword: str, value: object, hints: list[str]) -> None:
        """Leaves a keyword out, and says it in words where they are short."""
        said = words(keyword, value)
        if said is not None and self.afford(said):
            hints.append(said)
            how = "it is said in the description instead"
        else:
            how = "it was left out"
        self.remark(f"{place.path}/{keyword}", f"{keyword} cannot be said in this format; {how}")

    def leave_all(self, place: Place, rest: Sequence[Schema]) -> list[str]:
        """The same for what could not be joined."""
        hints: list[str] = []
        for part in rest:
            for keyword, value in part.items():
                self.leave(place, keyword, value, hints)
        return hints

    def annotate(self, schema: Schema, node: Schema, hints: Sequence[str]) -> Schema:
        """``schema`` with the title and description of ``node``."""
        title, description = node.get("title"), node.get("description")
        if "title" not in self.dialect.keywords:
            title, description = None, description or title
        told = {"title": title, "description": described(description, hints)}
        schema.update({name: said for name, said in told.items() if said and self.afford(said)})
        return schema

    def takes_null(self, raw: object) -> bool:
        """Whether ``null`` may be valid; in doubt it may."""
        return takes_null(raw, self._found)
