"""A tool's arguments: its JSON Schema in words, and values as typed: ``key=value``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcp_discovery.errors import InvalidInputError
from mcp_discovery.nearest import all_nearest, nearest

Schema = Mapping[str, Any]
_HOPS = 20
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
#: The order in which a text is read as one of several types: a string is whatever is left.
_ORDER = ("null", "boolean", "integer", "number", "array", "object", None, "string")


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


def from_json(given: str) -> dict[str, Any]:
    """The object in ``given``: JSON itself, ``@FILE``, or ``-`` for standard input.

    Raises :class:`InvalidInputError`.
    """
    name = "--json-args"
    try:
        if given == "-":
            text = sys.stdin.buffer.read()
        elif given.startswith("@"):
            name = given[1:]
            text = Path(name).read_bytes()
        else:
            text = given.encode()
        found = json.loads(text)
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {name}: {error.strerror}; give a file of JSON"
        ) from error
    except ValueError as error:
        raise InvalidInputError(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f'{name} is no JSON object; write {{"query": "kettle"}}')
    return found


def read(pairs: Iterable[str], given: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The arguments: ``given`` with the ``key=value`` of ``pairs`` put over it.

    Each value is read as its type in ``schema``; ``a.b=1`` is a member of an object; a key that is
    given again adds to an array. Raises :class:`InvalidInputError` for what is not in ``schema``,
    does not fit it, or is missing.
    """
    arguments = dict(given)
    typed: set[str] = set()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InvalidInputError(f"{pair!r} is no argument; write key=value, such as limit=5")
        path, wanted = _found(key, schema)
        _put(arguments, path, _value(key, text, wanted, schema), again=key in typed, key=key)
        typed.add(key)
    if missing := [name for name in required(schema) if name not in arguments]:
        kinds = properties(schema, schema)
        listed = ", ".join(f"{name} ({kind_of(kinds.get(name), schema)})" for name in missing)
        are = "is" if len(missing) == 1 else "are"
        raise InvalidInputError(f"{listed} {are} missing; write {missing[0]}=…")
    return arguments


def _found(key: str, schema: Schema) -> tuple[list[str], Schema]:
    """The members that ``key`` goes through, and the schema of the last."""
    path: list[str] = []
    here: Schema = schema
    rest = key
    while True:
        named = properties(here, schema)
        if rest in named:
            return [*path, rest], resolved(named[rest], schema)
        head, dot, tail = rest.partition(".")
        if dot and tail and head in named:
            path, here, rest = [*path, head], resolved(named[head], schema), tail
            continue
        open_to = resolved(here, schema).get("additionalProperties")
        if isinstance(open_to, Mapping) or open_to is True or (not named and open_to is None):
            return [*path, *rest.split(".")], open_to if isinstance(open_to, Mapping) else {}
        near = all_nearest(rest, named, most=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        known = f"it takes {', '.join(named)}" if named else "it takes none"
        raise InvalidInputError(f"there is no argument {key!r}; {hint}{known}")


def _put(
    arguments: dict[str, Any], path: Sequence[str], value: Any, *, again: bool, key: str
) -> None:
    here = arguments
    for step in path[:-1]:
        inner = here.get(step)
        here[step] = dict(inner) if isinstance(inner, Mapping) else {}
        here = here[step]
    last = path[-1]
    if again:
        if not isinstance(here.get(last), list) or not isinstance(value, list):
            raise InvalidInputError(f"{key} is given twice, and is no list")
        value = [*here[last], *value]
    here[last] = value


def _value(key: str, text: str, wanted: Schema, root: Schema) -> Any:
    each = sorted(alternatives(wanted, root), key=lambda one: _ORDER.index(_type(one)))
    for one in each:
        try:
            value = _read(key, text, one, root)
        except ValueError:
            continue
        choices = one.get("enum")
        if not isinstance(choices, list) or value in choices:
            return value
    choices = [shown(each) for one in each for each in one.get("enum") or ()]
    near = nearest(text, choices)
    hint = f"; did you mean {near}?" if near else ""
    raise InvalidInputError(f"{key}={text[:80]!r} is not {kind_of(wanted, root)}{hint}")


def _type(schema: Schema) -> str | None:
    kind = schema.get("type")
    if kind is None and "enum" in schema:
        return None
    return kind if kind in _ORDER else None


def _read(key: str, text: str, schema: Schema, root: Schema) -> Any:
    """``text`` as the one type of ``schema``; raises :class:`ValueError` where it is none."""
    match _type(schema):
        case "string":
            return text
        case "boolean":
            return text.lower() == "true" if text.lower() in ("true", "false") else _reject()
        case "null":
            return None if text == "null" else _reject()
        case "integer":
            return int(text) if re.fullmatch(r"-?\d+", text, re.ASCII) else _reject()
        case "number":
            if not _NUMBER.fullmatch(text):
                _reject()
            return int(text) if re.fullmatch(r"-?\d+", text, re.ASCII) else float(text)
        case "array":
            if text.startswith("["):
                return json.loads(text)
            return [_value(key, text, resolved(schema.get("items") or {}, root), root)]
        case "object":
            found = json.loads(text)
            return found if isinstance(found, dict) else _reject()
        case _:
            try:
                found = json.loads(text)
            except ValueError:
                return text
            # Where only strings are allowed, a number is the string that it is written as.
            choices = schema.get("enum")
            return text if isinstance(choices, list) and text in choices else found


def _reject() -> Any:
    raise ValueError
