"""Reads a Dockerfile: its stages, and each instruction with its words, continuations joined."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_KNOWN = frozenset(
    {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN"}
    | {"STOPSIGNAL", "USER", "WORKDIR"}
)


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``RUN`` and the text behind it."""

    name: str
    text: str

    def exec_form(self) -> list[str]:
        """The words of a JSON array; raises ValueError for anything that a shell would read."""
        words = json.loads(self.text)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{self.name} {self.text} is not in exec form")
        return words

    def pairs(self) -> dict[str, str]:
        """``KEY=VALUE …``, quotes removed."""
        return dict(_pair(word) for word in shlex.split(self.text))

    def options(self) -> tuple[dict[str, str], str]:
        """The leading ``--name=value`` options without their dashes, and what follows them."""
        text, found = self.text, {}
        while match := re.match(r"--(\w[\w-]*)=(\S+)\s+", text):
            found[match[1]] = match[2]
            text = text[match.end() :]
        return found, text


@dataclass
class Stage:
    """One stage: what it starts from, its name, and its instructions but ``FROM``."""

    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """The instructions of one name, in order."""
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction:
        """The one that counts; raises IndexError where there is none."""
        return self.all(name)[-1]


@dataclass(frozen=True)
class Dockerfile:
    """``arguments`` are the defaults that stand before the first stage."""

    arguments: Mapping[str, str]
    stages: list[Stage]


def read(path: Path) -> Dockerfile:
    """Reads ``path``; raises ValueError for an instruction that these tests do not know."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in _instructions(path.read_text()):
        if instruction.name not in _KNOWN:
            raise ValueError(f"{path} has {instruction.name}, which the tests cannot carry out")
        if instruction.name == "FROM":
            base, _, name = instruction.text.partition(" AS ")
            stages.append(Stage(base.strip(), name.strip() or None))
        elif stages:
            stages[-1].instructions.append(instruction)
        else:
            name, _, value = instruction.text.partition("=")
            arguments[name] = value
    return Dockerfile(arguments, stages)


def filled_in(text: str, values: Mapping[str, Any]) -> str:
    """``text`` with each ``${NAME}`` and ``$NAME`` replaced; unset ones become empty."""
    return re.sub(
        r"\$\{(\w+)\}|\$(\w+)", lambda found: str(values.get(found[1] or found[2], "")), text
    )


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        found.append(Instruction(name.upper(), re.sub(r"\s+", " ", rest).strip()))
    return found


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key, value
