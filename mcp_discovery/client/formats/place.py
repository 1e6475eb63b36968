"""Where in a schema one is, what is found there, and why it may be no use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_discovery.client.formats.shape import Shape
from mcp_discovery.errors import DiscoveryError

#: A schema of one tool may come to so many parts and characters. What is larger fills a model's
#: context, and references can make little text expand without end.
MOST_PARTS = 5_000
MOST_CHARACTERS = 400_000

Schema = dict[str, Any]
Cut = tuple[Schema, Shape | None]


class UnusableSchemaError(DiscoveryError):
    """No tool can be made of this schema; says why."""


class InexpressibleSchemaError(DiscoveryError):
    """Strict mode cannot say this; says what."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A note without its tool."""

    path: str
    said: str
    narrows: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a schema: its JSON pointer, how deep, and which references led here."""

    path: str = ""
    depth: int = 0
    active: frozenset[str] = frozenset(("#",))

    def to(self, *steps: object) -> Place:
        """One level down."""
        escaped = (str(step)[:200].replace("~", "~0").replace("/", "~1") for step in steps)
        return Place("/".join((self.path, *escaped)), self.depth + 1, self.active)

    def through(self, references: frozenset[str]) -> Place:
        """The same, after following ``references``."""
        return Place(self.path, self.depth, self.active | references)


@dataclass(frozen=True, slots=True)
class Flat:
    """A schema without ``$ref``: its keywords, where it stands, what could not be joined to it, and
    the reference that leads back to where it came from, where there is one."""

    node: Schema
    place: Place
    rest: tuple[Schema, ...] = ()
    recursive: str | None = None
