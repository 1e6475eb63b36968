"""How two capability documents differ: what was added and removed, and what of the rest changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import orjson

from mcp_discovery.document import CapabilityDocument, text_of

#: A piece of a text that is in both (``=``), new (``+``) or gone (``-``).
Segment = tuple[Literal["=", "+", "-"], str]
#: Members whose texts are compared word by word.
_TEXTS = ("title", "description")
_SPACE = re.compile(r"\s+")
#: A word or sign with the space before it: spaces by themselves are alike in any two texts.
_WORDS = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
#: How many characters are shown of what a schema says of a parameter.
_SHOWN = 300
#: How many steps comparing may take for one text and for two documents (about a second, and two),
#: beyond which a text is told as a whole.
_STEPS, _ALL_STEPS = 30_000_000, 60_000_000


@dataclass(frozen=True, slots=True)
class ToolParameter:
    """A parameter of a tool or a prompt. ``type`` is in JSON Schema's words, ``more`` is what its
    schema says besides, as JSON; both are cut off where they are long."""

    type: str
    required: bool
    description: str
    more: str


@dataclass(frozen=True, slots=True)
class ParameterDiff:
    """A parameter that is another now; ``None`` where there is none."""

    name: str
    change: Literal["added", "removed", "changed"]
    before: ToolParameter | None
    after: ToolParameter | None


@dataclass(frozen=True, slots=True)
class ItemDiff:
    """What of a tool, resource, prompt or skill changed: ``texts`` by their member, parameters, and
    the names of ``other`` members."""

    name: str
    texts: Mapping[str, Sequence[Segment]] = field(default_factory=dict)
    parameters: Sequence[ParameterDiff] = ()
    other: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PartDiff:
    """What of one part changed; ``same`` is how many did not."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[ItemDiff]
    same: int


@dataclass(frozen=True, slots=True)
class DocumentDiff:
    """How the document ``newer`` differs from ``older``, which are digests; ``parts`` by the
    members of a document, and ``card`` the members of an agent's card that changed."""

    older: str
    newer: str
    parts: Mapping[str, PartDiff]
    card: Sequence[str] = ()


def diff(older: CapabilityDocument, newer: CapabilityDocument) -> DocumentDiff:
    """How ``newer`` differs from ``older``; takes up to some seconds of processor time."""
    words = _WordDiff()
    before, after = older.lists(), newer.lists()
    parts = {part: _part(before[part], after[part], words) for part in before}
    card = _members(older.card or {}, newer.card or {})
    return DocumentDiff(older.digest, newer.digest, parts, card)


def _part(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]], words: _WordDiff
) -> PartDiff:
    old, new = _named(before), _named(after)
    both = [name for name in new if name in old]
    found = (_item(name, old[name], new[name], words) for name in both if old[name] != new[name])
    # What is left differs in an order that says nothing.
    changed = [each for each in found if each.texts or each.parameters or each.other]
    return PartDiff(
        [name for name in new if name not in old],
        [name for name in old if name not in new],
        changed,
        len(both) - len(changed),
    )


def _named(items: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """``items`` by their names; a further one of a name has its number behind it."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in items:
        name = text_of(each, "name") or text_of(each, "uri") or ""
        number, key = 1, name
        while key in found:
            number += 1
            key = f"{name} ({number})"
        found[key] = each
    return found


def _item(name: str, old: Mapping[str, Any], new: Mapping[str, Any], words: _WordDiff) -> ItemDiff:
    texts = {
        member: words.of(was, now)
        for member in _TEXTS
        if (was := text_of(old, member) or "") != (now := text_of(new, member) or "")
    }
    other = [each for each in _members(_rest(old), _rest(new)) if each not in texts]
    return ItemDiff(name, texts, _parameters(old, new), other)


def _rest(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """``item`` without what is told parameter by parameter."""
    told = _parameters_of(item)
    schema, rest = item.get("inputSchema"), {**item}
    if isinstance(schema, Mapping):
        rest["inputSchema"] = {
            name: each
            for name, each in schema.items()
            if not (name == "properties" and isinstance(each, Mapping))
            and not (name == "required" and isinstance(each, list) and {*map(str, each)} <= {*told})
        }
    elif isinstance(given := item.get("arguments"), list) and len(given) == len(told):
        del rest["arguments"]
    return rest


def _parameters(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[ParameterDiff]:
    was, now = _parameters_of(old), _parameters_of(new)
    found: list[ParameterDiff] = []
    for name in {**was, **now}:
        before, after = was.get(name), now.get(name)
        if before == after:
            continue
        change: Literal["added", "removed", "changed"] = "changed"
        if before is None or after is None:
            change = "added" if before is None else "removed"
        shown = [None if each is None else _parameter(*each) for each in (before, after)]
        found.append(ParameterDiff(name, change, shown[0], shown[1]))
    return found


def _parameters_of(item: Mapping[str, Any]) -> dict[str, tuple[Any, bool]]:
    """What a tool's schema says of each, or a prompt of its arguments, and whether it must be
    given."""
    arguments, schema = item.get("arguments"), item.get("inputSchema")
    if schema is None and isinstance(arguments, list):
        named = (each for each in arguments if isinstance(each, Mapping))
        return {str(each.get("name")): (each, each.get("required") is True) for each in named}
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(schema, Mapping) or not isinstance(properties, Mapping):
        return {}
    required = schema.get("required")
    names = (
        {each for each in required if isinstance(each, str)} if isinstance(required, list) else ()
    )
    return {name: (each, name in names) for name, each in properties.items()}


def _parameter(schema: Any, required: bool) -> ToolParameter:
    if not isinstance(schema, Mapping):
        return ToolParameter("", required, "", "")
    told = ("type", "enum", "items", "anyOf", "oneOf", "description", "name", "required")
    rest = {name: each for name, each in schema.items() if name not in told}
    more = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode() if rest else ""
    description = text_of(schema, "description") or ""
    return ToolParameter(_type(schema)[:_SHOWN], required, description, more[:_SHOWN])


def _type(schema: Any, depth: int = 0) -> str:
    """The type that a JSON Schema says, in a few words."""
    if not isinstance(schema, Mapping) or depth > 3:
        return ""
    if isinstance(choices := schema.get("enum"), list):
        return "one of " + ", ".join(orjson.dumps(each).decode() for each in choices[:50])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind[:10]))
    if kind == "array":
        return f"array of {_type(schema.get('items'), depth + 1) or 'anything'}"
    for several in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(several), list):
            return " or ".join(filter(None, (_type(each, depth + 1) for each in options[:10])))
    return str(kind or schema.get("$ref") or "")


def _members(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The names of members that differ."""
    return [name for name in {**old, **new} if old.get(name, ...) != new.get(name, ...)]


class _WordDiff:
    """Compares texts word by word, as long as that does not take too long."""

    def __init__(self) -> None:
        self._left = _ALL_STEPS

    def of(self, before: str, after: str) -> list[Segment]:
        """The pieces of both, in order."""
        old, new = _WORDS.findall(before), _WORDS.findall(after)
        begin = _shared(old, new)
        end = _shared(old[begin:][::-1], new[begin:][::-1])
        found: list[Segment] = [("=", "".join(old[:begin]))]
        found += self._compared(old[begin : len(old) - end], new[begin : len(new) - end])
        found.append(("=", "".join(old[len(old) - end :])))
        return _joined(found)

    def _compared(self, old: Sequence[str], new: Sequence[str]) -> Iterator[Segment]:
        # Each search for the longest match looks at all pairs of equal words that are left, and
        # there are at most two searches a word.
        counts = Counter(old), Counter(new)
        pairs = sum(number * counts[1][word] for word, number in counts[0].items())
        steps = (pairs + len(old)) * 2 * min(len(old), len(new))
        if steps > min(_STEPS, self._left):
            yield "-", "".join(old)
            yield "+", "".join(new)
            return
        self._left -= steps
        matcher = SequenceMatcher(None, old, new, autojunk=False)
        for kind, i, j, k, m in matcher.get_opcodes():
            if kind == "equal":
                yield "=", "".join(old[i:j])
                continue
            gone, came = "".join(old[i:j]), "".join(new[k:m])
            space = _SPACE.match(gone)
            if space is not None and came.startswith(space[0]):
                yield "=", space[0]
                gone, came = gone[space.end() :], came[space.end() :]
            yield "-", gone
            yield "+", came


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """``segments`` without empty ones, and those of one kind that follow each other as one."""
    there = (each for each in segments if each[1])
    return [
        (kind, "".join(text for _, text in group))
        for kind, group in groupby(there, key=itemgetter(0))
    ]
