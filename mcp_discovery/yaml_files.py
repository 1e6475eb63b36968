"""Strict reading of YAML, with the line of each value.

Scalars keep their text, so that what takes them reads them: `version: 1.10` is no number there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_discovery.errors import InvalidInputError

if TYPE_CHECKING:
    import yaml

#: The largest file in bytes, and the most values in it: aliases can multiply values.
_MAX_BYTES, _MAX_VALUES = 4 * 2**20, 200_000
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?", re.ASCII)
#: The tags of YAML itself; those that name types of a programming language are refused.
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value", "merge")
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as it is written; ``quoted`` says that it is text, whatever it looks like."""

    text: str
    quoted: bool

    def value(self) -> str | int | float | bool | None:
        """What it means by YAML 1.2's core rules: yes, no and on are words."""
        if self.quoted:
            return self.text
        if self.text in ("", "~", "null", "Null", "NULL"):
            return None
        if self.text.lower() in ("true", "false"):
            return self.text.lower() == "true"
        if _INTEGER.fullmatch(self.text):
            return int(self.text)
        return float(self.text) if _NUMBER.fullmatch(self.text) else self.text


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: Sequence[Node]

    def value(self) -> list[Any]:
        """The same as plain values."""
        return [each.value() for each in self.items]


@dataclass(frozen=True, slots=True)
class Table:
    """Keys with values; ``lines`` tells where each key stands."""

    entries: Mapping[str, Node]
    lines: Mapping[str, int]

    def value(self) -> dict[str, Any]:
        """The same as plain values."""
        return {key: each.value() for key, each in self.entries.items()}


Node = Scalar | Items | Table


def node_of(value: Any) -> Node:
    """A JSON value as :func:`parse` gives it; its lines are not known."""
    if isinstance(value, Mapping):
        return Table({key: node_of(each) for key, each in value.items()}, dict.fromkeys(value, 0))
    if isinstance(value, list):
        return Items([node_of(each) for each in value])
    if isinstance(value, bool) or value is None:
        return Scalar(str(value).lower() if value is not None else "null", False)
    return Scalar(str(value), isinstance(value, str))


def read_bytes(file: str) -> bytes:
    """The content of ``file``, ``-`` for standard input; raises :class:`InvalidInputError`."""
    try:
        data = sys.stdin.buffer.read(_MAX_BYTES + 1) if file == "-" else _head(file)
    except OSError as error:
        raise InvalidInputError(f"cannot read {file}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise InvalidInputError(f"{file} is larger than {_MAX_BYTES // 2**20} MiB")
    return data


def _head(file: str) -> bytes:
    with Path(file).open("rb") as opened:
        return opened.read(_MAX_BYTES + 1)


def parse(data: bytes, file: str) -> Node | None:
    """What the YAML (or JSON) in ``data`` says, ``None`` for nothing.

    Raises :class:`InvalidInputError` with file and line for what is no YAML, for a key that stands
    twice, for tags that name types of programs, and for what is too large.
    """
    import yaml

    try:
        documents = list(yaml.compose_all(data, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark is not None else file
        problem = error.problem or error.context or ""
        hint = "; quote a value that ends with a colon" if "mapping values" in problem else ""
        raise InvalidInputError(f"{place}: is not YAML: {problem}{hint}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInputError(
            f"{file}: is not YAML: {' '.join(str(error).split())[:200]}"
        ) from error
    except RecursionError as error:
        raise InvalidInputError(f"{file}: is nested too deeply") from error
    if len(documents) > 1:
        raise InvalidInputError(f"{file}: holds several documents; write one")
    if not documents or documents[0] is None:
        return None
    try:
        return _converted(documents[0], file, iter(range(_MAX_VALUES)))
    except RecursionError as error:
        raise InvalidInputError(f"{file}: is nested too deeply") from error


def _converted(node: yaml.Node, file: str, left: Iterator[int]) -> Node:
    import yaml

    line = node.start_mark.line + 1
    if next(left, None) is None:
        raise InvalidInputError(f"{file}:{line}: holds too much, or aliases that multiply")
    if node.tag not in _TAGS:
        raise InvalidInputError(f"{file}:{line}: has the tag {node.tag}; leave it out")
    if isinstance(node, yaml.MappingNode):
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            at = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidInputError(f"{file}:{at}: a key is a list or a mapping; write a word")
            key = key_node.value
            if key in entries:
                raise InvalidInputError(
                    f"{file}:{at}: {key!r} stands here a second time; the first is in line "
                    f"{lines[key]}"
                )
            entries[key] = _converted(value_node, file, left)
            lines[key] = at
        return Table(entries, lines)
    if isinstance(node, yaml.SequenceNode):
        return Items([_converted(each, file, left) for each in node.value])
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    return Scalar(str(node.value), quoted)
